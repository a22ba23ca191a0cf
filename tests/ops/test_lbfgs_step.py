"""lbfgs_step: the fused kernels against the reference, and both against what is promised.

The reference is composed of the references of the other ops; rounds.py has what drives both. What
is said of slots whose loss is a constraint is in test_lbfgs_step_constraint.py.
"""

import dataclasses
from collections import Counter as Tally

import pytest
import torch
from rounds import (
    BOUNDS,
    BOXES,
    EVEN,
    FIELDS,
    MIXED,
    ODD,
    PLAIN,
    PROBLEMS,
    RUNS,
    STOPS,
    N,
    constrain,
    copy,
    differences,
    evaluate,
    in_16_bits,
    new_pairs,
    noise,
    recorded,
    run_name,
    seen,
    single,
    start,
    telling,
)
from tolerances import ONE_STEP, relative_error

from advkit import ops
from advkit.norms import NORMS
from advkit.ops import Options, Status, use_backend
from advkit.ops.lbfgs_step.state import Counter, Phase, Scalar, Vector

SOME = torch.arange(1, len(PROBLEMS), 4)  # slots, for what does not depend on the problem
some_runs = pytest.mark.parametrize(
    "run", [RUNS[7], RUNS[MIXED]], ids=lambda run: run_name(run).rpartition("-")[2]
)
every_run = pytest.mark.parametrize(
    "index", range(len(RUNS)), ids=[f"{k}-{run_name(run)}" for k, run in enumerate(RUNS)]
)


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


@every_run
def test_one_round_equals_the_reference_in_triton(index, dtype, triton):
    """The same for slots that went different ways; the interpreter has no time for all."""
    before, loss, gradient, wanted = recorded(index)
    slots = telling(before, wanted, most=12 if (triton, dtype) == ("triton", torch.float32) else 3)
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
def test_nothing_leaves_the_box(constrained, box, norm, dtype, fast_implementation):
    """Bitwise, at every round, also where lower == upper."""
    state = start(norm, box, "never", 3, noise, constrained, dtype)
    for turn in range(12):
        for points in (state.trial, state.x) if turn else (state.trial,):
            assert (points >= state.lower).all()
            assert (points <= state.upper).all()
        ops.lbfgs_step(state, *noise(state.trial, turn))


def advance(state, rounds):
    """Return the state after so many rounds of noise, by the reference."""
    with use_backend("reference"):
        for turn in range(rounds):
            ops.lbfgs_step(state, *noise(state.trial, turn))
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
        loss, gradient = noise(each.trial, 9)
        ops.lbfgs_step(each, loss[SOME], gradient[SOME], SOME)
    spoiled.vectors[..., N:] = spoiled.history[..., N:] = 0
    assert slots_equal(spoiled, state, slice(None), slice(None))


@some_runs
def test_gradients_cut_out_of_a_larger_tensor(run, dtype, implementation):
    state = advance(start(*run, dtype=dtype), 9)
    other = copy(state)
    loss, gradient = (each[SOME] for each in noise(state.trial, 9))
    frame = torch.full((2 * len(loss) + 1, N + 6), torch.nan, dtype=dtype)
    ops.lbfgs_step(state, loss, gradient, SOME)
    ops.lbfgs_step(other, loss, frame[1::2, 3 : 3 + N].copy_(gradient), SOME)
    assert slots_equal(state, other, slice(None), slice(None))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("constrained", [PLAIN, ODD, EVEN], ids=["plain", "odd", "even"])
def test_new_problems_in_old_slots(constrained, norm, dtype, fast_implementation):
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
def test_equals_the_composition_of_the_ops(norm, dtype, fast_implementation):
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


STORED = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize("index", [0, 8, 16], ids=lambda k: run_name(RUNS[k]))
def test_one_round_with_pairs_of_16_bits(index, stored, implementation):
    """The decisions are those of the reference, the direction that of the rounded pairs."""
    if implementation.startswith("triton") and stored == torch.bfloat16:
        pytest.skip("Triton's interpreter cuts digits off; test_gpu_ptx.py has what it compiles")
    before, loss, gradient, after = recorded(index)
    slots = telling(before, after, most=20)
    before = in_16_bits(single(before), stored)
    loss, gradient = loss[slots].float(), gradient[slots].float()
    got, wanted = copy(before), copy(before)
    ops.lbfgs_step(got, loss, gradient, slots)
    with use_backend("reference"):
        ops.lbfgs_step(wanted, loss, gradient, slots)
    pair, exact = new_pairs(got, before, slots)
    assert len(pair) > 2
    assert torch.equal(pair, exact.to(stored))
    same = (got.counters == wanted.counters).all(1)
    assert (~same).sum() <= 1  # rounding may decide a comparison otherwise
    full = torch.zeros_like(before.trial)
    full[slots] = gradient
    for name, error in differences(got, wanted, before, full).items():
        if name not in ("S", "Y"):
            assert (error[same] <= BOUNDS.get(name, ONE_STEP)[torch.float32]).all(), name


def one_step(s_size, y_size, stored, n=63):
    """Return a state after one step, s and y about so long in each value."""
    g = y_size * torch.randn(1, n)
    state = ops.init(torch.zeros(1, n), history=2, history_dtype=stored, options=STOPS["never"])
    state.scalars[:, Scalar.FIRST_STEP] = s_size / y_size
    ops.lbfgs_step(state, torch.zeros(1), g)
    before = copy(state)
    g_next = g * torch.empty_like(g).uniform_(-0.5, 0.5)
    ops.lbfgs_step(state, -0.1 * (g * g).sum(1) * s_size / y_size, g_next)
    assert state.counters[0, [Counter.COUNT, Counter.TRIALS]].tolist() == [1, 0]
    s, y = (state.vectors[0, v, :n] - before.vectors[0, v, :n] for v in (Vector.X, Vector.G))
    return state, s, y, g_next


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize(
    ("s_size", "y_size"), [(1e-7, 1e-7), (1e6, 1e6), (1e-4, 1e2), (1e2, 1e-4), (1e-4, 1.0)]
)
def test_tiny_and_huge_pairs_in_16_bits(s_size, y_size, stored, implementation):
    """No value overflows, and few of the shorter one's digits are lost."""
    state, s, y, g = one_step(s_size, y_size, stored)
    S, Y = state.history[:, :, :, : len(s)].double().unbind(2)
    ring = torch.tensor([1]), torch.tensor([1])
    every = torch.ones_like(g, dtype=torch.bool)
    with use_backend("reference"):
        rounded = ops.two_loop(g.double(), S, Y, *ring, every)
        S[0, 0], Y[0, 0] = s, y
        exact = ops.two_loop(g.double(), S, Y, *ring, every)
    direction = state.vectors[:, Vector.DIRECTION, : len(s)]
    assert relative_error(direction, rounded.numpy()).max() < ONE_STEP[torch.float32]
    assert relative_error(direction, exact.numpy()).max() < 8 * torch.finfo(stored).eps


def test_a_pair_too_uneven_for_float16_is_not_used(implementation):
    """A curvature of 1e13: all of s is rounded to zero, which two_loop skips."""
    state, _, _, g = one_step(1e-7, 1e6, torch.float16)
    assert (state.history[0, 0, 0] == 0).all()
    assert state.history.isfinite().all()
    assert state.status.item() == Status.RUNNING
    direction = state.vectors[:, Vector.DIRECTION, : g.shape[1]]
    torch.testing.assert_close(direction, -1e-13 * g)


@pytest.mark.parametrize("stored", STORED, ids=str)
def test_padding_of_pairs_of_16_bits(stored):
    """Whole cache lines, of the vectors and of the pairs."""
    state = ops.init(torch.zeros(2, 33), history_dtype=stored)
    assert state.history.dtype == stored
    assert state.history.shape[-1] == state.vectors.shape[-1] == 64


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
