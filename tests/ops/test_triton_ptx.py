"""The Triton kernels, compiled and run by the PTX interpreter, against the reference."""

import pytest
import torch

pytest.importorskip("triton")
from rounds import BOUNDS, RUNS, copy, differences, recorded, run_name, single, telling
from tolerances import FEW_ROUNDINGS, ONE_STEP, WELL_CONDITIONED, exact, relative_error
from triton_on_ptx import compiled, interpreted, launches_go_to

from advkit import ops
from advkit.norms import NORMS
from advkit.ops import _dispatch, use_backend
from advkit.ops.lbfgs_step.state import Counter

pytestmark = pytest.mark.slow

penalty, class_loss, two_loop, lbfgs_step = (
    _dispatch.kernels(op, "triton") for op in ("penalty", "class_loss", "two_loop", "lbfgs_step")
)
# Of each norm one with constraints in every second slot.
MIXED_RUNS = [
    next(k for k, run in enumerate(RUNS) if run[0] == norm and len(run) > 5 and run[2] == "never")
    for norm in NORMS
]
SHAPES = [(1, 1), (63, 3), (129, 3), (784, 10), (1000, 3), (3072, 3), (8192, 3)]


def pairs(rows, n, m, dtype):
    """Return the arguments of two_loop; one pair has negative curvature, one ring is half full."""
    g, S = torch.randn(rows, n, dtype=dtype), torch.randn(rows, m, n, dtype=dtype)
    Y = S * torch.empty_like(S).uniform_(0.5, 2)
    Y[1, 0] *= -1
    head, count = torch.arange(rows) % m, torch.full((rows,), m)
    count[2] = m // 2
    return g, S, Y, head, count, torch.rand(rows, n) < 0.7


def assert_direction(args, dtype, **how):
    direction = torch.full_like(args[0], torch.nan)
    with interpreted(**how) as launched:
        two_loop.two_loop_out(*args, direction)
    with use_backend("reference"):
        g, S, Y, *rest = args
        wanted = ops.two_loop(g.double(), S.double(), Y.double(), *rest)
    assert relative_error(direction, exact(wanted)).max() < WELL_CONDITIONED[dtype]
    return launched


@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_two_loop(n, m, dtype):
    if n * dtype.itemsize > _dispatch.TRITON_ROW:
        pytest.skip(_dispatch._TOO_LONG)
    launched = assert_direction(pairs(3, n, m, dtype), dtype)
    assert [name for name, _ in launched] == ["two_loop_kernel"]


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("schedule", ["lowest", "random"])
def test_two_loop_on_each_architecture_and_with_warps_in_any_order(schedule, arch):
    assert_direction(pairs(3, 784, 4, torch.float32), torch.float32, arch=arch, schedule=schedule)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [1, 129, 1000])
def test_penalty(n, norm, dtype):
    x, x0, g_loss = torch.rand(3, 3, n, dtype=dtype)
    x0[0] = x[0]
    x0[1, ::2] = x[1, ::2]
    g_loss, c = g_loss - 0.5, torch.tensor([0.1, 2.0, 0.5], dtype=dtype)
    lower, upper = torch.zeros(1, 1, dtype=dtype), x.clamp(min=0.5)
    out = x.new_empty(3), torch.empty_like(x), torch.empty(x.shape, dtype=torch.bool)
    with interpreted():
        penalty.penalty_out(x, x0, g_loss, c, lower, upper, norm, *out)
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


@pytest.mark.parametrize("kind", ["cross_entropy", "margin", "smooth_margin"])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
def test_class_loss(kind, dtype):
    """Labels that there are not give NaN; kappa and sharpness arrive in all their digits."""
    logits, labels = (3 * torch.randn(6, 41)).to(dtype), torch.tensor([0, 40, 7, 3, -1, 41])
    logits[2, 9] = torch.nan
    logits[3, 5] = logits[3, 6] = 9
    for targeted in (False, True):
        loss, dlogits = logits.new_empty(6), torch.empty_like(logits)
        setting = {"kind": kind, "targeted": targeted, "kappa": 0.3, "sharpness": 4.1}
        with interpreted():
            class_loss.class_loss_out(logits, labels, *setting.values(), loss, dlogits)
        with use_backend("reference"):
            expected = ops.class_loss(logits[:4].double(), labels[:4], **setting)
        few = 4 * torch.finfo(dtype).eps
        for got, each in zip((loss, dlogits), expected, strict=True):
            close = {"rtol": few, "atol": few, "equal_nan": True}
            torch.testing.assert_close(got[:4].double(), each, **close)
            assert got[4:].isnan().all()


@pytest.mark.parametrize("index", MIXED_RUNS, ids=lambda k: run_name(RUNS[k]))
def test_lbfgs_step(index, dtype):
    """As in test_lbfgs_step.py: slots that went different ways, each from the reference's state."""
    before, loss, gradient, wanted = recorded(index)
    slots = telling(before, wanted, most=40)
    loss, gradient = loss[slots].to(dtype), gradient[slots].to(dtype)
    before = before if dtype == torch.float64 else single(before)
    got, wanted = copy(before), copy(before)
    with interpreted() as launched:
        lbfgs_step.lbfgs_step(got, loss, gradient, slots)
    assert [name for name, _ in launched] == ["lbfgs_step_kernel"]
    with use_backend("reference"):
        ops.lbfgs_step(wanted, loss, gradient, slots)
    same = (got.counters == wanted.counters).all(1)
    assert (~same).sum() <= (dtype == torch.float32)  # rounding may decide a comparison otherwise
    full = torch.zeros_like(before.trial)
    full[slots] = gradient
    for name, error in differences(got, wanted, before, full).items():
        assert (error[same] <= BOUNDS.get(name, ONE_STEP)[dtype]).all(), name


def in_flight(n, m, rows=2):
    """Return a state with full rings, and a loss and gradient that make its next step accepted."""
    x0 = torch.rand(rows, n)
    goal = torch.rand(rows, n)
    state = ops.init(
        x0, lower=0.0, upper=1.0, norm="l2sq", x0=x0, history=m, c=torch.full((rows,), 0.05)
    )
    while True:
        loss, gradient = ((state.trial - goal) ** 4).sum(1), 4 * (state.trial - goal) ** 3
        after = copy(state)
        with use_backend("reference"):
            ops.lbfgs_step(after, loss, gradient)
        full = (state.counters[:, Counter.COUNT] == m).all()
        if full and (after.x != state.x).any(1).all():
            return state, loss, gradient
        state = after


def test_bytes_of_a_round():
    """An image's round moves at most 1.15 times the bytes that have to be moved: lbfgs_step, 784.

    The pairs once, seven vectors read or written and two rows of the ring; what a program reads
    again (three vectors) comes from its own cache.
    """
    n, m = 784, 10
    state, loss, gradient = in_flight(n, m)
    with interpreted() as launched:
        lbfgs_step.lbfgs_step(state, loss, gradient, torch.arange(2))
    ((_, counts),) = launched
    moved = 32 * (counts.unique_sectors_read + counts.unique_sectors_written) / 2
    assert moved <= 1.15 * 4 * n * (2 * m + 7 + 2)


TARGETS = [(("cuda", 80, 32)), ("cuda", 90, 32), ("cuda", 100, 32)]
TARGETS += [("hip", "gfx942", 64), ("hip", "gfx1100", 32)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target[1]))
def test_every_kernel_compiles_to_machine_code(target):
    binaries = {}

    def launch(kernel, grid, args, given):
        binaries[kernel.fn.__name__] = compiled(kernel, args, given, target)

    state = ops.init(torch.rand(1, 63), norm="l1", x0=torch.rand(1, 63), history=3)
    x, c = torch.rand(1, 63), torch.ones(1)
    logits = torch.rand(1, 10)
    with launches_go_to(launch):
        lbfgs_step.lbfgs_step(state, c, x, torch.arange(1))
        args = pairs(3, 63, 3, torch.float32)
        two_loop.two_loop_out(*args, torch.empty_like(args[0]))
        out = x.new_empty(1), torch.empty_like(x), torch.empty(x.shape, dtype=torch.bool)
        penalty.penalty_out(x, x, x, c, x[:, :1], x[:, :1], "l1", *out)
        labels = torch.zeros(1, dtype=torch.int64)
        setting = "cross_entropy", True, 0.0, 1.0
        class_loss.class_loss_out(logits, labels, *setting, c, torch.empty_like(logits))
    assert len(binaries) == 4
    assert all(binary[:4] == b"\x7fELF" for binary in binaries.values())
