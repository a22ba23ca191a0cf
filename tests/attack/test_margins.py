"""Margins by every implementation, against their definition row by row in float64."""

import numpy as np
import pytest
import torch
from tolerances import WELL_CONDITIONED

from advkit.attack.margins import constrain, judge

pytestmark = pytest.mark.usefixtures("fast_implementation")

every_direction = pytest.mark.parametrize("targeted", [False, True], ids=["away", "targeted"])


def defined(z, label, rival, sharpness, targeted, kappa):
    """Return h and dh/dz of one row of float64."""
    others = np.delete(np.arange(len(z)), label)
    rival = others[z[others].argmax()] if rival < 0 else rival
    sign = -1.0 if targeted else 1.0
    slope, other = np.zeros(len(z)), z[rival]
    if sharpness < 0:
        sharpness = -sharpness / max(abs(z[label] - other), 1e-6)
    if sharpness:
        scaled = sharpness * z[others]
        weights = np.exp(scaled - scaled.max())
        other = (np.log(weights.sum()) + scaled.max()) / sharpness
        slope[others] = -sign * weights / weights.sum()
    else:
        slope[rival] = -sign
    slope[label] = sign
    return sign * (z[label] - other) + kappa, slope


@every_direction
@pytest.mark.parametrize("kappa", [0.0, 1.5])
@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("smooth", [False, True], ids=["largest", "smoothed"])
def test_constraint(dtype, classes, smooth, kappa, targeted):
    rows = 63
    logits = 3 * torch.randn(rows, classes, dtype=dtype)
    labels = torch.randint(classes, (rows,))
    rivals = (labels + torch.randint(1, classes, (rows,))) % classes
    rivals[::3] = -1
    sharpness = torch.zeros(rows, dtype=torch.float64)
    sharpness[1::3], sharpness[2::3] = 2.0, -0.5
    made = constrain(
        logits, labels, rivals, sharpness if smooth else None, targeted=targeted, kappa=kappa
    )
    z = logits.double().numpy()
    for b in range(rows):
        s = float(sharpness[b]) if smooth else 0.0
        h, slope = defined(z[b], int(labels[b]), int(rivals[b]), s, targeted, kappa)
        # A rounding of b z is one of the exponential, and b is relative to a rounded difference.
        steep = abs(s) if s >= 0 else 1 / max(abs(h - kappa), 1e-2)
        bound = WELL_CONDITIONED[dtype] * (1 + np.abs(z[b]).max()) * (1 + steep) * 4
        assert abs(float(made.h[b]) - h) <= bound
        assert np.abs(made.dlogits[b].double().numpy() - slope).max() <= bound
    again = judge(logits, labels, targeted=targeted, kappa=kappa)
    for one, other in zip(again, made.judgement, strict=True):
        assert torch.equal(one, other)


@every_direction
@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_judgement(dtype, kappa, targeted):
    # Label 0; by how much the largest other logit is above.
    gaps = torch.tensor([1.0, 0.5, 1e-9, 0.0, -1e-9, -0.5, -1.0], dtype=dtype)
    logits = torch.stack([torch.zeros_like(gaps), gaps, gaps - 3], 1)
    made = judge(logits, torch.zeros(7, dtype=torch.int64), targeted=targeted, kappa=kappa)
    margin = (-gaps if targeted else gaps) - kappa
    assert torch.equal(made.margin, margin)
    assert torch.equal(made.fooled, margin >= 0 if kappa else margin > 0)
    size = logits.abs().amax(1)
    assert torch.equal(made.surely, margin > 64 * torch.finfo(dtype).eps * size)


@every_direction
def test_a_relative_sharpness_stays_finite_where_logits_are_equal(dtype, targeted):
    """-1e-6 is then 1 for each logit, as of the smallest difference that counts."""
    logits = torch.tensor([[1.0, 1.0, 0.0]], dtype=dtype)
    label, any_rival = torch.tensor([0]), torch.tensor([-1])
    sharpness = torch.tensor([-1e-6], dtype=torch.float64)
    made = constrain(logits, label, any_rival, sharpness, targeted=targeted, kappa=0.0)
    h, slope = defined(logits[0].double().numpy(), 0, -1, 1.0, targeted, 0.0)
    assert float(made.h) == pytest.approx(h, rel=8 * torch.finfo(dtype).eps)
    assert made.dlogits[0].tolist() == pytest.approx(slope, rel=8 * torch.finfo(dtype).eps)


@every_direction
def test_nan_and_infinities(targeted):
    inf, nan = torch.inf, torch.nan
    logits = torch.tensor([[0.0, nan, 1.0], [nan, 0.0, 1.0], [0.0, -inf, 1.0], [-inf, 0.0, inf]])
    labels, rivals = torch.zeros(4, dtype=torch.int64), torch.full((4,), -1)
    made = constrain(logits, labels, rivals, None, targeted=targeted, kappa=0.0)
    assert made.h.isnan().tolist() == [True, True, False, False]
    assert made.h[2:].tolist() == ([1.0, inf] if targeted else [-1.0, -inf])
    assert made.judgement.margin.isnan().tolist() == [True, True, False, False]
    for mask in made.judgement[:2]:
        assert mask.tolist() == [False, False, not targeted, not targeted]


def test_rows_do_not_depend_on_the_others(dtype, threads):
    logits, labels = torch.randn(5000, 10, dtype=dtype), torch.randint(10, (5000,))
    rivals = torch.full((5000,), -1)
    sharpness = torch.linspace(-20, 20, 5000, dtype=torch.float64)

    def run(rows):
        some = logits[rows], labels[rows], rivals[rows], sharpness[rows]
        made = constrain(*some, targeted=True, kappa=0.0)
        return made.h, made.dlogits, *made.judgement

    with threads(2):
        every = run(slice(None))
    with threads(1):
        parts = [run(slice(k, k + 7)) for k in range(0, 5000, 7)]
    for one, other in zip(every, map(torch.cat, zip(*parts, strict=True)), strict=True):
        assert torch.equal(one, other)


def test_no_rows():
    none = torch.empty(0, dtype=torch.int64)
    made = constrain(torch.empty(0, 3), none, none, None, targeted=False, kappa=0.0)
    assert made.h.shape == (0,)
    assert made.dlogits.shape == (0, 3)
