"""lbfgs_step: the fused kernels against the reference, and both against what is promised.

The reference is composed of the references of the other ops. It drives, and every round is compared
on its own, from the state that the reference had before it: no difference can be hidden, or
magnified, by the rounds before. What is said of slots whose loss is a constraint is in
test_lbfgs_step_constraint.py.
"""

import dataclasses
from collections import Counter as Tally
from functools import cache

import pytest
import torch
from tolerances import CUBIC, DIRECTION, ONE_STEP

from advkit import ops
from advkit.norms import NORMS
from advkit.ops import Options, Status, use_backend
from advkit.ops.lbfgs_step.state import Counter, Phase, Scalar, Vector

N = 37  # whole registers and a rest, in every instruction set


# Problems. Each takes x (b, n) and the number of the round and returns the loss (b,).


def rosenbrock(x, turn):
    return (10 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def quartic(x, turn):
    """Convex, with its minimiser outside the box for every other value."""
    return ((x - torch.linspace(-2, 2, x.shape[1])) ** 4).sum(1) + x.square().sum(1) / 10


def waves(x, turn):
    """Concave in places: pairs of negative curvature."""
    return torch.cos(4 * x).sum(1) + 0.3 * x.sum(1)


def far(x, turn):
    """Nearly flat at the start: steps expand."""
    return (1 + ((x - 3) / 20).square().sum(1)).sqrt()


def kinks(x, turn):
    """No derivative where the minimum is: no tolerance on the gradient is met."""
    return ((x - 0.1).abs() * torch.linspace(1, 3, x.shape[1])).sum(1)


def hole(x, turn):
    """Infinite in part of the box."""
    return torch.where(x[:, 0] < -0.4, torch.inf, 1.0) * quartic(x, turn)


def breaks(x, turn):
    """NaN from some round on, for ever."""
    return quartic(x, turn) * (torch.nan if turn >= 5 else 1)


def lies(x, turn):
    """From some round on, the gradient belongs to another function that rises where this falls."""
    if turn < 5:
        return quartic(x, turn)
    return quartic(x.detach(), turn) - 1e-3 * (x - x.detach()).sum(1) + turn


def plane(x, turn):
    """Without curvature from some round on: every pair is skipped."""
    return quartic(x, turn) if turn < 7 else -0.1 * x.sum(1) - turn


def nothing(x, turn):
    return torch.nan * x.sum(1)


def constant(x, turn):
    return 0 * x.sum(1) + 3.0


PROBLEMS = (
    *(rosenbrock, quartic, waves, far, kinks, hole),
    *(breaks, lies, plane, nothing, constant),
)


def evaluate(x, turn):
    """Return loss and gradient of each problem in its rows (problem k has row k), in x's dtype."""
    x64 = x.double().clone().requires_grad_()
    losses = torch.cat([p(x64[k : k + 1], turn) for k, p in enumerate(PROBLEMS)])
    (gradient,) = torch.autograd.grad(losses.sum(), x64)
    return losses.detach().to(x.dtype), gradient.to(x.dtype)


def noise(x, turn):
    """Losses and gradients that belong to no function: every branch, in any order."""
    generator = torch.Generator().manual_seed(turn)
    loss = torch.randn(len(x), generator=generator, dtype=torch.float64)
    gradient = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    falling = torch.arange(len(x)) % 2 == 0
    loss = torch.where(falling, loss.abs() - turn, loss)
    return loss.to(x.dtype), gradient.to(x.dtype)


def violated(x, turn):
    """Noise that stays above zero: no constraint is ever met."""
    loss, gradient = noise(x, turn)
    return loss.abs() % 3, gradient


BOXES = {
    "open": lambda dtype: (-torch.inf, torch.inf),
    "numbers": lambda dtype: (-0.5, 0.75),
    "positive": lambda dtype: (0.25, 0.75),
    "each": lambda dtype: (
        torch.rand(len(PROBLEMS), N, dtype=dtype) - 1.2,
        torch.rand(len(PROBLEMS), N, dtype=dtype) + 0.1,
    ),
    "half-open": lambda dtype: (
        torch.where(torch.arange(N) % 3 == 0, -0.3, -torch.inf).to(dtype),
        torch.full((len(PROBLEMS), 1), 0.4, dtype=dtype),
    ),
    "equal": lambda dtype: (
        torch.where(torch.arange(N) % 4 == 0, 0.2, -1.0).to(dtype),
        torch.where(torch.arange(N) % 4 == 0, 0.2, 1.0).to(dtype),
    ),
}

# A gradient tolerance above the rounding errors, so that these never take a decision.
STOPS = {
    "gradient": Options(1e-6, -1.0, -1.0, 20, 60),
    "relative": Options(1e-7, 1e-4, -1.0, 20, 60),
    "stagnation": Options(1e-7, -1.0, 1e-3, 7, 60),
    "never": Options(1e-7, -1.0, -1.0, 20, 60),
}

PLAIN, EVEN, ODD = slice(0, 0), slice(0, None, 2), slice(1, None, 2)

# Where a constraint is inactive nothing but the norm is left, and l2's gradient does not change
# along r: pairs of rounding errors alone, whose curvature takes decisions.
SMOOTH_OR_FLAT = ("none", "l2sq", "l1")

RUNS = [
    # norm, box, when to stop, history, evaluation, slots whose loss is a constraint (none)
    *((norm, "each", "gradient", 3, evaluate) for norm in NORMS),
    *((norm, "each", "never", 5, noise) for norm in NORMS),
    ("none", "open", "stagnation", 4, evaluate),
    ("none", "half-open", "relative", 1, evaluate),
    ("l1", "open", "relative", 2, evaluate),
    ("l1", "half-open", "stagnation", 4, evaluate),
    ("l1", "equal", "never", 1, evaluate),
    ("l2sq", "numbers", "relative", 2, noise),
    ("none", "positive", "gradient", 3, evaluate),
    ("l2sq", "equal", "stagnation", 3, evaluate),
    ("l2", "open", "gradient", 5, evaluate),
    *((norm, "each", "relative", 3, evaluate, ODD) for norm in NORMS),
    *((norm, "half-open", "stagnation", 4, evaluate, EVEN) for norm in SMOOTH_OR_FLAT),
    *((norm, "each", "never", 5, noise, ODD) for norm in SMOOTH_OR_FLAT),
    *((norm, "open", "relative", 2, noise, EVEN) for norm in SMOOTH_OR_FLAT),
    ("l2", "half-open", "stagnation", 4, evaluate, ODD),
    ("l2", "each", "never", 5, violated, EVEN),
    ("l2", "open", "relative", 2, violated, ODD),
]
MIXED = RUNS.index(("l1", "each", "never", 5, noise, ODD))


def start(norm, box, stop, history, evaluation, constrained=PLAIN, dtype=torch.float64):
    lower, upper = BOXES[box](dtype)
    x0 = torch.rand(len(PROBLEMS), N, dtype=dtype) - 0.5
    x0 = torch.clamp(x0, *(torch.as_tensor(b, dtype=dtype) for b in (lower, upper)))
    begin = x0 if norm in ("l1", "l2") else x0 + 0.3 * torch.randn(x0.shape, dtype=dtype)
    state = ops.init(
        begin,
        lower=lower,
        upper=upper,
        history=history,
        norm=norm,
        x0=None if norm == "none" else x0,
        c=torch.logspace(-2, 0, len(PROBLEMS), dtype=dtype),
        options=STOPS[stop],
    )
    if constrained != PLAIN:
        constrain(state, constrained)
    return state


def constrain(state, slots):
    """Make the loss of slots a constraint; every second slot of either kind is given its step."""
    k = torch.arange(len(state.trial))
    state.scalars[:, Scalar.FIRST_STEP] = 0.05 * (k // 2 % 2)
    state.scalars[slots, Scalar.MU] = (k[slots] % 3).double()
    state.scalars[slots, Scalar.RHO] = 0.03 * 4.0 ** (k[slots] % 5)


FIELDS = ("trial", "vectors", "history", "scalars", "counters")


def copy(state):
    return dataclasses.replace(state, **{name: getattr(state, name).clone() for name in FIELDS})


def seen(before, after, tally):
    """Count what a round did, from the counters on both sides of it."""
    running = before.status == Status.RUNNING
    was, now = before.counters[running].T, after.counters[running].T
    phase = was[Counter.PHASE]
    accepted = (now[Counter.ITERATIONS] > was[Counter.ITERATIONS]) | (phase == Phase.START)
    emptied = (now[Counter.COUNT] == 0) & (was[Counter.COUNT] > 0)
    tally["start"] += int((phase == Phase.START).sum())
    tally["search, accepted"] += int((accepted & (phase == Phase.SEARCH)).sum())
    tally["expand, first"] += int(
        ((phase == Phase.SEARCH) & (now[Counter.PHASE] == Phase.EXPAND)).sum()
    )
    tally["expand, further"] += int(
        ((phase == Phase.EXPAND) & (now[Counter.PHASE] == Phase.EXPAND)).sum()
    )
    tally["expand, best accepted"] += int((accepted & (phase == Phase.EXPAND)).sum())
    shrunk = ~accepted & (phase == Phase.SEARCH) & (now[Counter.TRIALS] > was[Counter.TRIALS])
    tally["shrink"] += int((shrunk & (now[Counter.PHASE] == Phase.SEARCH)).sum())
    tally["skip"] += int((now[Counter.SKIPS] > was[Counter.SKIPS]).sum())
    tally["reset after two skips"] += int(
        (accepted & (was[Counter.SKIPS] == 1) & (now[Counter.SKIPS] == 0) & emptied).sum()
    )
    tally["not a descent"] += int((accepted & (was[Counter.SKIPS] == 0) & emptied).sum())
    tally["restart after twenty trials"] += int((~accepted & emptied).sum())
    stays = (before.trial == before.x).all(1)[running]
    tally["step lost to rounding"] += int((shrunk & stays).sum())
    tally["full ring"] += int((now[Counter.COUNT] == before.history.shape[1]).sum())
    constrained = before.scalars[running, Scalar.RHO] > 0
    mu, new_mu = (each.scalars[running, Scalar.MU] for each in (before, after))
    tally["multiplier rises"] += int((new_mu > mu).sum())
    tally["multiplier falls"] += int(((new_mu < mu) & (new_mu > 0)).sum())
    tally["multiplier falls to zero"] += int(((new_mu < mu) & (new_mu == 0)).sum())
    tally["constraint inactive"] += int((constrained & accepted & (mu + new_mu == 0)).sum())
    tally["constrained, shrink"] += int((constrained & shrunk).sum())
    for status in Status:
        tally[status.name] += int((now[Counter.STATUS] == status).sum())


@cache
def recorded(index):
    """Return state, loss, gradient and next state, the slots of all rounds one after another."""
    torch.manual_seed(index)
    rounds = []
    state = start(*RUNS[index])
    with use_backend("reference"):
        for turn in range(60):
            before = copy(state)
            loss, gradient = RUNS[index][4](state.trial, turn)
            ops.lbfgs_step(state, loss, gradient)
            rounds.append((before, loss, gradient, copy(state)))
    before, loss, gradient, after = zip(*rounds, strict=True)
    return joined(before), torch.cat(loss), torch.cat(gradient), joined(after)


def joined(states):
    tensors = {name: torch.cat([getattr(each, name) for each in states]) for name in FIELDS}
    for name in ("x0", "lower", "upper"):
        one = getattr(states[0], name)
        tensors[name] = one if len(one) == 1 else one.repeat(len(states), 1)
    return dataclasses.replace(states[0], **tensors)


def run_name(run):
    mixed = "-mixed" if len(run) > 5 else ""
    return f"{run[4].__name__}-{run[0]}-{run[1]}-{run[2]}{mixed}"


some_runs = pytest.mark.parametrize(
    "run", [RUNS[7], RUNS[MIXED]], ids=lambda run: run_name(run).rpartition("-")[2]
)
every_run = pytest.mark.parametrize(
    "index", range(len(RUNS)), ids=[f"{k}-{run_name(run)}" for k, run in enumerate(RUNS)]
)


def size(tensor):
    """Return the largest finite magnitude in each slot, over all but the first dimension."""
    return tensor.abs().nan_to_num(0, 0, 0).flatten(1).amax(1)


def differences(got, wanted, before, gradient):
    """Return how far each slot of `got` is from `wanted`, relative to the size of each quantity."""
    n = wanted.trial.shape[1]
    points = torch.maximum(size(wanted.trial), size(before.trial))
    gradients = size(wanted.vectors[:, [Vector.G, Vector.TRIAL_G, Vector.BEST_G], :n])
    weights = torch.maximum(wanted.scalars[:, Scalar.MU], before.scalars[:, Scalar.MU])
    # The penalty's may cancel the loss's.
    gradients = torch.maximum(gradients, size(gradient) * weights.to(gradient).clamp(min=1))
    scales = {
        **dict.fromkeys((Vector.X, Vector.BEST), points),
        **dict.fromkeys((Vector.G, Vector.TRIAL_G, Vector.BEST_G), gradients),
        Vector.DIRECTION: size(wanted.vectors[:, Vector.DIRECTION, :n]),
    }

    def apart(a, b, scale):
        same = (a == b) | (a.isnan() & b.isnan())
        wrong = torch.where(same, 0, (a - b).abs().nan_to_num(torch.inf)).flatten(1).amax(1)
        return wrong / torch.where(scale == 0, 1, scale)

    worst = {"trial": apart(got.trial, wanted.trial, points + scales[Vector.DIRECTION])}
    for which, scale in scales.items():
        worst[which.name] = apart(got.vectors[:, which, :n], wanted.vectors[:, which, :n], scale)
    for which, scale in ((0, points), (1, gradients)):
        ours, theirs = got.history[:, :, which, :n], wanted.history[:, :, which, :n]
        worst["SY"[which]] = apart(ours, theirs, scale)
    value = size(wanted.scalars[:, [Scalar.F, Scalar.F_BEST, Scalar.F_WINDOW]]).clamp(min=1)
    product = wanted.scalars[:, Scalar.SS_BEST] * wanted.scalars[:, Scalar.YY_BEST]
    for which in Scalar:
        scale = {
            **dict.fromkeys((Scalar.F, Scalar.F_BEST, Scalar.F_WINDOW), value),
            **dict.fromkeys((Scalar.PROJECTED_GRADIENT, Scalar.PG_BEST), points + gradients),
            Scalar.SY_BEST: product.sqrt(),
        }.get(which, wanted.scalars[:, which].abs())
        worst[which.name] = apart(got.scalars[:, [which]], wanted.scalars[:, [which]], scale)
    return worst


BOUNDS = {"trial": DIRECTION, "DIRECTION": DIRECTION, "STEP": CUBIC}


@every_run
def test_one_round_equals_the_reference(index, isa):
    """At every round of every problem: the same decisions and the same numbers."""
    before, loss, gradient, wanted = recorded(index)
    got = copy(before)
    ops.lbfgs_step(got, loss, gradient)
    assert torch.equal(got.counters, wanted.counters)
    for name, error in differences(got, wanted, before, gradient).items():
        bound = BOUNDS.get(name, ONE_STEP)
        assert (error <= bound[torch.float64]).all(), name


@every_run
def test_one_round_equals_the_reference_in_float32(index, isa):
    """From the same states, rounded. Rounding may decide a comparison otherwise."""
    before, loss, gradient, _ = (
        single(each) if isinstance(each, ops.State) else each.float() for each in recorded(index)
    )
    got, wanted = copy(before), copy(before)
    ops.lbfgs_step(got, loss, gradient)
    with use_backend("reference"):
        ops.lbfgs_step(wanted, loss, gradient)
    same = (got.counters == wanted.counters).all(1)
    assert same[before.status == Status.RUNNING].double().mean() >= 0.99
    for name, error in differences(got, wanted, before, gradient).items():
        bound = BOUNDS.get(name, ONE_STEP)
        assert (error[same] <= bound[torch.float32]).all(), name


def single(state):
    """Return the state in float32; rounding is monotonic, so what was in the box still is."""
    names = ("trial", "vectors", "history", "x0", "lower", "upper")
    return dataclasses.replace(state, **{name: getattr(state, name).float() for name in names})


def telling(before, after, most):
    """Return slots of which no two went the same way, at most so many: what they are tested for."""
    was, now = before.counters.clone(), after.counters.clone()
    for counters in (was, now):
        counters[:, Counter.EVALUATIONS] = 0
        counters[:, [Counter.HEAD, Counter.ITERATIONS]] %= before.history.shape[1]
        counters[:, Counter.TRIALS].clamp_(max=2)
    mu = [state.scalars[:, Scalar.MU] for state in (before, after)]
    way = torch.cat((was, now, torch.stack((mu[0] > 0, mu[1] > mu[0], mu[1] > 0), 1).int()), 1)
    way = way[before.status == Status.RUNNING]
    running = (before.status == Status.RUNNING).nonzero()[:, 0]
    _, kind = way.unique(dim=0, return_inverse=True)
    first = torch.stack([(kind == k).nonzero()[0, 0] for k in range(int(kind.max()) + 1)])
    return running[first[torch.randperm(len(first))[:most]]]


@every_run
def test_one_round_equals_the_reference_in_triton(index, dtype, triton):
    """The same for slots that went different ways; the interpreter has no time for all."""
    before, loss, gradient, wanted = recorded(index)
    slots = telling(before, wanted, most=12)
    loss, gradient = loss[slots].to(dtype), gradient[slots].to(dtype)
    before = before if dtype == torch.float64 else single(before)
    got, wanted = copy(before), copy(before)
    ops.lbfgs_step(got, loss, gradient, slots)
    with use_backend("reference"):
        ops.lbfgs_step(wanted, loss, gradient, slots)
    same = (got.counters == wanted.counters).all(1)
    assert (~same).sum() <= (dtype == torch.float32)  # rounding may decide a comparison otherwise
    full = torch.zeros_like(before.trial)
    full[slots] = gradient
    for name, error in differences(got, wanted, before, full).items():
        assert (error[same] <= BOUNDS.get(name, ONE_STEP)[dtype]).all(), name


def test_the_problems_reach_every_branch():
    tally = Tally()
    for index in range(len(RUNS)):
        before, _, _, after = recorded(index)
        seen(before, after, tally)
    assert not {name: count for name, count in tally.items() if count < 5}


def first_state(dtype, rows=1, n=1, **options):
    """Return a state at 0 that stops for nothing, after which the caller decides."""
    return ops.init(
        torch.zeros(rows, n, dtype=dtype),
        options=Options(**{"gradient_tolerance": -1.0, "relative_tolerance": -1.0, **options}),
    )


def feed(state, loss, gradient):
    """Advance a state of one slot and one value by one evaluation."""
    like = state.trial
    ops.lbfgs_step(state, like.new_tensor([loss]), like.new_tensor([[gradient]]))


@pytest.mark.parametrize("g", [[0.25, -0.5], [3.0, -5.0]], ids=["gentle", "steep"])
def test_first_trial(g, dtype, implementation):
    """-g in a finite box, which bounds it; else shortened to at most 1 in the 1-norm."""
    g = torch.tensor([g], dtype=dtype)
    start = torch.full((1, 2), 0.5, dtype=dtype)
    for upper in (1.0, torch.inf):
        state = ops.init(start, lower=0.0, upper=upper)
        ops.lbfgs_step(state, torch.ones(1, dtype=dtype), g)
        scale = 1.0 if upper == 1 else 1 / max(1.0, g.abs().sum().item())
        torch.testing.assert_close(state.trial, (start - scale * g).clamp(0, upper))


def test_rejected_trial_is_followed_by_the_minimiser_of_the_cubic(dtype, implementation):
    """The objective -t + 3 t^2 - t^3 is its own interpolation: the minimiser is 1 - sqrt(2/3)."""
    state = first_state(dtype)
    feed(state, 0.0, -1.0)
    assert state.trial.item() == 1
    feed(state, 1.0, 2.0)
    assert state.trial.item() == pytest.approx(1 - (2 / 3) ** 0.5, rel=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(("loss", "slope"), [(100.0, 300.0), (torch.inf, 1.0), (5.0, torch.nan)])
def test_a_step_shrinks_to_a_tenth_at_most(loss, slope, dtype, implementation):
    """Where the cubic's minimiser is nearer, and where there is no cubic."""
    state = first_state(dtype)
    feed(state, 0.0, -1.0)
    feed(state, loss, slope)
    assert state.trial.item() == pytest.approx(0.1, rel=1e-6)


def test_expansion_keeps_the_best_point(dtype, implementation):
    """Steps of 1, 4, 16 along the arc; the last one is worse, so the one before is accepted."""
    state = first_state(dtype)
    feed(state, 10.0, -1.0)
    for trial, loss in ((1.0, 9.0), (4.0, 6.0), (16.0, 7.0)):
        assert state.trial.item() == trial
        feed(state, loss, -1.0)
    assert state.x.item() == 4
    assert state.scalars[0, Scalar.F] == 6
    assert state.counters[0, Counter.PHASE] == Phase.SEARCH


def test_expansion_ends_at_the_bound(dtype, implementation):
    """No evaluation is spent on a point that is the same as the last."""
    state = ops.init(torch.zeros(1, 1, dtype=dtype), lower=-9.0, upper=3.0)
    feed(state, 10.0, -1.0)
    feed(state, 9.0, -1.0)
    assert state.trial.item() == 3
    feed(state, 7.0, -1.0)
    assert state.x.item() == 3


def test_second_direction_solves_a_quadratic_of_one_value(dtype, implementation):
    """The secant equation is Newton's there: f = (t - 5)^2 / 4 is solved by the third accepted."""
    state = first_state(dtype)
    for _ in range(20):
        t = state.trial.item()
        if state.counters[0, Counter.ITERATIONS] == 1:
            break
        feed(state, (t - 5) ** 2 / 4, (t - 5) / 2)
    assert t == pytest.approx(5, rel=8 * torch.finfo(dtype).eps)


def test_a_step_without_curvature_leaves_no_pair(dtype, implementation):
    """A second one in a row empties the ring."""
    state = first_state(dtype, n=1)
    state.counters[0, Counter.COUNT] = 3
    state.counters[0, Counter.HEAD] = 3
    feed(state, 0.0, -1.0)
    for count, loss in ((3, -1.0), (0, -5.0)):
        state.counters[0, [Counter.COUNT, Counter.TRIALS]] = torch.tensor([3, 1]).int()
        feed(state, loss, -1.0)
        assert state.counters[0, Counter.COUNT] == count
    assert state.counters[0, Counter.ITERATIONS] == 2


STATUSES = {
    # options, then loss and slope of each evaluation
    Status.GRADIENT: ({"gradient_tolerance": 0.1}, [(1.0, -0.5), (0.9, 0.1)]),
    Status.RELATIVE_F: ({"relative_tolerance": 0.01}, [(100.0, -1.0), (99.1, -0.05)]),
    Status.STAGNATION: ({"stagnation_tolerance": 0.1, "stagnation_window": 2}, [(5, -1), (5, 1)]),
    Status.EVALUATIONS: ({"max_evaluations": 2}, [(1.0, -1.0), (0.5, -0.1)]),
    Status.NON_FINITE: ({}, [(torch.nan, 1.0)]),
}


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.name)
def test_each_status(status, dtype, implementation):
    options, evaluations = STATUSES[status]
    state = first_state(dtype, **options)
    for loss, slope in evaluations:
        assert state.status.item() == Status.RUNNING
        feed(state, loss, slope)
    assert state.status.item() == status


@pytest.mark.parametrize(
    "bad", ["loss nan", "loss inf", "loss -inf", "gradient nan", "gradient inf"]
)
def test_not_finite_at_the_start_stops_and_elsewhere_shrinks(bad, dtype, implementation):
    what, kind = bad.split()
    loss, slope = (float(kind), 1.0) if what == "loss" else (1.0, float(kind))
    state = first_state(dtype)
    feed(state, loss, slope)
    assert state.status.item() == Status.NON_FINITE
    state = first_state(dtype)
    feed(state, 0.0, -1.0)
    feed(state, loss - 5, slope)
    assert state.status.item() == Status.RUNNING
    assert state.x.item() == 0
    assert state.trial.item() == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("norm", ["none", "l1"])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("constrained", [PLAIN, ODD], ids=["plain", "mixed"])
def test_nothing_leaves_the_box(constrained, box, norm, dtype, implementation):
    """Bitwise, at every round, also where lower == upper."""
    state = start(norm, box, "never", 3, noise, constrained, dtype)
    for turn in range(12):
        for points in (state.trial, state.x) if turn else (state.trial,):
            assert (points >= state.lower).all()
            assert (points <= state.upper).all()
        ops.lbfgs_step(state, *noise(state.trial, turn))


def advance(state, rounds, evaluation=noise):
    for turn in range(rounds):
        ops.lbfgs_step(state, *evaluation(state.trial, turn))
    return state


def slots_equal(state, other, rows, others):
    """Whether slots of one state and of another hold the same bits."""
    pairs = ((getattr(state, name)[rows], getattr(other, name)[others]) for name in FIELDS)
    return all(torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5)) for a, b in pairs)


@some_runs
def test_some_slots_in_any_order(run, dtype, implementation):
    """Slots that are named advance as they would together; the others keep every bit."""
    state = advance(start(*run, dtype=dtype), 9)
    together, before = copy(state), copy(state)
    loss, gradient = noise(state.trial, 9)
    ops.lbfgs_step(together, loss, gradient)
    slots = torch.tensor([7, 2, 10, 3])
    ops.lbfgs_step(state, loss[slots], gradient[slots], slots)
    rest = torch.tensor([k for k in range(len(PROBLEMS)) if k not in slots])
    assert slots_equal(state, together, slots, slots)
    assert slots_equal(state, before, rest, rest)
    assert not slots_equal(state, before, slots, slots)


def test_no_slots(dtype, implementation):
    state = advance(start(*RUNS[7], dtype=dtype), 3)
    before = copy(state)
    none = torch.zeros(0, dtype=torch.int64)
    ops.lbfgs_step(state, torch.zeros(0, dtype=dtype), torch.zeros(0, N, dtype=dtype), none)
    assert slots_equal(state, before, slice(None), slice(None))


@some_runs
def test_stopped_slots_are_left_alone(run, dtype, implementation):
    """Every kind of stop, and NaN in their rows, as a finished network may give."""
    state = advance(start(*run, dtype=dtype), 9)
    stopped = torch.arange(5)
    state.counters[stopped, Counter.STATUS] = torch.arange(1, 6).int()
    before = copy(state)
    loss, gradient = noise(state.trial, 9)
    loss[stopped], gradient[stopped] = torch.nan, torch.nan
    ops.lbfgs_step(state, loss, gradient)
    assert slots_equal(state, before, stopped, stopped)
    assert not slots_equal(state, before, slice(5, None), slice(5, None))


@some_runs
def test_padding_is_not_used(run, dtype, implementation):
    """Rows of the state are padded to whole cache lines: what is there changes nothing."""
    state = advance(start(*run, dtype=dtype), 9)
    spoiled = copy(state)
    spoiled.vectors[..., N:] = torch.nan
    spoiled.history[..., N:] = torch.nan
    assert spoiled.vectors.shape[2] > N
    for each in (state, spoiled):
        ops.lbfgs_step(each, *noise(each.trial, 9))
    spoiled.vectors[..., N:] = spoiled.history[..., N:] = 0
    assert slots_equal(spoiled, state, slice(None), slice(None))


@some_runs
def test_gradients_cut_out_of_a_larger_tensor(run, dtype, implementation):
    state = advance(start(*run, dtype=dtype), 9)
    other = copy(state)
    loss, gradient = noise(state.trial, 9)
    frame = torch.full((2 * len(loss) + 1, N + 6), torch.nan, dtype=dtype)
    ops.lbfgs_step(state, loss, gradient)
    ops.lbfgs_step(other, loss, frame[1::2, 3 : 3 + N].copy_(gradient))
    assert slots_equal(state, other, slice(None), slice(None))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("constrained", [PLAIN, ODD, EVEN], ids=["plain", "odd", "even"])
def test_new_problems_in_old_slots(constrained, norm, dtype, implementation):
    """After load nothing of the old problem shows, whether its loss was a constraint or not."""
    old = advance(start(norm, "each", "never", 3, noise, ODD, dtype), 12)
    fresh = start(norm, "each", "never", 3, noise, constrained, dtype)
    slots, every = torch.tensor([4, 1]), {} if norm == "none" else {"x0": fresh.x0[[4, 1]]}
    if constrained != PLAIN:
        for name in ("mu", "rho", "first_step"):
            every[name] = fresh.scalars[slots, Scalar[name.upper()]]
    old.load(
        slots,
        fresh.trial[slots],
        c=fresh.scalars[slots, Scalar.C],
        lower=fresh.lower[slots],
        upper=fresh.upper[slots],
        **every,
    )
    for turn in range(12):
        loss, gradient = noise(fresh.trial, turn)
        ops.lbfgs_step(fresh, loss, gradient)
        ops.lbfgs_step(old, loss[slots], gradient[slots], slots)
        for which in ("trial", "scalars", "counters"):
            assert torch.equal(getattr(old, which)[slots], getattr(fresh, which)[slots])


def test_start_and_load_move_into_the_box(dtype):
    state = ops.init(torch.tensor([[-3.0, 0.5, 3.0]], dtype=dtype), lower=0.0, upper=1.0)
    assert state.trial.tolist() == [[0, 0.5, 1]]
    state.load(torch.tensor([0]), torch.tensor([[9.0, -9.0, 0.25]], dtype=dtype))
    assert state.trial.tolist() == [[1, 0, 0.25]]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("rows", "n"), [(0, 5), (3, 0)])
def test_nothing_to_do(rows, n, norm, dtype, implementation):
    """Without values every gradient is 0: solved at the start."""
    x0 = torch.zeros(rows, n, dtype=dtype)
    state = ops.init(x0, norm=norm, x0=None if norm == "none" else x0)
    ops.lbfgs_step(state, torch.ones(rows, dtype=dtype), x0)
    assert state.status.tolist() == [Status.GRADIENT] * rows


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [1000, 40_000])
@pytest.mark.parametrize("constrained", [PLAIN, EVEN], ids=["plain", "mixed"])
def test_bits_depend_on_neither_batch_nor_threads(constrained, n, norm, dtype, isa, threads):
    """Nine images: enough for two threads to take whole ones; one alone is cut into tiles."""

    def begin(rows=slice(None)):
        torch.manual_seed(0)
        x0 = torch.rand(9, n, dtype=dtype)[rows]
        given = {"norm": norm, "x0": None if norm == "none" else x0}
        state = ops.init(x0, lower=0.0, upper=1.0, history=2, options=STOPS["never"], **given)
        state.trial.mul_(0.9)
        if constrained != PLAIN:
            whole = ops.init(x0.new_zeros(9, 1))
            constrain(whole, constrained)
            state.scalars.copy_(whole.scalars[rows])
        return state

    def run(state, rows, count):
        with threads(count):
            for turn in range(7):
                generator = torch.Generator().manual_seed(turn)
                loss = torch.rand(9, generator=generator).to(dtype) + 6 - turn
                gradient = torch.rand(9, n, generator=generator).to(dtype) - 0.5
                ops.lbfgs_step(state, loss[rows], gradient[rows])
        return state

    every = slice(None)
    batch = run(begin(), every, 1)
    assert slots_equal(run(begin(), every, 2), batch, every, every)
    for row in (0, 8):
        rows = slice(row, row + 1)
        assert slots_equal(run(begin(rows), rows, 2), batch, every, rows)


@pytest.mark.parametrize("norm", NORMS)
def test_equals_the_composition_of_the_ops(norm, dtype, implementation):
    """After each accepted trial: penalty's value, gradient and free set, two_loop's direction."""
    state = start(norm, "each", "never", 4, evaluate, dtype=dtype)
    x0 = state.trial.clone() if norm == "none" else state.x0
    checked = 0
    for turn in range(12):
        tried = state.trial.clone()
        loss, g_loss = evaluate(tried, turn)
        ops.lbfgs_step(state, loss, g_loss)
        ct, (S, Y) = state.counters.long(), state.history[..., :N].unbind(2)
        value, g, free = ops.penalty(
            tried,
            x0,
            g_loss,
            state.scalars[:, Scalar.C].to(dtype).contiguous(),
            norm=norm,
            lower=state.lower,
            upper=state.upper,
        )
        head, count = ct[:, Counter.HEAD].contiguous(), ct[:, Counter.COUNT].contiguous()
        direction = ops.two_loop(g, S, Y, head, count, free)
        accepted = (state.x == tried).all(1) & (ct[:, Counter.TRIALS] == 0)
        accepted &= (ct[:, Counter.STATUS] == Status.RUNNING) & (ct[:, Counter.COUNT] > 0)
        accepted &= ct[:, Counter.PHASE] == Phase.SEARCH
        checked += int(accepted.sum())
        f = (loss.double() + value).to(dtype)
        got = state.vectors[:, Vector.DIRECTION, :N]
        scale = direction.abs().amax(1, keepdim=True)
        for ours, theirs in (
            (state.scalars[:, Scalar.F].to(dtype), f),
            (state.vectors[:, Vector.G, :N], g),
            (got / scale, direction / scale),
        ):
            close = {"rtol": ONE_STEP[dtype], "atol": ONE_STEP[dtype]}
            torch.testing.assert_close(ours[accepted], theirs[accepted], **close)
    assert checked > 20


def test_registration():
    """As torch.ops.advkit.lbfgs_step: the state taken apart, five of its tensors written."""
    state = start("l2sq", "each", "gradient", 2, evaluate, ODD, torch.float32)
    loss, gradient = evaluate(state.trial, 0)
    args = (
        *(loss, gradient, torch.arange(len(loss)), state.trial, state.vectors, state.history),
        *(state.scalars, state.counters, state.x0, state.lower, state.upper, state.norm),
        *([1e-5, 1e-9, 1e-9], 20, 500),
    )
    torch.library.opcheck(torch.ops.advkit.lbfgs_step.default, args)
    other = copy(state)
    torch.ops.advkit.lbfgs_step(*args)
    ops.lbfgs_step(dataclasses.replace(other, options=Options()), loss, gradient)
    assert slots_equal(state, other, slice(None), slice(None))
