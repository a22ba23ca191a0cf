"""The kernels for GPUs without a GPU: what Triton and nvcc compile, run by the PTX interpreter.

The oracle is the reference in float64. Whatever is touched outside of the tensors given is a fault,
and so is a race in shared memory.
"""

import importlib
from contextlib import contextmanager, nullcontext

import pytest
import torch
from ptx.compile import find_nvcc
from ptx.counts import sectors_of
from rounds import (
    BOUNDS,
    FIELDS,
    RUNS,
    copy,
    differences,
    full_round,
    in_16_bits,
    new_pairs,
    recorded,
    run_name,
    single,
    telling,
)
from split_rows import every_row_is_long
from tolerances import FEW_ROUNDINGS, ONE_STEP, WELL_CONDITIONED, exact, relative_error

from advkit import ops
from advkit.losses import LOSSES
from advkit.norms import NORMS
from advkit.ops import Options, Status, _dispatch, use_backend
from advkit.ops.lbfgs_step.state import Counter, Scalar, Vector
from advkit.ops.penalty.reference import free_set

pytestmark = pytest.mark.slow

HALF = [torch.float16, torch.bfloat16]


class Backend:
    """The kernels of a backend, and how they are run here.

    Of Triton's two forms "triton-split" is that of long rows, for rows of any length. "cuda-split"
    is CUDA on a GPU with so little shared memory that rows that registers cannot hold are cut.
    """

    def __init__(self, form):
        name, _, split = form.partition("-")
        self.split = split == "split"
        if name == "cuda":
            pytest.importorskip("advkit._cuda", exc_type=ImportError)
            if find_nvcc() is None:
                pytest.skip("there is no nvcc")
        else:
            pytest.importorskip("triton")
        self.name = name

    def __getattr__(self, op):
        return _dispatch.kernels(op, self.name)

    @contextmanager
    def interpreted(self, **how):
        run = importlib.import_module(f"{self.name}_on_ptx").interpreted
        cut = nullcontext()
        if self.split and self.name == "cuda":
            how["shared_memory"] = 0
        elif self.split:
            cut = every_row_is_long(tile=4096)  # a tile is two warps
        with cut, run(**how) as launched:
            yield launched

    def leave_out_what_is_the_same_in_both_forms(self, n):
        if self.split and (n <= 1024 if self.name == "cuda" else n > 16_384):
            pytest.skip(f"the same as {self.name}")

    def cuts(self, n, dtype):
        """Tell whether two_loop and lbfgs_step cut rows of n values into tiles."""
        if self.name == "cuda":
            in_registers = 3072 if dtype == torch.float32 else 1024
            return n > (in_registers if self.split else 16_384)
        is_long = importlib.import_module("advkit.ops._triton.launch").is_long
        return self.split or is_long(n, dtype.itemsize)


@pytest.fixture(params=["triton", "triton-split", "cuda", "cuda-split"])
def gpu(request):
    return Backend(request.param)


# What no form of CUDA's two-loop recursion changes, or is of images that registers hold.
cuda_in_one_form = pytest.mark.parametrize("gpu", ["triton", "triton-split", "cuda"], indirect=True)
in_one_launch = pytest.mark.parametrize("gpu", ["triton", "cuda"], indirect=True)


@pytest.fixture
def triton_only():
    return Backend("triton")


@pytest.fixture
def cuda_only():
    return Backend("cuda")


def pairs(rows, m, n, dtype):
    """Return g, S, Y, head, count and free; the curvature of each s lies in [0.5, 2]."""
    g, S = torch.randn(rows, n, dtype=dtype), torch.randn(rows, m, n, dtype=dtype)
    Y = S * torch.empty_like(S).uniform_(0.5, 2)
    head, count = torch.arange(rows) % m, torch.full((rows,), m)
    return g, S, Y, head, count, torch.rand(rows, n) < 0.7


def direction(gpu, *args, **how):
    out = torch.full_like(args[0], torch.nan)
    with gpu.interpreted(**how) as launched:
        gpu.two_loop.two_loop_out(*args, out)
    return out, [name for name, _ in launched]


def wanted(g, S, Y, *rest):
    with use_backend("reference"):
        return exact(ops.two_loop(g.double(), S.double(), Y.double(), *rest))


@pytest.mark.parametrize(
    ("n", "m"),
    [
        (1, 1),
        (63, 3),
        (129, 3),
        (784, 10),
        (1000, 3),
        (3072, 3),
        (4096, 3),
        (5000, 3),
        (8192, 3),
        (16_384, 3),
        (16_385, 3),
    ],
)
def test_two_loop(gpu, n, m, dtype):
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    args = pairs(2, m, n, dtype)
    got, launched = direction(gpu, *args)
    assert relative_error(got, wanted(*args)).max() < WELL_CONDITIONED[dtype]
    assert len(launched) == (3 if gpu.cuts(n, dtype) else 1)


@pytest.mark.parametrize("n", [63, 1000, 8200])
def test_two_loop_reads_no_place_that_is_not_filled_and_skips_bad_pairs(gpu, n, dtype):
    """Partly filled rings, negative curvature, NaN in a pair; rings outside of themselves."""
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    g, S, Y, _, _, free = pairs(6, 3, n, dtype)
    head, count = torch.tensor([2, 1, 0, 0, 3, 0]), torch.tensor([2, 3, 3, 0, 3, 4])
    S[0, 2] = Y[0, 2] = torch.nan
    Y[1, 2] *= -1
    Y[2, 1] = torch.where(free[2] & (torch.arange(n) % 5 == 0), torch.nan, Y[2, 1])
    S[3] = Y[3] = torch.nan
    got, _ = direction(gpu, g, S, Y, head, count, free)
    expected = wanted(*(each[:4] for each in (g, S, Y, head, count, free)))
    assert relative_error(got[:4], expected).max() < WELL_CONDITIONED[dtype]
    assert torch.equal(got[3:], -g[3:])


@cuda_in_one_form
def test_two_loop_of_strided_and_unaligned_rows(gpu, dtype):
    g, S, Y, head, count, free = pairs(2, 3, 129, dtype)

    def cut(tensor):
        frame = tensor.new_full((*tensor.shape[:-1], 135), torch.nan)
        frame[..., 3:132] = tensor
        return frame[..., 3:132]

    got, _ = direction(gpu, cut(g), cut(S), cut(Y), head, count, free)
    close = WELL_CONDITIONED[dtype]
    assert relative_error(got, wanted(g, S, Y, head, count, free)).max() < close


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("n", [784, 3100])
def test_same_bits_in_any_order_of_warps(gpu, n, arch):
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    args = pairs(2, 3, n, torch.float32)
    got, _ = direction(gpu, *args, arch=arch)
    assert relative_error(got, wanted(*args)).max() < WELL_CONDITIONED[torch.float32]
    again, _ = direction(gpu, *args, arch=arch, schedule="random", seed=1)
    assert torch.equal(again, got)


@pytest.mark.parametrize(("n", "least"), [(784, 0), (3100, 48 * 1024)])
def test_same_bits_resident_or_not(cuda_only, n, least):
    args = pairs(2, 3, n, torch.float32)
    got, launched = direction(cuda_only, *args)
    again, _ = direction(cuda_only, *args, shared_memory=least)
    assert torch.equal(again, got)
    assert len(launched) == 1


@pytest.mark.parametrize("n", [1, 63, 129, 784, 1000, 8200])
@pytest.mark.parametrize("stored", HALF, ids=str)
def test_two_loop_with_pairs_of_16_bits(gpu, n, stored):
    """Of any size that float16 has, the smallest among them; one pair has no positive curvature."""
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    g, S, Y, *rest = pairs(3, 3, n, torch.float32)
    size = torch.tensor([1e-6, 1.0, 1e4])[:, None, None]
    S, Y = (size * S).to(stored), (size * Y).to(stored)
    Y[1, 1] *= -1
    got, _ = direction(gpu, g, S, Y, *rest)
    assert relative_error(got, wanted(g, S, Y, *rest)).max() < WELL_CONDITIONED[torch.float32]


@cuda_in_one_form
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [1, 129, 1000, 16_385])
def test_penalty(gpu, n, norm, dtype):
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    x, x0, g_loss = torch.rand(3, 3, n, dtype=dtype)
    x0[0] = x[0]
    x0[1, ::2] = x[1, ::2]
    g_loss, c = g_loss - 0.5, torch.tensor([0.1, 2.0, 0.5], dtype=dtype)
    lower, upper = torch.zeros(1, 1, dtype=dtype), x.clamp(min=0.5)
    out = x.new_empty(3), torch.empty_like(x), torch.empty(x.shape, dtype=torch.bool)
    with gpu.interpreted() as launched:
        gpu.penalty.penalty_out(x, x0, g_loss, c, lower, upper, norm, *out)
    cut = n > 16_384 if gpu.name == "cuda" else gpu.cuts(n, dtype)
    assert len(launched) == (2 + (norm == "l2") if cut else 1)
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


@in_one_launch
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_class_loss(gpu, kind, dtype):
    """Labels that there are not give NaN; kappa and sharpness arrive in all their digits."""
    logits, labels = (3 * torch.randn(6, 41)).to(dtype), torch.tensor([0, 40, 7, 3, -1, 41])
    logits[2, 9] = torch.nan
    logits[3, 5] = logits[3, 6] = 9
    for targeted in (False, True):
        loss, dlogits = logits.new_empty(6), torch.empty_like(logits)
        setting = {"kind": kind, "targeted": targeted, "kappa": 0.3, "sharpness": 4.1}
        with gpu.interpreted():
            gpu.class_loss.class_loss_out(logits, labels, *setting.values(), loss, dlogits)
        with use_backend("reference"):
            expected = ops.class_loss(logits[:4].double(), labels[:4], **setting)
        few = 4 * torch.finfo(dtype).eps
        for got, each in zip((loss, dlogits), expected, strict=True):
            close = {"rtol": few, "atol": few, "equal_nan": True}
            torch.testing.assert_close(got[:4].double(), each, **close)
            assert got[4:].isnan().all()


def step(gpu, state, loss, gradient, slots, **how):
    with gpu.interpreted(**how) as launched:
        gpu.lbfgs_step.lbfgs_step(state, loss, gradient, slots)
    return launched


def assert_same_round(got, expected, before, loss, gradient, slots):
    """Compare what a round left with what the reference leaves, as test_lbfgs_step.py does."""
    dtype = before.trial.dtype
    same = (got.counters == expected.counters).all(1)
    assert (~same).sum() <= (dtype == torch.float32)  # rounding may decide a comparison otherwise
    full = torch.zeros_like(before.trial)
    full[slots] = gradient
    for name, error in differences(got, expected, before, full).items():
        assert (error[same] <= BOUNDS.get(name, ONE_STEP)[dtype]).all(), name


# Of each norm, one with constraints in every second slot.
MIXED_RUNS = [
    next(k for k, run in enumerate(RUNS) if run[0] == norm and len(run) > 5 and run[2] == "never")
    for norm in NORMS
]


@cuda_in_one_form
@pytest.mark.parametrize("index", MIXED_RUNS, ids=lambda k: run_name(RUNS[k]))
def test_lbfgs_step(gpu, index, dtype):
    """Slots that went different ways, each from the reference's state."""
    before, loss, gradient, after = recorded(index)
    slots = telling(before, after, most=40)
    loss, gradient = loss[slots].to(dtype), gradient[slots].to(dtype)
    before = before if dtype == torch.float64 else single(before)
    got, expected = copy(before), copy(before)
    launched = step(gpu, got, loss, gradient, slots)
    assert len(launched) == (10 + (before.norm == "l2") if gpu.split else 1)
    with use_backend("reference"):
        ops.lbfgs_step(expected, loss, gradient, slots)
    assert_same_round(got, expected, before, loss, gradient, slots)


def far(x):
    loss = ((x - torch.linspace(-2, 2, x.shape[1])) ** 4).sum(1) / x.shape[1]
    return loss, 4 * (x - torch.linspace(-2, 2, x.shape[1])) ** 3 / x.shape[1]


def begin(n, norm, dtype=torch.float32, m=3):
    x0 = torch.rand(3, n, dtype=dtype) - 0.5
    upper = torch.where(torch.arange(n) % 3 == 0, 0.4, torch.inf).to(dtype)
    return ops.init(
        x0 + 0.1 * torch.randn(x0.shape, dtype=dtype),
        **{"lower": -0.5, "upper": upper, "history": m, "norm": norm},
        x0=None if norm == "none" else x0,
        # With 1.0 the first two gradients are so near (L2, 8,200 values: 1/3000 of themselves) that
        # the last bit of c / |r| decides the fourth digit of the pair.
        c=torch.tensor([0.01, 0.1, 0.3]),
        options=Options(1e-6, -1.0, -1.0, 20, 60),
    )


def rounds(state, enough, most=60):
    """Yield state, loss, gradient and next state of the rounds with `enough(counters)` after."""
    for _ in range(most):
        loss, gradient = (each.to(state.trial.dtype) for each in far(state.trial.double()))
        after = copy(state)
        with use_backend("reference"):
            ops.lbfgs_step(after, loss, gradient)
        if enough(after.counters.T):
            yield state, loss, gradient, after
        state = after


def with_pairs(counters):
    """Return whether a slot has a new direction, made of two pairs or more."""
    return ((counters[Counter.COUNT] > 1) & (counters[Counter.TRIALS] == 0)).any()


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("n", [2048, 4096, 5000, 8200])
def test_lbfgs_step_of_large_images(gpu, n, norm, dtype):
    """The first two rounds, and one with pairs; CUDA's in one block of most threads, and split."""
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    state, slots = begin(n, norm, dtype), torch.arange(3)
    first = [each for each, _ in zip(rounds(state, lambda _: True), range(2), strict=False)]
    for before, loss, gradient, expected in (*first, next(rounds(state, with_pairs))):
        got = copy(before)
        launched = step(gpu, got, loss, gradient, slots)
        assert len(launched) == (10 + (norm == "l2") if gpu.cuts(n, dtype) else 1)
        assert torch.equal(got.counters, expected.counters)
        assert_same_round(got, expected, before, loss, gradient, slots)


@pytest.mark.parametrize("n", [63, 8200])
def test_slots_that_have_stopped_or_do_not_exist_are_left_alone(gpu, n):
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    state = begin(n, "l2")
    state.counters[1, Counter.STATUS] = Status.GRADIENT
    before = copy(state)
    loss, gradient = far(state.trial)
    rows = torch.tensor([0, 1, 2, 2, 2])
    step(gpu, state, loss[rows], gradient[rows], torch.tensor([3, 1, 2, -1, 2**40]))
    for name in FIELDS:
        assert torch.equal(getattr(state, name)[:2], getattr(before, name)[:2])
    assert not torch.equal(state.vectors[2], before.vectors[2])


@pytest.mark.parametrize("n", [63, 8200])
@pytest.mark.parametrize(
    ("column", "value"), [("HEAD", 7), ("HEAD", -1), ("COUNT", 4), ("COUNT", -1)]
)
def test_a_ring_that_points_outside_of_itself_holds_no_pairs(gpu, column, value, n):
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    state, loss, gradient, _ = next(rounds(begin(n, "l2"), with_pairs))
    empty = copy(state)
    empty.counters[:, [Counter.HEAD, Counter.COUNT]] = 0
    state.counters[:, Counter[column]] = value
    for each in (state, empty):
        step(gpu, each, loss, gradient, torch.arange(3))
    for name in FIELDS:
        assert torch.equal(getattr(state, name), getattr(empty, name))


@cuda_in_one_form
@pytest.mark.parametrize("schedule", ["lowest", "random"])
def test_nan_stops_a_slot_at_its_start(gpu, schedule):
    state = begin(63, "l1")
    loss, gradient = far(state.trial)
    gradient[1, 40] = torch.nan
    expected = copy(state)
    step(gpu, state, loss, gradient, torch.arange(3), arch=80, schedule=schedule)
    with use_backend("reference"):
        ops.lbfgs_step(expected, loss, gradient)
    assert state.status.tolist() == [Status.RUNNING, Status.NON_FINITE, Status.RUNNING]
    assert torch.equal(state.counters, expected.counters)


@pytest.mark.parametrize("n", [63, 8200])
@pytest.mark.parametrize("stored", HALF, ids=str)
def test_lbfgs_step_with_pairs_of_16_bits(gpu, n, stored):
    """The new pair is rounded, and the direction belongs to the rounded pairs."""
    gpu.leave_out_what_is_the_same_in_both_forms(n)
    before, loss, gradient, expected = next(rounds(begin(n, "none"), with_pairs))
    before = in_16_bits(before, stored)
    got = copy(before)
    step(gpu, got, loss, gradient, torch.arange(3))
    assert torch.equal(got.counters, expected.counters)
    pair, exact = new_pairs(got, before, torch.arange(3))
    assert torch.equal(pair, exact.to(stored))
    x, g, d = (got.vectors[:, k, :n] for k in (Vector.X, Vector.G, Vector.DIRECTION))
    free = free_set(x, g, got.lower, got.upper, got.scalars[:, Scalar.PROJECTED_GRADIENT])
    S, Y = (got.history[:, :, which, :n] for which in (0, 1))
    ring = (got.counters[:, which].long() for which in (Counter.HEAD, Counter.COUNT))
    new = (got.counters[:, Counter.TRIALS] == 0) & (got.counters[:, Counter.COUNT] > 1)
    error = relative_error(d, wanted(g, S, Y, *ring, free))
    assert error[new.numpy()].max() < ONE_STEP[torch.float32]


@pytest.mark.parametrize(
    ("gpu", "n"),
    [("triton", 784), ("triton", 12_288), ("cuda", 784), ("cuda", 12_288)],
    indirect=["gpu"],
)
@pytest.mark.parametrize("stored", [None, torch.float16], ids=str)
def test_bytes_of_a_round(gpu, n, stored):
    """lbfgs_step, 10 pairs: at most 1.15 times the bytes that one pass has to move.

    The pairs once, seven vectors, two rows of the ring, in float32; pairs of 16 bits save half of
    theirs. Counted are sectors that differ: what a block touches twice is found in its processor's
    own cache, of 12,288 values in the L2 cache.
    """
    m = 10
    before, loss, gradient = full_round(n, m, "l2sq", history_dtype=stored)
    ((_, counts),) = step(gpu, before, loss, gradient, torch.arange(2))
    moved = 32 * (counts.unique_sectors_read + counts.unique_sectors_written) / 2
    saved = (4 - before.history.element_size()) * n * (2 * m + 2)
    assert moved <= 1.15 * 4 * n * (2 * m + 7 + 2) - saved


@pytest.mark.parametrize(("gpu", "n"), [("triton", 16_400), ("cuda-split", 8200)], indirect=["gpu"])
def test_bytes_of_long_rows(gpu, n):
    """Cut into tiles, an op reads the pairs twice; bytes that one and that two passes have to move.

    two_loop: the pairs, g, the direction, the free set. lbfgs_step: the pairs, seven vectors, two
    rows of the ring. Where the second pass finds in the L2 cache what the first has read, they move
    at most 1.15 times the bytes of one pass. Where no launch finds anything there, two_loop moves
    at most 1.15 times the bytes of two passes, Triton's lbfgs_step 1.16 times and CUDA's 1.22
    times: x, g, the trial and its gradient are read again when their sums have been decided on, and
    CUDA reads the newest pair and the free set back.
    """
    m = 10

    def moved(launched):
        counts = [counts for _, counts in launched]
        each = 16 * sum(c.unique_sectors_read + c.unique_sectors_written for c in counts)
        return 16 * sectors_of(counts), each

    args = pairs(2, m, n, torch.float32)
    with gpu.interpreted() as launched:
        gpu.two_loop.two_loop_out(*args, torch.empty_like(args[0]))
    assert len(launched) == 3
    once, twice = moved(launched)
    assert once <= 1.15 * (4 * n * (2 * m + 2) + n)
    assert twice <= 1.15 * (4 * n * (4 * m + 2) + n)
    launched = step(gpu, *full_round(n, m, "l2sq"), torch.arange(2))
    assert len(launched) == 10
    once, twice = moved(launched)
    assert once <= 1.15 * 4 * n * (2 * m + 7 + 2)
    most = 1.23 if gpu.name == "cuda" else 1.17
    assert twice <= most * 4 * n * (4 * m + 7 + 2)


TARGETS = [("cuda", 80, 32), ("cuda", 90, 32), ("cuda", 100, 32)]
TARGETS += [("hip", "gfx942", 64), ("hip", "gfx1100", 32)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target[1]))
def test_every_triton_kernel_compiles_to_machine_code(triton_only, target):
    from triton_on_ptx import compiled, launches_go_to

    binaries = {}

    def launch(kernel, grid, args, given):
        binaries[kernel.fn.__name__] = compiled(kernel, args, given, target)

    x, c, labels = torch.rand(1, 63), torch.ones(1), torch.zeros(1, dtype=torch.int64)
    g, *rest = pairs(1, 3, 63, torch.float32)
    with launches_go_to(launch):
        state = ops.init(x, norm="l1", x0=x, history=3)
        triton_only.lbfgs_step.lbfgs_step(state, c, x, torch.arange(1))
        triton_only.two_loop.two_loop_out(g, *rest, g)
        triton_only.penalty.penalty_out(x, x, x, c, x[:, :1], x[:, :1], "l1", c, x, x > 0)
        triton_only.class_loss.class_loss_out(x, labels, "cross_entropy", True, 0.0, 1.0, c, x)
        with every_row_is_long(tile=8192):
            triton_only.two_loop.two_loop_out(g, *rest, g)
            triton_only.penalty.penalty_out(x, x, x, c, x[:, :1], x[:, :1], "l2", c, x, x > 0)
            state = ops.init(x, norm="l2", x0=x, history=3)
            triton_only.lbfgs_step.lbfgs_step(state, c, x, torch.arange(1))
    assert len(binaries) == 4 + 3 + 3 + 9
    assert all(binary[:4] == b"\x7fELF" for binary in binaries.values())
