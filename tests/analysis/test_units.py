"""Units and directions on features whose answer is known."""

import math

import pytest
import torch

from advkit.analysis import Units, ablation, units
from advkit.analysis.directions import directions


def made(kind):
    """Return 600 images of six classes and features: "units" of one class each, or noise."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(600) % 6
    images = torch.rand(600, 12, generator=generator)
    if kind == "classes":  # unit i is bright for class i; the other six are noise
        images[:, :6] += 5 * torch.nn.functional.one_hot(labels, 6)
    return images, labels


def test_units_of_one_class_each():
    images, labels = made("classes")
    found = units(lambda x: x[:, :6], images, labels, top=10, permutations=200)
    natural = found.of("natural")
    assert natural.purity == (1.0,) * 6
    assert natural.entropy == pytest.approx((0.0,) * 6)
    assert natural.majority == tuple(range(6))
    assert natural.p_value == 1 / 201
    assert natural.purity_interval == (1.0, 1.0)
    for row, chosen in enumerate(natural.top):
        column = images[:, row]
        assert set(chosen) == set(column.topk(10).indices.tolist())
        assert list(chosen) == sorted(chosen, key=lambda place: -column[place])
    # Permuted labels: the largest share in 10 draws from six classes of 100, by simulation 0.343.
    assert natural.null_purity == pytest.approx(0.343, abs=0.01)


def test_noise_means_nothing():
    images, labels = made("noise")
    found = units(lambda x: x, images, labels, count=12, permutations=300, seed=3)
    for each in found.sets:
        assert each.p_value > 0.01
        assert each.mean("purity") == pytest.approx(each.null_purity, abs=0.08)
        low, high = each.entropy_interval
        assert low < each.null_entropy + 0.15
        assert high > each.null_entropy - 0.15
        assert 0 <= sum(p < 0.05 for p in each.p_values) <= 4


def test_a_code_in_another_basis():
    # Classes along the rows of a rotation: the rotated units mean something, single units less.
    images, labels = made("classes")
    turn = directions("rotation", 12, seed=9)
    turned = (images.double() - images.double().mean(0)) @ turn
    found = units(lambda x: x, turned, labels, directions=("natural",))
    back = units(lambda x: x @ turn.mT, turned, labels, directions=("natural",))
    assert sum(back.of("natural").purity[:6]) == 6
    assert found.of("natural").mean("purity") < 0.95


def test_rotations_are_orthogonal_and_random_ones_unit():
    q = directions("rotation", 30, seed=1)
    torch.testing.assert_close(q @ q.mT, torch.eye(30, dtype=torch.float64))
    v = directions("random", 30, 50, seed=1)
    torch.testing.assert_close(v.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert not torch.equal(q, directions("rotation", 30, seed=2))
    # Uniform: over many draws every entry has mean 0 and variance 1 / n.
    many = torch.stack([directions("rotation", 4, seed=seed) for seed in range(500)])
    assert many.mean(0).abs().max() < 5 * math.sqrt(1 / 4 / 500)
    assert (many.square().mean(0) - 0.25).abs().max() < 0.06


def test_dead_units_are_left_out():
    images, labels = made("noise")
    found = units(lambda x: x * (torch.arange(12) > 2), images, labels, permutations=10)
    assert found.of("natural").dead == 3
    assert found.of("natural").places == tuple(range(3, 12))
    assert found.of("random").dead == 0


def test_ablation_of_known_features():
    # Two units carry two classes each of four; the other six carry nothing.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    signs = torch.stack([labels % 2, labels // 2], 1) * 2.0 - 1
    features = torch.cat([signs, torch.randn(400, 6, generator=generator)], 1)
    codes = torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])

    def head(x):
        return x[:, :2] @ codes.mT

    natural, rotated = ablation(head, features, labels, steps=8, orders=20)
    assert natural.removed == tuple(range(9))
    for curve in (natural, rotated):
        assert curve.accuracy[0] == 1
        assert curve.accuracy[-1] <= 0.5  # all images give the same logits
        assert all(low <= a <= high for low, a, high in
                   zip(curve.low, curve.accuracy, curve.high, strict=True))  # fmt: skip
    # One unit removed: none of the two with probability 6 / 8, else half of the images are left.
    assert natural.low[1] == pytest.approx(0.5, abs=0.05)
    assert natural.high[1] == 1
    assert natural.accuracy[1] == pytest.approx(6 / 8 + 2 / 8 * 0.5, abs=0.15)
    # A random direction has a little of both, which the signs survive.
    assert rotated.low[1] > 0.7


def test_networks_in_training_mode_are_left_as_they_were():
    images, labels = made("classes")
    body, head = torch.nn.BatchNorm1d(12), torch.nn.BatchNorm1d(12)
    before = body.running_mean.clone()
    units(body, images, labels, permutations=2, head=head, orders=1)
    for module in (body, head):
        assert module.training
        assert torch.equal(module.running_mean, before)


def test_a_head_that_is_not_finite_is_wrong():
    images, labels = made("classes")
    curves = ablation(lambda x: x[:, :6] * torch.nan, images, labels, steps=1, orders=1)
    assert curves[0].accuracy == (0, 0)
    with pytest.raises(ValueError, match="model: expected logits"):
        ablation(lambda x: x[:, 0], images, labels, steps=1, orders=1)


def test_saved_and_read_back(tmp_path):
    images, labels = made("classes")
    found = units(
        lambda x: x, images, labels, top=3, count=2, permutations=5, head=lambda x: x[:, :6]
    )
    found.save(tmp_path / "u.json")
    assert Units.load(tmp_path / "u.json") == found
    assert len(found.as_rows()) == 6
    assert "12 features, 600 images" in repr(found)
    with pytest.raises(KeyError, match="no directions 'other'"):
        found.of("other")
    (tmp_path / "u.json").write_text("[]")
    with pytest.raises(ValueError, match="not a saved Units"):
        Units.load(tmp_path / "u.json")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"directions": ("natural", "other")}, "directions: expected names"),
        ({"directions": "natural"}, "directions: expected names"),
        ({"top": 0}, "top: expected 1 to 600"),
        ({"top": 601}, "top: expected 1 to 600"),
        ({"count": 13}, "count: expected 1 to 12"),
        ({"permutations": 0}, "permutations: expected"),
    ],
)
def test_refuses(options, words):
    images, labels = made("noise")
    with pytest.raises(ValueError, match=words):
        units(lambda x: x, images, labels, **options)


def test_refuses_shapes():
    images, labels = made("noise")
    with pytest.raises(ValueError, match="labels: expected shape"):
        units(lambda x: x, images, labels[1:])
    with pytest.raises(ValueError, match="features: expected a function"):
        units(lambda x: x[:, None], images, labels)
    with pytest.raises(ValueError, match="features: expected finite"):
        units(lambda x: x / 0, images, labels)
    with pytest.raises(ValueError, match="all images have the same"):
        units(lambda x: x * 0, images, labels)
    with pytest.raises(ValueError, match="features and labels"):
        ablation(lambda x: x, images, labels[1:])
    with pytest.raises(ValueError, match="labels: expected values of at least 0, got -1"):
        ablation(lambda x: x, images, labels - 1)
