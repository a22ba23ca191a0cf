"""What a leg notes of an evaluation: compiled, and in plain PyTorch, which is the definition."""

import pytest
import torch

from advkit.attack.augmented import AugmentedSearch
from advkit.attack.legs import PROGRESS_AGE, PRUNE_AGE
from advkit.attack.objective import Evaluation, Objective
from advkit.ops import use_backend
from advkit.ops.lbfgs_step.state import Status
from advkit.optim.tiles import Tile

NOTED = "age", "nearest", "mark", "distance", "c_best", "best"
B, B_OF_TILE = 41, 23


def search(x0, norm):
    objective = Objective(
        lambda x: x, x0.shape[1:], loss="margin", targeted=False, kappa=0.0, classes=3
    )
    made = AugmentedSearch(
        objective,
        x0,
        torch.zeros(len(x0), dtype=torch.int64),
        norm=norm,
        lower=torch.zeros(1, 1, dtype=x0.dtype),
        upper=torch.ones(1, 1, dtype=x0.dtype),
        max_evaluations=50,
        rivals=True,
        smooth=False,
        starts=None,
        history=2,
        history_dtype=None,
        seed=0,
    )
    made._plan(9)
    return made


def random_notes(made, size=1.0):
    """Put legs of all ages, with and without anything found up to a distance, into a search."""
    generator = torch.Generator().manual_seed(1)

    def some(low, high):
        return torch.randint(low, high, (B,), generator=generator)

    made.leg, made.age = some(0, 30), some(0, 14)
    made.distance = torch.rand(B, dtype=torch.float64, generator=generator) * size
    made.distance[some(0, 3) == 0] = torch.inf
    made.nearest, made.mark = made.distance * 1.01, made.distance * 1.02
    made.c_best = torch.rand(B, dtype=torch.float64, generator=generator)


def outcome(x0, norm, dtype, distances, backend):
    made = search(x0, norm)
    slots = Tile(made.state(B_OF_TILE), B, 50)
    slots.index = torch.randperm(B, generator=torch.Generator().manual_seed(2))[:B_OF_TILE]
    slots.finished[::7] = True
    slots.state.status[::5] = int(Status.RELATIVE_F)
    generator = torch.Generator().manual_seed(3)
    r = torch.rand(B_OF_TILE, x0.shape[1], dtype=dtype, generator=generator)
    r *= torch.linspace(0, 1, B_OF_TILE, dtype=dtype)[:, None]
    x = x0[slots.index] + r
    random_notes(made, float(made.length(r).max()))
    before = made.distance.clone()
    columns = torch.rand(B_OF_TILE, 3, dtype=torch.float64, generator=generator)
    h, size = torch.rand(2, B_OF_TILE, dtype=torch.float64, generator=generator)
    h -= 0.5
    # As the solver has them: not to the last digit.
    distance = made.length(r) * (1 + 1e-3 * torch.randn(B_OF_TILE, generator=generator))
    for row, value in distances.items():
        distance[row] = value
    columns[:, 1] = distance
    distance, c = columns[:, 1], columns[:, 2]  # as they lie in the solver's scalars
    surely = torch.rand(B_OF_TILE, generator=generator) < 0.8
    empty = x.new_empty(B_OF_TILE)
    evaluation = Evaluation(empty, x, surely, surely, empty, x)
    with use_backend(backend):
        ended = made._note(slots, x, evaluation, h, size, distance, c)
    return {"ended": ended, "before": before} | {name: getattr(made, name) for name in NOTED}


@pytest.mark.parametrize("n", [1, 63, 784, 20_000])
@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_the_same_digits(isa, norm, n, dtype):
    """Where lengths differ in their last digits, since they are added up in another order."""
    x0 = torch.rand(B, n, dtype=dtype)
    compiled = outcome(x0, norm, dtype, {}, "cpu")
    plain = outcome(x0, norm, dtype, {}, "reference")
    assert 3 < int(plain["ended"].sum()) < B_OF_TILE - 3
    for name, wanted in plain.items():
        got = compiled[name]
        assert got.dtype == wanted.dtype
        if name in ("distance", "nearest", "mark"):
            assert torch.allclose(got, wanted, rtol=1e-14, atol=0), name
        else:
            assert torch.equal(got, wanted), name
    kept = compiled["distance"] < compiled["before"]
    assert 3 < int(kept.sum()) < B_OF_TILE
    length = search(x0, norm).length(compiled["best"][kept] - x0[kept])
    assert torch.equal(length, compiled["distance"][kept])
    assert torch.equal(compiled["best"][~kept], x0[~kept])


def test_nan_and_infinities(isa):
    x0 = torch.rand(B, 63)
    odd = {0: torch.nan, 1: torch.inf, 2: 0.0, 3: torch.nan}
    compiled = outcome(x0, "l2", torch.float32, odd, "cpu")
    plain = outcome(x0, "l2", torch.float32, odd, "reference")
    for name, wanted in plain.items():
        assert torch.allclose(compiled[name], wanted, rtol=1e-14, atol=0, equal_nan=True), name


def test_ages_reach_every_rule():
    """Ages of the test above lie on both sides of the rules."""
    made = search(torch.rand(B, 2), "l2")
    random_notes(made)
    assert (made.age + 1 >= PRUNE_AGE).any()
    assert (made.age + 1 < PRUNE_AGE).any()
    assert ((made.age + 1) % PROGRESS_AGE == 0).any()
