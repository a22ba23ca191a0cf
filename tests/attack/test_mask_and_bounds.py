"""Values that may not change, and boxes of their own for values and images."""

from __future__ import annotations

import pytest
import torch
from problems import LinearSoftmax

from advkit.attack import AttackStatus, lbfgs
from advkit.attack.lbfgs import METHODS

N, B = 40, 5
LINEAR = LinearSoftmax.random(3, N, dtype=torch.float64)
NETWORK = LINEAR.rowwise()
X = 0.2 + 0.6 * torch.rand(B, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = NETWORK(X).argmax(1)
BOX = {"lower": -3.0, "upper": 4.0}
# How near to the optimum; the penalty's unsquared norms have kinks, see test_lbfgs.py.
NEAR = {
    ("penalty", "l2"): 1.2,
    ("penalty", "l1"): 1.5,
    ("penalty", "l2sq"): 1.05,
    ("augmented", "l1"): 1.1,  # see MOST in test_augmented.py
}


def exact(attack, lower, upper):
    norm = attack.keywords["norm"].removesuffix("sq")
    lower, upper = (torch.as_tensor(b).double().expand(B, N) for b in (lower, upper))
    return LINEAR.untargeted_distance(X, LABELS, norm=norm, lower=lower, upper=upper)


def near(attack):
    return NEAR.get((attack.keywords["method"], attack.keywords["norm"]), 1.01)


MASKS = {
    "values": torch.arange(N) % 3 > 0,
    "one-row": (torch.arange(N) % 3 > 0)[None],
    "images": (torch.arange(B)[:, None] + torch.arange(N)) % 3 > 0,
    "few": torch.arange(N) < 4,
}


@pytest.mark.parametrize("name", MASKS)
def test_values_outside_the_mask_keep_their_bits(name, attack, dtype):
    x, mask = X.to(dtype), MASKS[name]
    seen = []

    def watched(v):
        seen.append(v.detach().clone())
        return LinearSoftmax.random(3, N, dtype=dtype).rowwise()(v)

    result = attack(watched, x, LABELS, mask=mask, **BOX, max_evaluations=30)
    assert result.success.float().mean() >= 0.5
    fixed = ~mask.expand(B, N)
    assert torch.equal(result.adversarial[fixed], x[fixed])
    if name != "images":  # every point tried, too
        for points in seen:
            assert torch.isin(points[:, fixed[0]], x[:, fixed[0]]).all()


@pytest.mark.parametrize("name", ["values", "images"])
def test_the_distance_is_that_of_the_free_values_alone(name, attack):
    mask = MASKS[name].expand(B, N)
    result = attack(NETWORK, X, LABELS, mask=mask, **BOX, max_evaluations=80)
    optimum = exact(attack, torch.where(mask, -3.0, X), torch.where(mask, 4.0, X))
    assert optimum.isfinite().all()
    assert result.success.all()
    ratio = result.distance / optimum
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() <= near(attack)


def masked_and_alone(some_attack, **options):
    """Return the attack on some values of an image, and on a network of these values only."""
    mask = MASKS["values"]

    def small(v):
        whole = X[:1].repeat(len(v), 1)
        whole[:, mask] = v
        return NETWORK(whole)

    options |= BOX
    masked = some_attack(NETWORK, X[:1], LABELS[:1], mask=mask, **options)
    return masked, some_attack(small, X[:1, mask], LABELS[:1], **options)


def test_a_mask_is_the_attack_on_the_sub_vector(some_attack):
    masked, alone = masked_and_alone(some_attack, max_evaluations=80)
    assert masked.success.all()
    assert torch.allclose(masked.distance, alone.distance, rtol=max(0.01, near(some_attack) - 1))


def test_a_mask_is_the_same_run_as_on_the_sub_vector(some_attack):
    """Evaluation by evaluation: nothing of the solver sees the values that are fixed."""
    results = masked_and_alone(some_attack, max_evaluations=7, trajectory=True)  # no restart yet
    masked, alone = (result.trajectory for result in results)
    assert masked.distance[1] > 0
    assert torch.allclose(masked.distance, alone.distance, rtol=1e-6)
    assert torch.allclose(masked.margin, alone.margin, rtol=1e-6)


def test_a_mask_of_images_with_axes(some_attack):
    x = X.view(B, 1, 5, 8)
    mask = torch.zeros(5, 8, dtype=torch.bool)
    mask[1:4, 2:7] = True
    result = some_attack(NETWORK, x, LABELS, mask=mask, **BOX, max_evaluations=20)
    assert result.success.any()
    assert torch.equal(result.adversarial[:, :, ~mask], x[:, :, ~mask])


@pytest.mark.parametrize("levels", [None, 64])
def test_without_a_free_value_nothing_is_found(levels, some_attack):
    mask = torch.ones(B, N, dtype=torch.bool)
    mask[[1, 4]] = False
    result = some_attack(NETWORK, X, LABELS, mask=mask, levels=levels, **BOX, max_evaluations=30)
    expected = torch.full((B,), int(AttackStatus.FOUND), dtype=torch.int8)
    expected[[1, 4]] = int(AttackStatus.NOT_FOUND)
    assert torch.equal(result.status, expected)
    assert torch.equal(result.adversarial[[1, 4]], X[[1, 4]])


BOUNDS = {
    "values": (X.amin(0) - 0.05, X.amax(0) + 0.5),
    "images": (X - 0.15, X + 0.3),
    "one-number-each": (X.amin(1, keepdim=True) - 0.1, X.amax(1, keepdim=True)),
    "lower-only": (X - 0.01, 5.0),
    "upper-only": (-5.0, X),
    "some-fixed": (torch.where(X > 0.5, X, X - 0.5), X + 0.5),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_kept_to_the_bit(name, attack, dtype):
    low, high = (b.to(dtype) if isinstance(b, torch.Tensor) else b for b in BOUNDS[name])
    network, x = LinearSoftmax.random(3, N, dtype=dtype).rowwise(), X.to(dtype)
    inside = []

    def watched(v):
        if len(v) == B:  # in the order of the images
            inside.append(bool(((v >= low) & (v <= high)).all()))
        return network(v)

    result = attack(watched, x, LABELS, lower=low, upper=high, max_evaluations=40)
    assert ((result.adversarial >= low) & (result.adversarial <= high)).all()
    assert inside[0]
    assert all(inside[: len(inside) // 2])
    assert result.settings["lower"] == ("tensor" if isinstance(low, torch.Tensor) else low)
    optimum = exact(attack, *BOUNDS[name])
    assert not result.success[optimum.isinf()].any()
    assert optimum.isfinite().any()
    found = optimum.isfinite()
    assert result.success[found].all()
    assert (result.distance[found] / optimum[found]).median() <= max(1.05, near(attack))


def test_tensors_of_one_number_are_that_number(some_attack):
    low, high = torch.zeros(N).double(), torch.ones(B, 1).double()
    boxed = some_attack(NETWORK, X, LABELS, lower=low, upper=high, max_evaluations=30)
    plain = some_attack(NETWORK, X, LABELS, max_evaluations=30)
    assert torch.equal(boxed.adversarial, plain.adversarial)


@pytest.mark.parametrize("tile", [1, 3])
def test_each_image_keeps_its_own_box_in_any_tile(tile, some_attack):
    options = {"lower": X - 0.2, "upper": X + 0.3, "mask": MASKS["images"], "max_evaluations": 30}
    whole = some_attack(NETWORK, X, LABELS, **options)
    tiled = some_attack(NETWORK, X, LABELS, tile=tile, **options)
    assert torch.equal(whole.adversarial, tiled.adversarial)
    assert torch.equal(whole.forwards, tiled.forwards)


@pytest.mark.parametrize("shape", [(N,), (B, N)], ids=str)
def test_a_box_of_one_point(shape, some_attack):
    x = X if shape == (B, N) else X[:1].expand(B, N).contiguous()
    labels = NETWORK(x).argmax(1)
    bound = x.expand(B, N) if shape == (B, N) else x[0]
    result = some_attack(NETWORK, x, labels, lower=bound, upper=bound, max_evaluations=20)
    assert (result.status == AttackStatus.NOT_FOUND).all()
    assert torch.equal(result.adversarial, x)
    assert (result.forwards + result.backwards <= 40).all()


def test_a_box_of_one_point_has_no_levels_and_does_not_crash(some_attack):
    options = {"lower": X, "upper": X, "levels": 4, "max_evaluations": 20}
    result = some_attack(NETWORK, X, LABELS, **options)
    assert (result.status == AttackStatus.NOT_FOUND).all()


@pytest.mark.parametrize("bound", [0.0, torch.zeros(N), torch.zeros(0, N)], ids=["n", "v", "i"])
@pytest.mark.parametrize("levels", [None, 256])
def test_no_images_with_bounds_and_levels(levels, bound, some_attack):
    x, labels = torch.zeros(0, N), torch.zeros(0, dtype=torch.int64)
    mask = torch.ones(N, dtype=torch.bool)
    result = some_attack(NETWORK, x, labels, lower=bound, levels=levels, mask=mask, trajectory=True)
    assert len(result) == 0
    assert len(result.trajectory.image) == 0


@pytest.mark.parametrize("method", METHODS)
def test_bounds_and_masks_are_left_alone(method):
    tensors = {"lower": X - 1, "upper": X + 1, "mask": MASKS["images"].clone()}
    copies = {name: t.clone() for name, t in tensors.items()}
    with torch.inference_mode():
        lbfgs(NETWORK, X, LABELS, method=method, max_evaluations=15, **tensors)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, copies[name])
