import json

import numpy as np
import pytest
import torch
from problems import LinearSoftmax

from advkit.training import robustness


def test_against_exact_distances():
    problem = LinearSoftmax.random(3, 20, seed=5)
    x = torch.rand(40, 20)
    model = problem.module()
    labels = model(x).argmax(1)
    labels[:4] = (labels[:4] + 1) % 3  # wrong undistorted
    exact = problem.untargeted_distance(x[4:], labels[4:], lower=0.0, upper=1.0) / np.sqrt(20)
    found = robustness(model, x, labels, radii=(0.05, 0.1))
    assert found.clean_error == 0.1
    assert found.found == 1
    assert found.distortion == pytest.approx(float(exact.mean()), rel=5e-3)
    for radius, error in zip(found.radii, found.robust_errors, strict=True):
        assert error == pytest.approx((4 + int((exact <= radius).sum())) / 40, abs=1 / 40)
    json.dumps(found.to_dict())


def test_nothing_right():
    model = LinearSoftmax.random(3, 20, seed=5).module()
    x = torch.rand(5, 20)
    labels = (model(x).argmax(1) + 1) % 3
    found = robustness(model, x, labels)
    assert found.robust_errors == (1.0, 1.0, 1.0)
    assert np.isnan(found.distortion)
    with pytest.raises(ValueError, match="x: expected at least one image"):
        robustness(model, x[:0], labels[:0])
