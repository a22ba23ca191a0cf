"""Rounds of lbfgs_step as the reference made them: problems and noise that reach every branch.

The reference drives, and an implementation is compared in each round on its own, from the state
that the reference had before it: no difference can be hidden, or magnified, by the rounds before.
"""

import dataclasses
from functools import cache

import torch
from tolerances import CUBIC, DIRECTION

from advkit import ops
from advkit.norms import NORMS
from advkit.ops import Options, Status, use_backend
from advkit.ops.lbfgs_step.state import Counter, Phase, Scalar, Vector
from advkit.ops.two_loop.reference import pair_scale

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


def single(state):
    """Return the state in float32; rounding is monotonic, so what was in the box still is."""
    names = ("trial", "vectors", "history", "x0", "lower", "upper")
    return dataclasses.replace(state, **{name: getattr(state, name).float() for name in names})


def in_16_bits(state, stored):
    """Return a state of float32 with its pairs as lbfgs_step would have stored them."""
    ss, yy = state.history.double().square().sum(-1).unbind(2)
    scale = torch.where(ss + yy > 0, pair_scale(ss, yy), 1)[:, :, None, None]
    return dataclasses.replace(state, history=(scale.float() * state.history).to(stored))


def new_pairs(got, before, slots):
    """Return the pairs (k, 2, n) of 16 bits that a round stored, and the same before rounding."""
    n = before.trial.shape[1]
    head = before.counters[slots, Counter.HEAD]
    kept = slots[head != got.counters[slots, Counter.HEAD]]
    pair = got.history[kept, before.counters[kept, Counter.HEAD].long(), :, :n]
    vectors = (state.vectors[kept][:, [Vector.X, Vector.G], :n] for state in (got, before))
    exact = next(vectors) - next(vectors)
    scale = pair_scale(*exact.double().square().sum(-1).T)
    return pair, scale[:, None, None].float() * exact


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


def full_round(n, m, norm, rows=2, dtype=torch.float32, backend="reference", **options):
    """Return state, loss and gradient of a round that stores a pair in a full ring of each slot."""
    x0, goal = torch.rand(2, rows, n, dtype=dtype)
    c = torch.full((rows,), 0.05, dtype=dtype)
    state = ops.init(x0, lower=0.0, upper=1.0, norm=norm, x0=x0, history=m, c=c, **options)
    # Stiff, so that the solve does not end before a long ring is full.
    weight = torch.logspace(-2, 1, n, dtype=dtype)
    for _ in range(200):
        loss = (weight * (state.trial - goal) ** 4).sum(1)
        gradient = 4 * weight * (state.trial - goal) ** 3
        before = copy(state)
        with use_backend(backend):
            ops.lbfgs_step(state, loss, gradient)
        full = (before.counters[:, Counter.COUNT] == m).all()
        if full and (state.x != before.x).any(1).all():
            return before, loss, gradient
    raise AssertionError("no round has full rings and new points")
