"""Statistics of distances by hand."""

import math

import numpy as np
import pytest
import torch

from advkit.analysis import Distances, distances, local_optimality

FOUND = {
    "near": torch.tensor([0.0, 1.0, 2.0, 4.0]),
    "far": torch.tensor([0.0, 2.0, 2.0, torch.inf]),
}


def test_by_hand():
    found = distances(FOUND, radii=5)
    near, far = found.attacks
    assert found.radii == (0, 1, 2, 3, 4)
    assert near.curve == (0.75, 0.5, 0.25, 0.25, 0)
    assert far.curve == (0.75, 0.75, 0.25, 0.25, 0.25)
    assert (near.found, near.changed, far.found, far.changed) == (4, 3, 3, 2)
    assert near.mean == pytest.approx(7 / 3)
    assert far.mean == 2
    assert near.quartiles == (0, 1, 2)
    assert near.optimality == 1
    # Between the accuracy without an attack, 3 / 4 up to 4, and the curve, whose area is the mean
    # of the distances, those above 4 being cut.
    assert far.optimality == pytest.approx((3 - 8 / 4) / (3 - 7 / 4))
    assert far.optimality == pytest.approx(0.8)
    assert near.interval[0] < near.mean < near.interval[1]


def test_the_reference_counts():
    found = distances(FOUND, torch.tensor([0.0, 0.5, 2.0, 4.0]))
    assert found.attacks[0].optimality == pytest.approx((3 - 7 / 4) / (3 - 6.5 / 4))


def area_under_robust_accuracy(distances, end):
    """Integrate the share of images that no perturbation of a length fools, step by step."""
    edges = np.unique([0.0, end, *distances[distances < end]])
    middles = (edges[1:] + edges[:-1]) / 2
    return sum(
        (distances > middle).mean() * width
        for middle, width in zip(middles, np.diff(edges), strict=True)
    )


@pytest.mark.parametrize("failing", [0, 5])
def test_local_optimality_is_attackbenchs_ratio_of_areas(failing):
    def optimality(distances, reference):
        return local_optimality(torch.from_numpy(distances), torch.from_numpy(reference))

    random = np.random.default_rng(failing)
    reference = random.exponential(size=40)
    distances = reference * (1 + random.exponential(size=40))
    distances[:failing] = np.inf
    reference[0] = np.inf if failing else reference[0]  # an image that no attack fools
    end = reference[np.isfinite(reference)].max()
    areas = [end - area_under_robust_accuracy(d, end) for d in (distances, reference)]
    assert optimality(distances, reference) == pytest.approx(areas[0] / areas[1], rel=1e-12)
    assert optimality(reference, reference) == 1
    assert optimality(np.full(40, np.inf), reference) == 0


def test_saved_and_read_back(tmp_path):
    found = distances({**FOUND, "none": torch.full((4,), torch.inf)})
    none = found.attacks[2]
    assert math.isnan(none.mean)
    assert none.quartiles == (math.inf,) * 3
    assert none.optimality == 0
    found.save(tmp_path / "d.json")
    again = Distances.load(tmp_path / "d.json")
    assert again.attacks[:2] == found.attacks[:2]
    assert repr(again) == repr(found)  # nan is not itself
    assert [row["found"] for row in found.as_rows()] == [4, 3, 0]
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(ValueError, match="not a saved Distances"):
        Distances.load(tmp_path / "d.json")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "found and radii"),
        ({"a": torch.tensor([1.0]), "b": torch.tensor([1.0, 2.0])}, "b: expected distances"),
        ({"a": torch.tensor([-1.0])}, "a: expected distances"),
        ({"a": torch.tensor([torch.nan])}, "a: expected distances"),
        ({"a": torch.tensor([torch.inf])}, "found: expected a finite"),
    ],
)
def test_refuses(found, words):
    with pytest.raises(ValueError, match=words):
        distances(found)
