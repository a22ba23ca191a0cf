"""Distance against evaluations: a trajectory by hand, and one of an attack."""

import math
from dataclasses import replace

import pytest
import torch
from problems import LinearSoftmax

from advkit.analysis import EvaluationCurves, evaluation_curves
from advkit.attack import AttackStatus, Trajectory
from advkit.attack.lbfgs import lbfgs
from advkit.report import evaluations

FOUND, MISSED, WRONG = 0, 1, 2  # places of the images


def result(trajectory=True):
    x = torch.full((3, 6), 0.5)
    labels = torch.zeros(3, dtype=torch.int64)
    model = LinearSoftmax.random(3, 6, seed=0).module()
    return lbfgs(model, x, labels, max_evaluations=20, trajectory=trajectory)


def by_hand():
    """One image is found at 4 passes and nearer at 8, one never, one is wrong before."""
    seen = Trajectory(
        image=torch.tensor([FOUND, MISSED, FOUND, FOUND, FOUND, MISSED]),
        propagations=torch.tensor([2, 2, 4, 6, 8, 9]),
        distance=torch.tensor([1.0, 1.0, 5.0, 6.0, 3.0, 2.0], dtype=torch.float64),
        margin=torch.tensor([-1.0, -1.0, 0.5, 0.5, 0.0, -0.1], dtype=torch.float64),
        c=torch.full((6,), torch.nan, dtype=torch.float64),
    )
    status = torch.tensor(
        [AttackStatus.FOUND, AttackStatus.NOT_FOUND, AttackStatus.ALREADY_ADVERSARIAL]
    ).to(result().status)
    return replace(result(), status=status, trajectory=seen)


def test_by_hand():
    found = evaluation_curves({"hand": by_hand()}, [1, 2, 3, 4, 5])
    curve = found.curves[0]
    assert curve.found == pytest.approx((1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3))
    assert math.isnan(curve.mean[0])
    assert curve.mean[1:] == (5, 5, 3, 3)
    assert curve.quartiles[0] == (0, math.inf, math.inf)
    assert curve.quartiles[1] == (0, 5, math.inf)
    assert curve.quartiles[4] == (0, 3, math.inf)
    # By default from the first evaluation to the last: 9 passes are 5 evaluations.
    assert evaluation_curves({"hand": by_hand()}).evaluations == (1, 2, 3, 4, 5)


def test_the_curve_ends_at_the_distances_that_are_returned():
    problem = LinearSoftmax.random(4, 30, seed=1)
    x = torch.rand(40, 30)
    labels = problem.module()(x).argmax(1)
    found = {
        method: lbfgs(
            problem.module(), x, labels, method=method, max_evaluations=60, trajectory=True
        )
        for method in ("augmented", "penalty")
    }
    curves = evaluation_curves(found)
    for curve in curves.curves:
        distance = found[curve.name].distance.double()
        assert curve.found[-1] == 1
        assert curve.mean[-1] == pytest.approx(float(distance.mean()), rel=1e-4)
        means = [each for each in curve.mean if not math.isnan(each)]
        assert means == sorted(means, reverse=True)
        assert list(curve.found) == sorted(curve.found)
    exact = problem.untargeted_distance(x, labels, lower=0.0, upper=1.0).double().mean()
    assert curves.curves[0].mean[-1] == pytest.approx(float(exact), rel=1e-3)


def test_saved_read_back_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = evaluation_curves({"hand": by_hand()})
    found.save(tmp_path / "c.json")
    assert repr(EvaluationCurves.load(tmp_path / "c.json")) == repr(found)  # nan is not itself
    assert [row["evaluations"] for row in found.as_rows()] == [1, 2, 3, 4, 5]
    evaluations({"a": found, "b": found}, tmp_path / "c.png", title="by hand")
    assert (tmp_path / "c.png").stat().st_size > 5000
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(ValueError, match="not a saved EvaluationCurves"):
        EvaluationCurves.load(tmp_path / "c.json")
    with pytest.raises(ValueError, match="panels: expected"):
        evaluations({}, tmp_path / "d.png")


def test_errors():
    with pytest.raises(ValueError, match="results: expected at least one"):
        evaluation_curves({})
    with pytest.raises(ValueError, match="'plain' has no trajectory; run the attack with"):
        evaluation_curves({"plain": result(trajectory=False)})
    for counts in ([], [0, 1], [2, 2]):
        with pytest.raises(ValueError, match="evaluations: expected rising"):
            evaluation_curves({"hand": by_hand()}, counts)
