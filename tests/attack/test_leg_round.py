"""A round of legs: compiled, and in plain PyTorch around the same solver: the definition."""

import copy

import pytest
import torch
from torch import nn

from advkit.attack import legs
from advkit.attack.augmented import AugmentedSearch
from advkit.attack.legs import Leg, Start
from advkit.attack.objective import Objective
from advkit.attack.radius import RadiusSearch
from advkit.optim.tiles import Tile

BATCH, SLOTS, CLASSES = 14, 9, 5
NORMS = ["l2", "l1", "linf"]
# Rounds until images have been through more legs than the table begins with.
ROUNDS = 60
# Legs of every kind, short enough to be through in those, one long enough to end without progress.
EVERY_LEG = (
    [Leg(Start.ORIGINAL, -1, 7), Leg(Start.GIVEN, 2, 5), Leg(Start.BEST, 1, 20, 3.0)],
    [
        Leg(Start.NEAR_BEST, -1, 5, 0.0, 8.0),
        Leg(Start.NEAR_ORIGINAL, 3, 6, 2.0),
        Leg(Start.ORIGINAL, -1, 4),
    ],
)
OF_IMAGES = (
    *("leg", "age", "rival", "forwards", "backwards", "sharpness", "nearest", "mark", "distance"),
    *("c_best", "best"),
)


class Odd(nn.Module):
    """A network with kinks that is nan for images whose first value is above a threshold."""

    def __init__(self, n, dtype, nan_above):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.first = torch.randn(n, 20, generator=generator, dtype=dtype) / n**0.5
        self.second = torch.randn(20, CLASSES, generator=generator, dtype=dtype)
        self.nan_above, self.calls_with_nan = nan_above, 0

    def forward(self, x):
        self.calls_with_nan += int((x[:, 0] > self.nan_above).any())
        logits = ((x - 0.5) @ self.first).relu() @ self.second
        return logits.masked_fill(x[:, :1] > self.nan_above, torch.nan)


def search(norm, n, dtype, *, nan_above=2.0, stop=None, box=1, mask=None):
    generator = torch.Generator().manual_seed(n)
    x, starts = torch.rand(2, BATCH, n, generator=generator, dtype=dtype)
    model = Odd(n, dtype, nan_above)
    objective = Objective(
        model, x.shape[1:], loss="margin", targeted=False, kappa=0.0, classes=CLASSES
    )
    lower, upper = torch.zeros(box, 1, dtype=dtype), torch.ones(box, 1, dtype=dtype)
    if box > 1:  # each image its own
        upper += torch.rand(box, 1, generator=generator, dtype=dtype)
    if mask is not None:
        lower, upper = (torch.where(mask, bound, x) for bound in (lower, upper))
    return (RadiusSearch if norm == "linf" else AugmentedSearch)(
        objective,
        x,
        model(x).nan_to_num().argmax(1),
        norm=norm,
        lower=lower,
        upper=upper,
        max_evaluations=ROUNDS,
        stop_distance=None if stop is None else torch.full((BATCH,), stop).double(),
        rivals=True,
        smooth=True,
        starts=starts,
        history=3,
        history_dtype=None,
        seed=0,
    )


def compare(made, slots, norm, monkeypatch):
    """Do one round from the same state both ways, and return the two outcomes."""
    both = []
    made._leg_round = None  # the copies' own have addresses of their own
    for backend in ("cpu", "reference"):
        this, there = copy.deepcopy((made, slots))
        monkeypatch.setattr(legs, "choose", lambda x, backend=backend: backend)
        this.round(there)
        outcome = {name: getattr(this, name) for name in OF_IMAGES} | vars(there.state)
        outcome |= {"finished": there.finished}
        if norm == "linf":
            outcome |= {"radius": this.radius}
        both.append(outcome)
    return both


def check(compiled, plain, dtype):
    digits = 2e-5 if dtype == torch.float32 else 1e-11
    for name, wanted in plain.items():
        if not isinstance(wanted, torch.Tensor):
            continue
        got = compiled[name]
        assert got.dtype == wanted.dtype
        if not wanted.is_floating_point():
            assert torch.equal(got, wanted), name
            continue
        assert torch.allclose(got, wanted, rtol=digits, atol=digits, equal_nan=True), name


@pytest.mark.parametrize("n", [1, 63, 129, 784, 1000])
@pytest.mark.parametrize("norm", NORMS)
def test_every_round(isa, norm, n, dtype, monkeypatch):
    """From the first to those in which the repeated legs are through, with slots refilled."""
    monkeypatch.setattr(legs, "legs", lambda *given: EVERY_LEG)
    made = search(norm, n, dtype)
    slots = Tile(made.state(SLOTS), BATCH, ROUNDS)
    kinds = set()
    for _ in range(ROUNDS):
        check(*compare(made, slots, norm, monkeypatch), dtype)
        monkeypatch.setattr(legs, "choose", lambda x: "cpu")
        made.round(slots)
        kinds |= set(made.leg.tolist())
        slots.counts()
        slots.finished[slots.active % 4 == 3] |= made.leg[slots.index[slots.active % 4 == 3]] > 2
        free, fresh = slots.replace()
        if len(fresh):
            made.load(slots.state, free, fresh)
        if len(slots.active) == 0:
            break
    if n > 1:
        assert kinds >= set(range(6)), "legs that were never begun"
        assert int(made.distance.isfinite().sum()) > BATCH // 2


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "settings",
    [
        {"nan_above": 0.8},
        {"nan_above": 0.5, "box": BATCH},
        {"stop": 0.3},
        {"mask": torch.arange(784) % 3 > 0},
    ],
    ids=["nan", "boxes", "stop", "mask"],
)
def test_what_users_ask_for(isa, norm, settings, monkeypatch):
    """Networks that are nan somewhere, boxes of the images, distances to stop at, masks."""
    monkeypatch.setattr(legs, "legs", lambda *given: EVERY_LEG)
    made = search(norm, 784, torch.float32, **settings)
    slots = Tile(made.state(BATCH), BATCH, ROUNDS)
    for _ in range(25):
        check(*compare(made, slots, norm, monkeypatch), torch.float32)
        monkeypatch.setattr(legs, "choose", lambda x: "cpu")
        made.round(slots)
        slots.fresh = slots.fresh[:0]
    if "nan_above" in settings:
        assert made.objective._model.calls_with_nan > 5
    if "stop" in settings:
        assert slots.finished.any()


@pytest.mark.parametrize("norm", NORMS)
def test_many_values_on_several_threads(norm, threads, monkeypatch):
    """Few large images are shared among threads, which changes no bit."""
    monkeypatch.setattr(legs, "legs", lambda *given: EVERY_LEG)
    outcomes = []
    for count in (1, 2):
        with threads(count):
            made = search(norm, 20_000, torch.float32)
            slots = Tile(made.state(3), BATCH, ROUNDS)
            for _ in range(12):
                made.round(slots)
                slots.fresh = slots.fresh[:0]
            outcomes.append((made.best, made.distance, slots.state.trial))
    for one, two in zip(*outcomes, strict=True):
        assert torch.equal(one, two)


def test_bad_numbers_are_refused():
    made = search("l2", 63, torch.float32)
    slots = Tile(made.state(SLOTS), BATCH, ROUNDS)
    made.round(slots)
    slots.fresh = slots.fresh[:0]
    slots.index[2] = BATCH
    with pytest.raises(ValueError, match="index must lie in"):
        made._compiled()(
            slots, slots.trial(), torch.zeros(SLOTS), torch.zeros(SLOTS, 63), slots.finished
        )
