"""lbfgs_step where the loss is a constraint, loss <= 0: multipliers, problems with known answers.

That the kernels equal the reference round by round, that nothing leaves the box and that bits
depend on neither batch nor threads is in test_lbfgs_step.py, whose runs mix slots of both kinds.
"""

import pytest
import torch
from tolerances import ONE_STEP

from advkit import ops
from advkit.norms import NORMS
from advkit.ops import Options, Status
from advkit.ops.lbfgs_step.state import Counter, Phase, Scalar, Vector

N = 37  # whole registers and a rest, in every instruction set

# Stops for nothing but its budget, or where no step lowers f any more.
NEVER = Options(-1.0, -1.0, -1.0)


def first_state(dtype, rows=1, n=1, **scalars):
    """Return a state at 0 without bounds, its scalars set in every slot."""
    start = torch.zeros(rows, n, dtype=dtype)
    state = ops.init(start, options=NEVER)
    state.load(torch.arange(rows), start, **scalars)
    return state


def feed(state, loss, gradient):
    """Advance a state of one value by one evaluation, the same in every slot."""
    trial = state.trial
    ops.lbfgs_step(state, trial.new_full((len(trial),), loss), torch.full_like(trial, gradient))


def objective(norm, r, c, loss, g, mu, rho):
    """f and its gradient of one slot in plain float64, case by case.

    Where the norm has a kink, the gradient is the nearest to 0 of all.
    """
    w = max(0.0, mu + rho * loss)
    f = mu * loss + rho * loss**2 / 2 if w > 0 else -(mu**2) / (2 * rho)
    v = [w * gi for gi in g]
    length = sum(ri**2 for ri in r) ** 0.5
    if norm == "l2sq":
        return f + c * length**2, [vi + 2 * c * ri for vi, ri in zip(v, r, strict=True)]
    if norm == "l2" and length > 0:
        return f + c * length, [vi + c * ri / length for vi, ri in zip(v, r, strict=True)]
    if norm == "l2":
        pull = sum(vi**2 for vi in v) ** 0.5
        return f, [vi * (1 - c / pull) if pull > c else 0.0 for vi in v]
    if norm == "l1":
        return f + c * sum(map(abs, r)), [
            vi + c * (ri > 0) - c * (ri < 0) if ri else max(vi - c, 0.0) + min(vi + c, 0.0)
            for vi, ri in zip(v, r, strict=True)
        ]
    return f, v


# name: start - x0 in units of a normal (or: all of it), lower - start, c, loss there, mu, rho, step
CASES = {
    "from x0": (0.0, -torch.inf, 0.1, 0.5, 1.0, 2.0, 0.2),
    "from elsewhere": (0.1, -torch.inf, 0.1, 0.5, 0.5, 3.0, 0.2),
    "becomes inactive": (0.0, -torch.inf, 0.01, 0.3, 0.2, 1.0, 1.2),
    "inactive": (0.1, -0.005, 0.1, -1.0, 0.5, 1.0, 1.0),
    "to x0, where the loss pulls harder": ("all", -0.05, 0.1, 0.5, 1.0, 2.0, 1.0),
    "to x0, where the norm pulls harder": ("all", -0.05, 3.0, 0.5, 1.0, 2.0, 1.0),
}


def one_slot_for_each_case(norm, dtype):
    """Return a state with a slot for each of `CASES`, and the losses a x + b of its slots."""
    columns = list(zip(*CASES.values(), strict=True))
    c, h, mu, rho, first_step = (torch.tensor(column, dtype=dtype) for column in columns[2:])
    x0 = 0.3 + 0.4 * torch.rand(len(CASES), N, dtype=dtype)
    start = x0 + torch.stack(
        [torch.full((N,), 0.05) if size == "all" else size * torch.randn(N) for size in columns[0]]
    ).to(dtype)
    lower = start + torch.tensor(columns[1], dtype=dtype)[:, None]
    last = slice(len(CASES) - 2, None)
    lower[last] = x0[last]
    state = ops.init(
        start,
        lower=lower,
        norm=norm,
        x0=None if norm == "none" else x0,
        c=c,
        history=4,
        options=NEVER,
    )
    state.load(torch.arange(len(CASES)), start, mu=mu, rho=rho, first_step=first_step)
    a = (0.5 + torch.rand(len(CASES), N)) * torch.where(torch.rand(len(CASES), N) < 0.5, -1, 1)
    a[last] = a[last].abs()
    a = (a / a.square().sum(1, keepdim=True).sqrt()).to(dtype)
    b = h.double() - (a.double() * start.double()).sum(1)
    return state, x0, a, b


def bfgs(s, y, g):
    """The inverse Hessian of one pair times g, from its formula (Nocedal & Wright 2006, 6.17)."""
    sy, eye = s @ y, torch.eye(len(s), dtype=torch.float64)
    V = eye - torch.outer(y, s) / sy
    return (V.T @ V * (sy / (y @ y)) + torch.outer(s, s) / sy) @ g


@pytest.mark.parametrize("norm", NORMS)
def test_every_accepted_point_against_plain_arithmetic(norm, dtype, fast_implementation):
    """Multiplier, f, g, pair and direction; at rejected points none of them moves."""
    state, x0, a, b = one_slot_for_each_case(norm, dtype)
    close = {"rtol": ONE_STEP[dtype], "atol": ONE_STEP[dtype]}
    accepted, quasi_newton = [], 0
    for turn in range(5):
        before, tried, old = state.scalars.clone(), state.trial.clone(), state.counters.clone()
        x, g = state.x.double().clone(), state.vectors[:, Vector.G, :N].double().clone()
        loss = ((a.double() * tried.double()).sum(1) + b).to(dtype)
        ops.lbfgs_step(state, loss, a)
        for k in (old[:, Counter.STATUS] == Status.RUNNING).nonzero()[:, 0].tolist():
            mu, rho, c = before[k, [Scalar.MU, Scalar.RHO, Scalar.C]].tolist()
            evaluation = (
                *(norm, (tried[k] - x0[k]).double().tolist(), c),
                *(loss[k].item(), a[k].double().tolist()),
            )
            _, g_tried = objective(*evaluation, mu, rho)
            got = state.vectors[k, :, :N].double()
            g_tried = got.new_tensor(g_tried)
            torch.testing.assert_close(got[Vector.TRIAL_G], g_tried, **close)
            now, new = state.scalars[k], state.counters[k]
            stepped = new[Counter.ITERATIONS] > old[k, Counter.ITERATIONS]
            if turn and not stepped:
                assert torch.equal(now[[Scalar.MU, Scalar.F]], before[k, [Scalar.MU, Scalar.F]])
                assert torch.equal(got[Vector.X], x[k])
                assert torch.equal(got[Vector.G], g[k])
                continue
            assert torch.equal(state.x[k], tried[k])
            if stepped:
                accepted.append((turn, k))
                mu = max(0.0, mu + rho * loss[k].item())
                s, y = tried[k].double() - x[k], g_tried - g[k]
                if s @ y > 1e-3 * s.norm() * y.norm() and y.norm() > 1e-3 * g[k].norm():
                    pair = state.history[k, (new[Counter.HEAD] - 1) % 4, :, :N].double()
                    assert new[Counter.HEAD] == (old[k, Counter.HEAD] + 1) % 4
                    torch.testing.assert_close(pair, torch.stack((s, y)), **close)
            f, g_now = objective(*evaluation, mu, rho)
            g_now = got.new_tensor(g_now)
            torch.testing.assert_close(now[Scalar.MU], now.new_tensor(mu), **close)
            torch.testing.assert_close(now[Scalar.F], now.new_tensor(f), **close)
            torch.testing.assert_close(got[Vector.G], g_now, **close)
            if turn == 1 and k < 3 and norm != "l1" and g_now.any():  # all variables are free
                quasi_newton += 1
                aim = tried[k].double() - bfgs(s, y, g_now)
                torch.testing.assert_close(state.trial[k].double(), aim, **close)
    moving = [k for k in range(len(CASES)) if norm != "none" or k != 3]
    assert [k for turn, k in accepted if turn == 1] == moving
    assert len(accepted) > len(CASES)
    assert quasi_newton >= (0 if norm == "l1" else 2)


def test_the_cases_are_what_they_are_called(dtype, implementation):
    """The second evaluation: constraints that stop to be active, points on all of the kinks."""
    state, x0, a, b = one_slot_for_each_case("l1", dtype)
    for _ in range(2):
        loss = ((a.double() * state.trial.double()).sum(1) + b).to(dtype)
        ops.lbfgs_step(state, loss, a)
    assert (state.scalars[:, Scalar.MU] > 0).tolist() == [True, True, False, False, True, True]
    assert (state.x == x0).all(1).tolist() == [False, False, False, False, True, True]
    assert (state.x == x0).any(1)[:4].sum() >= 1
    gradient = state.vectors[4:, Vector.G, :N]
    assert gradient.any(1).tolist() == [True, False]


def linear(dtype, box):
    """Return x0, a and h of linear constraints a (x - x0) + h <= 0 that can be met in [0, 1]."""
    x0 = 0.1 + 0.8 * torch.rand(6, N, dtype=dtype)
    a = torch.randn(6, N, dtype=dtype) * torch.logspace(-2, 2, 6, dtype=dtype)[:, None]
    most = torch.where(a > 0, a * x0, a * (x0 - 1)).sum(1)
    return x0, a, most * (torch.linspace(0.5, 0.85, 6, dtype=dtype) if box else 0.01)


def halves_of_squares(state, x0, h, slope):
    """Set the scalars that solve a linear constraint in one step: h and |a|^2 at x0."""
    state.load(
        torch.arange(len(x0)),
        x0,
        c=0.5,
        mu=h / slope,
        rho=2 / slope,
        first_step=1 / 3,
    )


@pytest.mark.parametrize("lower", [0.0, -torch.inf], ids=["box", "open"])
def test_second_evaluation_is_the_nearest_point_of_a_plane(lower, dtype, implementation):
    x0, a, h = linear(dtype, box=False)
    state = ops.init(x0, norm="l2sq", x0=x0, lower=lower, upper=1.0, options=NEVER)
    slope = a.square().sum(1)
    halves_of_squares(state, x0, h, slope)
    ops.lbfgs_step(state, h, a)
    close = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 8 * torch.finfo(dtype).eps}
    nearest = x0 - (h / slope)[:, None] * a
    torch.testing.assert_close(state.trial, nearest, **close)
    ops.lbfgs_step(state, (a * (state.trial - x0)).sum(1) + h, a)
    torch.testing.assert_close(state.x, nearest, **close)
    lam, wanted = state.scalars[:, Scalar.MU], (h / slope).double()
    torch.testing.assert_close(lam, wanted, rtol=50 * torch.finfo(dtype).eps, atol=0)
    gradient = state.vectors[:, Vector.G, :N]
    assert (gradient.abs().amax(1) <= 50 * torch.finfo(dtype).eps).all()


FOUND = {torch.float32: 1e-4, torch.float64: 1e-5}


def test_nearest_point_of_a_plane_in_a_box(dtype, fast_implementation):
    """Many bounds are active. The multiplier that solves it is found by bisection."""
    x0, a, h = linear(dtype, box=True)
    low, high = h.new_zeros(6, 1).double(), h.new_full((6, 1), 1e6).double()
    A, X, H = a.double(), x0.double(), h.double()
    for _ in range(200):
        lam = (low + high) / 2
        met = ((A * ((X - lam * A).clamp(0, 1) - X)).sum(1) + H <= 0)[:, None]
        low, high = torch.where(met, low, lam), torch.where(met, lam, high)
    nearest = (X - lam * A).clamp(0, 1)
    assert (((nearest == 0) | (nearest == 1)).sum(1) >= 2).all()
    state = ops.init(x0, norm="l2sq", x0=x0, lower=0.0, upper=1.0, options=NEVER)
    halves_of_squares(state, x0, h, a.square().sum(1))
    for _ in range(40):
        ops.lbfgs_step(state, (A * (state.trial.double() - X)).sum(1).add(H).to(dtype), a)
    error = (state.x - nearest).norm(dim=1) / (nearest - X).norm(dim=1)
    assert (error <= FOUND[dtype]).all()
    torch.testing.assert_close(state.scalars[:, Scalar.MU], lam[:, 0], rtol=FOUND[dtype], atol=0)


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_nearest_point_of_a_ball(inside, dtype, fast_implementation):
    """|x - t|^2 <= R^2: the multiplier is (d - R) / 2R. Inside it: where it starts.

    Not much smaller than d: the constraint's slope falls to R / d of that at x0, which set rho.
    """
    x0, t = torch.rand(6, N, dtype=dtype), torch.rand(6, N, dtype=dtype) + 1
    d = (x0 - t).double().norm(dim=1)
    R = d * (1.1 if inside else torch.linspace(0.6, 0.95, 6).double())
    state = ops.init(x0, norm="l2sq", x0=x0, options=NEVER)

    def evaluate(x):
        away = x.double() - t.double()
        return (away.square().sum(1) - R**2).to(dtype), 2 * away.to(dtype)

    loss, g = evaluate(x0)
    halves_of_squares(state, x0, loss.clamp(min=0), g.square().sum(1))
    for _ in range(40):
        ops.lbfgs_step(state, *evaluate(state.trial))
    r = (R / d).clamp(max=1)[:, None] * (x0 - t).double() + t - x0
    error = (state.x - x0 - r).norm(dim=1) / (1 if inside else r.norm(dim=1))
    assert (error <= FOUND[dtype]).all()
    lam = ((d - R) / (2 * R)).clamp(min=0)
    torch.testing.assert_close(state.scalars[:, Scalar.MU], lam, rtol=FOUND[dtype], atol=0)


def test_a_constrained_slot_does_not_expand(dtype, implementation):
    """The same losses, steep at the trial: one slot goes on along the arc, the other accepts."""
    state = first_state(dtype, rows=2, mu=1.0, rho=torch.tensor([0.0, 1e-3]))
    for loss in (10.0, 9.0):
        feed(state, loss, -1.0)
    assert state.counters[:, Counter.PHASE].tolist() == [Phase.EXPAND, Phase.SEARCH]
    assert state.counters[:, Counter.ITERATIONS].tolist() == [0, 1]
    assert state.scalars[:, Scalar.STEP].tolist() == [4, 1]
    assert state.trial[0].item() == 4
    assert 0 < state.x[1].item() <= 1.01


def test_without_rho_the_multiplier_is_not_used(dtype, implementation):
    state = first_state(dtype, rows=2, mu=torch.tensor([0.0, 7.0]))
    for loss, slope in ((10.0, -1.0), (9.0, -1.0), (6.0, -1.0), (7.0, 0.5), (5.0, 0.1)):
        feed(state, loss, slope)
    assert state.scalars[:, Scalar.MU].tolist() == [0, 7]
    state.scalars[:, Scalar.MU] = 0
    for tensor in (state.trial, state.vectors, state.history, state.scalars, state.counters):
        assert torch.equal(tensor[0], tensor[1])


@pytest.mark.parametrize("rho", [0.0, 0.5])
@pytest.mark.parametrize("upper", [0.6, torch.inf])
@pytest.mark.parametrize("norm", ["none", "l2sq"])
def test_first_step(norm, upper, rho, dtype, implementation):
    """The factor of -g where it is positive, of the whole objective; else the rule."""
    x = torch.full((4, 3), 0.5, dtype=dtype)
    x0 = None if norm == "none" else x - 0.25
    state = ops.init(x, lower=-0.5, upper=upper, norm=norm, x0=x0, options=NEVER)
    steps = torch.tensor([0.0, 0.125, 0.5, 3.0])
    state.load(torch.arange(4), x, mu=1.5, rho=rho, first_step=steps)
    g = torch.tensor([[0.25, -0.5, 0.75]], dtype=dtype).expand(4, 3)
    ops.lbfgs_step(state, torch.ones(4, dtype=dtype), g.contiguous())
    g = g * (2 if rho else 1) + (0.5 if norm == "l2sq" else 0)
    steps = steps.to(dtype)[:, None]
    steps[0] = 1 if upper < 1 else 1 / max(1.0, g[0].abs().sum().item())
    torch.testing.assert_close(state.trial, (x - steps * g).clamp(-0.5, upper))


def test_first_step_wherever_there_are_no_pairs(dtype, implementation):
    """A pair without curvature is skipped: the second step is as the first."""
    state = first_state(dtype, mu=1.0, rho=1.0, first_step=0.125)
    feed(state, 1.0, -1.0)  # weight 2
    assert state.trial.item() == 0.25
    feed(state, 0.0, -2.0)  # weight 1, before the multiplier has moved and after
    assert state.counters[0, [Counter.ITERATIONS, Counter.COUNT]].tolist() == [1, 0]
    assert state.trial.item() == 0.5


def test_the_multiplier_moves_where_a_step_is_accepted(dtype, implementation):
    """Not at the start and not at a trial that is rejected."""
    state = first_state(dtype, mu=0.5, rho=2.0, first_step=0.25)
    feed(state, 1.0, -4.0)
    assert state.scalars[0, [Scalar.MU, Scalar.F]].tolist() == [0.5, 1.5]
    feed(state, 3.0, 8.0)
    assert state.counters[0, Counter.TRIALS] == 1
    assert state.scalars[0, [Scalar.MU, Scalar.F]].tolist() == [0.5, 1.5]
    feed(state, 0.25, -4.0)
    assert state.counters[0, Counter.ITERATIONS] == 1
    assert state.scalars[0, [Scalar.MU, Scalar.F]].tolist() == [1.0, 0.3125]
    feed(state, -4.0, -4.0)
    assert state.counters[0, Counter.ITERATIONS] == 2
    assert state.scalars[0, [Scalar.MU, Scalar.F]].tolist() == [0, 0]


@pytest.mark.parametrize("bad", ["loss nan", "loss inf", "gradient nan", "gradient inf"])
def test_not_finite_at_the_start_stops_and_elsewhere_shrinks(bad, dtype, implementation):
    what, kind = bad.split()
    loss, slope = (float(kind), 1.0) if what == "loss" else (1.0, float(kind))
    state = first_state(dtype, mu=1.0, rho=1.0)
    feed(state, loss, slope)
    assert state.status.item() == Status.NON_FINITE
    state = first_state(dtype, mu=1.0, rho=1.0, first_step=1.0)
    feed(state, 0.0, -1.0)
    feed(state, loss, slope)
    assert state.status.item() == Status.RUNNING
    assert state.x.item() == 0
    assert state.scalars[0, Scalar.MU] == 1
    assert state.trial.item() == pytest.approx(0.1, rel=1e-6)


NEW = [Scalar.MU, Scalar.RHO, Scalar.FIRST_STEP]


def test_load_takes_tensors_and_numbers(dtype):
    """A value for each slot that is named, in whatever dtype; the others keep theirs."""
    state = first_state(dtype, rows=5, n=2)
    assert not state.scalars[:, NEW].any()
    slots = torch.tensor([4, 1, 2])
    mu, rho = torch.tensor([0.5, 1.5, 2.5], dtype=dtype), torch.tensor([8, 0, 2])
    state.load(slots, torch.ones(3, 2, dtype=dtype), mu=mu, rho=rho, first_step=0.1)
    assert state.scalars.dtype == torch.float64
    assert state.scalars[slots][:, NEW].tolist() == [[0.5, 8, 0.1], [1.5, 0, 0.1], [2.5, 2, 0.1]]
    assert not state.scalars[[0, 3]][:, NEW].any()
    assert state.scalars[:, Scalar.C].tolist() == [1] * 5
    state.load(slots[:2], torch.ones(2, 2, dtype=dtype), first_step=torch.tensor([0.25, 0.75]))
    assert state.scalars[slots][:, NEW].tolist() == [[0, 0, 0.25], [0, 0, 0.75], [2.5, 2, 0.1]]


def test_load_makes_a_slot_plain_again(dtype, implementation):
    """What is not given is 0, not what was there, whatever moved it."""
    state = first_state(dtype, mu=1.0, rho=1.0, first_step=0.125)
    for loss in (1.0, 0.5):
        feed(state, loss, -1.0)
    assert state.scalars[0, NEW].all()
    state.load(torch.tensor([0]), state.trial.new_zeros(1, 1))
    assert not state.scalars[0, NEW].any()
    plain = first_state(dtype)
    for loss in (10.0, 9.0, 6.0, 7.0):
        for each in (state, plain):
            feed(each, loss, -1.0)
        assert torch.equal(state.trial, plain.trial)
        assert torch.equal(state.scalars, plain.scalars)
