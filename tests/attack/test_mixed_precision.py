"""Networks under autocast and compiled ones: what comes back fools the network as it is."""

import pytest
import torch
from torch import nn

from advkit.attack import AttackStatus, lbfgs
from advkit.attack.search import STRETCHES, Search

B, BUDGET = 40, 25


def network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(100, 40), nn.Tanh(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5)
    ).eval()


def images():
    return torch.rand(B, 4, 25, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def confirmed(monkeypatch):
    """Return how many points each forward pass of the verification was about."""
    asked, plain = [], Search._confirm

    def confirm(self, which):
        assert not torch.is_autocast_enabled("cpu")
        asked.append(len(which))
        return plain(self, which)

    monkeypatch.setattr(Search, "_confirm", confirm)
    return asked


def test_autocast_is_for_the_search_alone(some_attack, confirmed):
    model, x = network(), images()
    labels = model(x).argmax(1)
    full = some_attack(model, x, labels, max_evaluations=BUDGET)
    assert confirmed == [B]
    confirmed.clear()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = some_attack(model, x, labels, max_evaluations=BUDGET)
        assert torch.is_autocast_enabled("cpu")
    assert mixed.success.all()
    assert (model(mixed.adversarial).argmax(1) != labels).all()
    # Some had to be put right, which their passes tell; the penalty method's are not as near.
    if some_attack.keywords["method"] == "augmented":
        assert B > confirmed[1] > 0
    assert sum(confirmed) == B + int((mixed.forwards - mixed.backwards - 1).sum())
    assert (mixed.forwards + mixed.backwards <= 2 * BUDGET).all()
    assert mixed.distance.mean() <= 1.1 * full.distance.mean()
    assert ((mixed.adversarial >= 0) & (mixed.adversarial <= 1)).all()


def test_what_cannot_be_put_right_is_not_returned(confirmed):
    """A network that only autocast's rounding fools."""

    class OnlyRounding(nn.Module):
        def forward(self, x):
            z = x.flatten(1).sum(1)
            fooled = torch.is_autocast_enabled("cpu") & (z > 1)
            return torch.stack([z * 0 + 1, torch.where(fooled, z, z * 0)], 1)

    x, labels = torch.full((3, 1, 4), 0.2), torch.zeros(3, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        result = lbfgs(OnlyRounding(), x, labels, max_evaluations=BUDGET)
    assert confirmed == [3] * (1 + len(STRETCHES))
    assert not result.success.any()
    assert (result.status == AttackStatus.NOT_FOUND).all()
    assert torch.equal(result.adversarial, x)


def test_rounded_points_fool_without_autocast():
    model, x = network(), images()
    labels = model(x).argmax(1)
    x = (x * 255).round() / 255
    with torch.autocast("cpu", torch.bfloat16):
        result = lbfgs(model, x, labels, max_evaluations=BUDGET, levels=256)
    found = result.success
    assert found.float().mean() > 0.9
    assert (model(result.adversarial).argmax(1) != labels)[found].all()
    levels = result.adversarial * 255
    assert (levels - levels.round()).abs().max() < 1e-3


@pytest.mark.parametrize("least", [2, 3])
def test_verification_without_autocast_is_part_of_the_budget(least):
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match=r"max_evaluations must be .* at least 4"),
    ):
        lbfgs(network(), images(), torch.zeros(B, dtype=torch.int64), max_evaluations=least)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor:UserWarning"
)  # by dynamo itself
def test_compiled_networks(some_attack):
    """With another backend than the default, which needs a compiler and 20 s."""
    model, x = network(), images()
    labels = model(x).argmax(1)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    result = some_attack(compiled, x, labels, max_evaluations=BUDGET)
    plain = some_attack(model, x, labels, max_evaluations=BUDGET)
    assert result.success.all()
    assert (model(result.adversarial).argmax(1) != labels).all()
    assert torch.allclose(result.distance, plain.distance, rtol=1e-2)
    assert (result.forwards + result.backwards <= 2 * BUDGET).all()
