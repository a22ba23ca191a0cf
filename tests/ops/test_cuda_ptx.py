"""The CUDA kernels without a GPU: their plans, run by the PTX interpreter, against the reference.

The oracle is the reference in float64. The larger n take the split forms.
"""

import dataclasses

import pytest
import torch
from tolerances import DIRECTION, FEW_ROUNDINGS, ONE_STEP, WELL_CONDITIONED, exact, relative_error

pytest.importorskip("advkit._cuda", exc_type=ImportError)
compile_ = pytest.importorskip("ptx.compile")
if compile_.find_nvcc() is None:
    pytest.skip("there is no nvcc", allow_module_level=True)

from cuda_on_ptx import interpreted  # noqa: E402

from advkit import ops  # noqa: E402
from advkit.losses import LOSSES  # noqa: E402
from advkit.norms import NORMS  # noqa: E402
from advkit.ops import Options, Status, use_backend  # noqa: E402
from advkit.ops.class_loss import kernel_cuda as class_loss  # noqa: E402
from advkit.ops.lbfgs_step import kernel_cuda as lbfgs_step  # noqa: E402
from advkit.ops.lbfgs_step.state import Counter, Scalar, Vector  # noqa: E402
from advkit.ops.penalty import kernel_cuda as penalty  # noqa: E402
from advkit.ops.penalty.reference import free_set  # noqa: E402
from advkit.ops.two_loop import kernel_cuda as two_loop  # noqa: E402
from advkit.ops.two_loop import reference as two_loop_reference  # noqa: E402

pytestmark = pytest.mark.slow

SIZES = [1, 63, 129, 784, 1000, 3072, 5000, 16_385]


def pairs(rows, m, n, dtype):
    """Return g, S, Y, head, count and free; the curvature of each s lies in [0.5, 2]."""
    g, S = torch.randn(rows, n, dtype=dtype), torch.randn(rows, m, n, dtype=dtype)
    Y = S * torch.empty_like(S).uniform_(0.5, 2)
    head, count = torch.arange(rows) % m, torch.full((rows,), m)
    return g, S, Y, head, count, torch.rand(rows, n) < 0.7


def direction(*args):
    out = torch.full_like(args[0], torch.nan)
    two_loop.two_loop_out(*args, out)
    return out


def wanted(g, S, Y, *rest):
    return exact(two_loop_reference.two_loop(g.double(), S.double(), Y.double(), *rest))


@pytest.mark.parametrize("n", SIZES)
def test_two_loop(n, dtype):
    args = pairs(2, 3, n, dtype)
    with interpreted() as launched:
        got = direction(*args)
    assert relative_error(got, wanted(*args)).max() < WELL_CONDITIONED[dtype]
    split = n > (8192 if dtype == torch.float32 else 4096)
    assert len(launched) == (3 if split else 1)


@pytest.mark.parametrize("n", [63, 8200])
def test_two_loop_reads_no_place_that_is_not_filled_and_skips_bad_pairs(n, dtype):
    """Partly filled rings, negative curvature, NaN in a pair; rings outside of themselves."""
    g, S, Y, _, _, free = pairs(6, 3, n, dtype)
    head, count = torch.tensor([2, 1, 0, 0, 3, 0]), torch.tensor([2, 3, 3, 0, 3, 4])
    S[0, 2] = Y[0, 2] = torch.nan
    Y[1, 2] *= -1
    Y[2, 1] = torch.where(free[2] & (torch.arange(n) % 5 == 0), torch.nan, Y[2, 1])
    S[3] = Y[3] = torch.nan
    with interpreted():
        got = direction(g, S, Y, head, count, free)
    expected = wanted(*(each[:4] for each in (g, S, Y, head, count, free)))
    assert relative_error(got[:4], expected).max() < WELL_CONDITIONED[dtype]
    assert torch.equal(got[3:], -g[3:])


def test_two_loop_of_strided_and_unaligned_rows(dtype):
    g, S, Y, head, count, free = pairs(2, 3, 129, dtype)

    def cut(tensor):
        frame = tensor.new_full((*tensor.shape[:-1], 135), torch.nan)
        frame[..., 3:132] = tensor
        return frame[..., 3:132]

    with interpreted():
        got = direction(cut(g), cut(S), cut(Y), head, count, free)
        assert torch.equal(got, direction(g, S, Y, head, count, free))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("n", [784, 8200])
def test_same_bits_resident_or_not_and_in_any_order_of_warps(n, arch):
    args = pairs(2, 3, n, torch.float32)
    with interpreted(arch):
        got = direction(*args)
    with interpreted(arch, shared_memory=0, schedule="random", seed=1):
        assert torch.equal(direction(*args), got)


@pytest.mark.parametrize("n", [784, 8200])
@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16], ids=str)
def test_two_loop_with_pairs_of_16_bits(n, stored):
    g, S, Y, *rest = pairs(2, 3, n, torch.float32)
    args = g, S.to(stored), Y.to(stored), *rest
    with interpreted():
        got = direction(*args)
    assert relative_error(got, wanted(*args)).max() < WELL_CONDITIONED[torch.float32]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [1, 129, 1000, 16_385])
def test_penalty(n, norm, dtype):
    x, x0, g_loss = torch.rand(3, 3, n, dtype=dtype)
    x0[0] = x[0]
    x0[1, ::2] = x[1, ::2]
    g_loss, c = g_loss - 0.5, torch.tensor([0.1, 2.0, 0.5], dtype=dtype)
    lower, upper = torch.zeros(1, 1, dtype=dtype), x.clamp(min=0.5)
    out = x.new_empty(3), torch.empty_like(x), torch.empty(x.shape, dtype=torch.bool)
    with interpreted() as launched:
        penalty.penalty_out(x, x0, g_loss, c, lower, upper, norm, *out)
    assert len(launched) == (1 if n <= 16_384 else 3 if norm == "l2" else 2)
    with use_backend("reference"):
        value, gradient, _ = ops.penalty(
            *(each.double() for each in (x, x0, g_loss, c)),
            **{"norm": norm, "lower": lower.double(), "upper": upper.double()},
        )
        _, _, free = ops.penalty(x, x0, g_loss, c, norm=norm, lower=lower, upper=upper)
    close = WELL_CONDITIONED[dtype]
    torch.testing.assert_close(out[0].double(), value, rtol=close, atol=0)
    few = FEW_ROUNDINGS * torch.finfo(dtype).eps
    torch.testing.assert_close(out[1].double(), gradient, rtol=few, atol=4 * few)
    assert torch.equal(out[2], free)


@pytest.mark.parametrize("kind", [name for name in LOSSES if LOSSES[name].kernel_id is not None])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
def test_class_loss(kind, dtype):
    logits, labels = (3 * torch.randn(6, 41)).to(dtype), torch.tensor([0, 40, 7, 3, -1, 41])
    logits[2, 9] = torch.nan
    logits[3, 5] = logits[3, 6] = 9
    for targeted in (False, True):
        loss, dlogits = logits.new_empty(6), torch.empty_like(logits)
        setting = {"kind": kind, "targeted": targeted, "kappa": 0.5, "sharpness": 4.0}
        with interpreted():
            class_loss.class_loss_out(logits, labels, *setting.values(), loss, dlogits)
        with use_backend("reference"):
            expected = ops.class_loss(logits[:4].double(), labels[:4], **setting)
        few = 4 * torch.finfo(dtype).eps
        for got, each in zip((loss, dlogits), expected, strict=True):
            close = {"rtol": few, "atol": few, "equal_nan": True}
            torch.testing.assert_close(got[:4].double(), each, **close)
            assert got[4:].isnan().all()


def quartic(x):
    loss = ((x - torch.linspace(-2, 2, x.shape[1])) ** 4).sum(1) / x.shape[1]
    return loss, 4 * (x - torch.linspace(-2, 2, x.shape[1])) ** 3 / x.shape[1]


def waves(x):
    """Concave in places: pairs of negative curvature."""
    return torch.cos(4 * x).sum(1) + 0.3 * x.sum(1), 0.3 - 4 * torch.sin(4 * x)


def begin(n, norm, dtype, constrained=False):
    x0 = torch.rand(3, n, dtype=dtype) - 0.5
    upper = torch.where(torch.arange(n) % 3 == 0, 0.4, torch.inf).to(dtype)
    state = ops.init(
        x0 + 0.1 * torch.randn(x0.shape, dtype=dtype),
        **{"lower": -0.5, "upper": upper, "history": 3, "norm": norm},
        x0=None if norm == "none" else x0,
        c=torch.tensor([0.01, 0.1, 1.0]),
        options=Options(1e-6, -1.0, -1.0, 20, 60),
    )
    if constrained:
        state.scalars[::2, Scalar.MU], state.scalars[::2, Scalar.RHO] = 1.0, 0.1
    return state


def copy(state):
    fields = "trial", "vectors", "history", "scalars", "counters"
    return dataclasses.replace(state, **{name: getattr(state, name).clone() for name in fields})


def evaluate(problem, x):
    loss, gradient = problem(x.double())
    return loss.to(x.dtype), gradient.to(x.dtype)


def assert_same(got, expected, n, dtype):
    assert torch.equal(got.counters, expected.counters)
    one = {"rtol": ONE_STEP[dtype], "atol": ONE_STEP[dtype], "equal_nan": True}
    for which in Vector:
        a, b = got.vectors[:, which, :n], expected.vectors[:, which, :n]
        close = DIRECTION[dtype] if which == Vector.DIRECTION else ONE_STEP[dtype]
        torch.testing.assert_close(a, b, rtol=close, atol=close * max(1, b.abs().max().item()))
    torch.testing.assert_close(got.history, expected.history, **one)
    torch.testing.assert_close(got.scalars, expected.scalars, **one)
    atol = DIRECTION[dtype] * max(1, expected.trial.abs().max().item())
    torch.testing.assert_close(got.trial, expected.trial, rtol=DIRECTION[dtype], atol=atol)


@pytest.mark.parametrize("problem", [quartic, waves])
@pytest.mark.parametrize("norm", NORMS)
def test_lbfgs_step(norm, problem, dtype):
    """Eight rounds, each from the state of the reference; every second slot with a constraint."""
    state = begin(63, norm, dtype, constrained=True)
    slots = torch.arange(3)
    for _ in range(8):
        loss, gradient = evaluate(problem, state.trial)
        got = copy(state)
        with interpreted():
            lbfgs_step.lbfgs_step(got, loss, gradient, slots)
        with use_backend("reference"):
            ops.lbfgs_step(state, loss, gradient)
        assert_same(got, state, 63, dtype)
    assert (state.counters[:, Counter.ITERATIONS] > 2).any()


def rounds(state, enough, most=20):
    """Yield state, loss, gradient and next state of the rounds with `enough(counters)` after."""
    for _ in range(most):
        loss, gradient = evaluate(quartic, state.trial)
        after = copy(state)
        with use_backend("reference"):
            ops.lbfgs_step(after, loss, gradient)
        if enough(after.counters.T):
            yield state, loss, gradient, after
        state = after


def accepted(counters):
    """Return whether a slot has a new direction, made of two pairs or more."""
    return ((counters[Counter.COUNT] > 1) & (counters[Counter.TRIALS] == 0)).any()


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("n", [5000, 8200])
def test_lbfgs_step_of_large_images(n, norm, dtype):
    """In one block of most threads, and split: the first two rounds, and one with pairs."""
    state = begin(n, norm, dtype)
    first = [each for each, _ in zip(rounds(state, lambda _: True), range(2), strict=False)]
    for before, loss, gradient, expected in (*first, next(rounds(state, accepted))):
        got = copy(before)
        with interpreted() as launched:
            lbfgs_step.lbfgs_step(got, loss, gradient, torch.arange(3))
        split = n > (8192 if dtype == torch.float32 else 4096)
        assert len(launched) == (10 + (norm == "l2") if split else 1)
        assert_same(got, expected, n, dtype)


@pytest.mark.parametrize("n", [63, 8200])
def test_slots_that_have_stopped_or_do_not_exist_are_left_alone(n):
    state = begin(n, "l2", torch.float32)
    state.counters[1, Counter.STATUS] = Status.GRADIENT
    state.counters[2, Counter.HEAD] = 7  # outside of the ring
    before = copy(state)
    loss, gradient = evaluate(quartic, state.trial)
    rows = torch.tensor([0, 1, 2, 2, 2])
    with interpreted():
        slots = torch.tensor([3, 1, 2, -1, 2**40])
        lbfgs_step.lbfgs_step(state, loss[rows], gradient[rows], slots)
    for name in ("trial", "vectors", "history", "scalars", "counters"):
        assert torch.equal(getattr(state, name)[:2], getattr(before, name)[:2])
    assert not torch.equal(state.trial[2], before.trial[2])
    assert 0 <= state.counters[2, Counter.HEAD] < 3


@pytest.mark.parametrize("schedule", ["lowest", "random"])
def test_nan_stops_a_slot_at_its_start(schedule):
    state = begin(63, "l1", torch.float32)
    loss, gradient = evaluate(quartic, state.trial)
    gradient[1, 40] = torch.nan
    expected = copy(state)
    with interpreted("sm_80", schedule=schedule):
        lbfgs_step.lbfgs_step(state, loss, gradient, torch.arange(3))
    with use_backend("reference"):
        ops.lbfgs_step(expected, loss, gradient)
    assert state.status.tolist() == [Status.RUNNING, Status.NON_FINITE, Status.RUNNING]
    assert torch.equal(state.counters, expected.counters)


@pytest.mark.parametrize("n", [63, 8200])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16], ids=str)
def test_lbfgs_step_with_pairs_of_16_bits(n, stored):
    """The new pair is rounded, and the direction belongs to the rounded pairs."""
    before, loss, gradient, expected = next(rounds(begin(n, "none", torch.float32), accepted))
    got = dataclasses.replace(copy(before), history=before.history.to(stored))
    with interpreted():
        lbfgs_step.lbfgs_step(got, loss, gradient, torch.arange(3))
    assert torch.equal(got.counters, expected.counters)
    close = {"rtol": 2 * torch.finfo(stored).eps, "atol": torch.finfo(stored).smallest_normal}
    torch.testing.assert_close(got.history.float(), expected.history, **close)
    x, g, d = (got.vectors[:, k, :n] for k in (Vector.X, Vector.G, Vector.DIRECTION))
    free = free_set(x, g, got.lower, got.upper, got.scalars[:, Scalar.PROJECTED_GRADIENT])
    S, Y = (got.history[:, :, which, :n] for which in (0, 1))
    ring = (got.counters[:, which].long() for which in (Counter.HEAD, Counter.COUNT))
    new = (got.counters[:, Counter.TRIALS] == 0) & (got.counters[:, Counter.COUNT] > 1)
    error = relative_error(d, wanted(g, S, Y, *ring, free))
    assert error[new.numpy()].max() < ONE_STEP[torch.float32]
