"""penalty against its definition: value, gradient, subgradient at the kinks, free variables."""

from functools import cache

import numpy as np
import pytest
import torch
from tolerances import EPS, FEW_ROUNDINGS, WELL_CONDITIONED, exact

from advkit import ops
from advkit.norms import NORMS

ROWS = 3

BOUNDS = {
    "scalar": lambda n: (torch.tensor(0.0), torch.tensor(1.0)),
    "positive": lambda n: (torch.tensor(0.25), torch.tensor(0.75)),
    "negative": lambda n: (torch.tensor(-0.75), torch.tensor(-0.25)),
    "per-element": lambda n: (-torch.rand(n), torch.rand(n) + 0.5),
    "per-row": lambda n: (torch.rand(ROWS, 1) / 4 + 0.1, torch.rand(ROWS, 1) + 0.5),
    "each": lambda n: (-torch.rand(ROWS, n), torch.rand(ROWS, n) + 0.5),
    "mixed": lambda n: (torch.tensor(-0.5), torch.rand(ROWS, n) + 0.5),
    "none": lambda n: (torch.tensor(-torch.inf), torch.tensor(torch.inf)),
    "half-open": lambda n: (torch.tensor(0.0), torch.where(torch.rand(n) < 0.5, torch.inf, 1.0)),
    "equal": lambda n: (torch.full((n,), 0.25), torch.where(torch.rand(n) < 0.5, 0.25, 1.0)),
}


def scene(n, bounds, dtype):
    """Return x, x0, g_loss, c, lower, upper with values at every place that matters.

    A quarter of the values are at or near each bound and a quarter of x0 is at or near x: exactly,
    closer than the margin of 1e-3, or further. The rows differ in how steep the loss is: in the
    last one the margin is the projected gradient, for it is less than 1e-3.
    """
    lower, upper = (bound.to(dtype) for bound in BOUNDS[bounds](n))
    low, high = (bound.expand(ROWS, n) for bound in (lower, upper))
    near = torch.tensor([0.0, 0.0, 1e-6, 4e-4, 3e-3], dtype=dtype)

    def offset():
        return near[torch.randint(len(near), (ROWS, n))]

    inner = low.clamp(min=-1) + torch.rand(ROWS, n, dtype=dtype) * (
        high.clamp(max=1.5) - low.clamp(min=-1)
    )
    where = torch.rand(ROWS, n)
    x = torch.where((where < 0.25) & low.isfinite(), low + offset(), inner)
    x = torch.where((where > 0.75) & high.isfinite(), high - offset(), x).clamp(low, high)
    x0 = low.clamp(min=-1) + torch.rand(ROWS, n, dtype=dtype) * (inner - low.clamp(min=-1))
    sign = torch.randint(2, (ROWS, n)) * 2 - 1
    x0 = torch.where(torch.rand(ROWS, n) < 0.25, x + sign * offset(), x0).clamp(low, high)
    x0[1] = x[1] if bounds in ("scalar", "each") else x0[1]  # r = 0
    steep = torch.tensor([[1.0], [3.0], [1e-5]], dtype=dtype)
    c = torch.tensor([0.7, 1.5, 2e-6], dtype=dtype)
    return x, x0, torch.randn(ROWS, n, dtype=dtype) * steep, c, lower, upper


def value_and_gradient(x, x0, g_loss, c, norm):
    """Return both in longdouble from the definition, and the largest term of each element."""
    r = x - x0
    size = {
        "none": np.zeros(len(r)),
        "l2sq": (r * r).sum(1),
        "l2": np.sqrt((r * r).sum(1)),
        "l1": np.abs(r).sum(1),
    }[norm]
    c = c[:, None]
    if norm == "l2":
        zero = size == 0
        length = np.where(zero, 1, size)[:, None]
        pull = c * r / length
        steep = np.sqrt((g_loss * g_loss).sum(1, keepdims=True))
        shrunk = g_loss * np.maximum(1 - c / np.where(steep == 0, 1, steep), 0)
        gradient = np.where(zero[:, None], shrunk, g_loss + pull)
    elif norm == "l1":
        pull = c * np.sign(r)
        shrunk = np.sign(g_loss) * np.maximum(np.abs(g_loss) - c, 0)
        gradient = np.where(r == 0, shrunk, g_loss + pull)
    else:
        pull = 2 * c * r if norm == "l2sq" else 0 * r
        gradient = g_loss + pull
    return c[:, 0] * size, gradient, np.abs(g_loss) + np.abs(pull) + (r == 0) * c


def is_free(x, x0, g, low, high, margin, norm):
    """Decide for one value; low and high are its bounds and margin what counts as at a bound."""
    if norm == "l1":  # the box ends at x0; from x0 itself, -g says on which side
        side = np.sign(x - x0) if x != x0 else -np.sign(g)
        low = low if side < 0 else max(low, x0)
        high = high if side > 0 else min(high, x0)
    near = min(margin, (high - low) / 2)
    return not ((x <= low + near and g > 0) or (x >= high - near and g < 0))


def step_in_box(x, x0, g, low, high, norm):
    """Return how far x moves to P(x - g): |P(x - g) - x| for one value."""
    if norm == "l1":
        side = np.sign(x - x0) if x != x0 else -np.sign(g)
        low = low if side < 0 else max(low, x0)
        high = high if side > 0 else min(high, x0)
    return abs(min(max(x - g, low), high) - x)


@cache
def case(n, bounds, norm, dtype):
    args = scene(n, bounds, dtype)
    x, x0, g_loss, c, lower, upper = (exact(each) for each in args)
    value, gradient, size = value_and_gradient(x, x0, g_loss, c, norm)
    low, high = np.broadcast_to(lower, x.shape), np.broadcast_to(upper, x.shape)
    free = np.empty(x.shape, dtype=bool)
    for b in range(ROWS):
        columns = x[b], x0[b], gradient[b], low[b], high[b]
        each = list(zip(*(column.tolist() for column in columns), strict=True))
        margin = min(1e-3, max(step_in_box(*one, norm) for one in each))
        free[b] = [is_free(*one, margin, norm) for one in each]
    return args, value, gradient, size, torch.from_numpy(free)


CASES = [(63, bounds) for bounds in BOUNDS]
CASES += [(n, bounds) for n in (1, 129, 784) for bounds in ("each", "scalar")]
CASES += [(1000, "each"), (16_385, "each")]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("n", "bounds"), CASES)
def test_definition(n, bounds, norm, dtype, implementation):
    if implementation == "triton-split" and n > 1000:
        pytest.skip("Triton cuts these anyway, into larger tiles")
    (*args, lower, upper), value, gradient, size, free = case(n, bounds, norm, dtype)
    got = ops.penalty(*args, norm=norm, lower=lower, upper=upper)
    np.testing.assert_allclose(exact(got[0]), value, rtol=WELL_CONDITIONED[dtype], atol=0)
    assert (np.abs(exact(got[1]) - gradient) <= FEW_ROUNDINGS * EPS[dtype] * size).all()
    assert torch.equal(got[2], free)


@pytest.mark.parametrize("norm", ["l2sq", "l2", "l1"])
def test_the_scenes_reach_what_they_are_for(norm, dtype):
    """Free and not, at both bounds, at kinks and on the sides of x0, whatever the margin."""
    (x, x0, _, _, lower, upper), _, gradient, _, free = case(784, "per-element", norm, dtype)
    for b in range(ROWS):
        low, high = x[b] < lower + 1e-3, x[b] > upper - 1e-3
        for near in (low, high, ~low & ~high):
            assert free[b][near].any()
        assert not free[b][low].all()
        assert not free[b][high].all()
    if norm == "l1":
        kink = (x == x0) & (x > lower) & (x < upper)
        assert (gradient[kink] == 0).any()
        assert (gradient[kink] != 0).any()
        assert not free[(x > x0) & (x < x0 + 5e-4) & (x > lower + 0.01)].all()


L1_CASES = {
    # name: x, x0, loss gradient -> gradient, free; with c = 1 in the box [0, 1]
    "right of x0, pushed away": (0.6, 0.5, -3.0, -2.0, True),
    "right of x0, pushed back": (0.6, 0.5, 0.5, 1.5, True),
    "just right of x0, pushed back": (0.5004, 0.5, 0.5, 1.5, False),
    "just right of x0, pushed away": (0.5004, 0.5, -3.0, -2.0, True),
    "just left of x0, pushed back": (0.4996, 0.5, -0.5, -1.5, False),
    "just left of x0, pushed away": (0.4996, 0.5, 3.0, 2.0, True),
    "at x0, weak loss": (0.5, 0.5, 0.9, 0.0, True),
    "at x0, loss as strong as the penalty": (0.5, 0.5, -1.0, 0.0, True),
    "at x0, strong loss to the right": (0.5, 0.5, -3.0, -2.0, True),
    "at x0, strong loss to the left": (0.5, 0.5, 3.0, 2.0, True),
    "at x0 and at the lower bound, pushed out": (0.0, 0.0, 3.0, 2.0, False),
    "at x0 and at the lower bound, pushed in": (0.0, 0.0, -3.0, -2.0, True),
    "at x0 and at the upper bound, pushed out": (1.0, 1.0, -3.0, -2.0, False),
}


@pytest.mark.parametrize("name", L1_CASES)
def test_l1_orthant_rule(name, dtype, implementation):
    """By hand; a second, steep value makes the margin 1e-3."""
    x, x0, g_loss, gradient, free = L1_CASES[name]
    got = ops.penalty(
        torch.tensor([[x, 0.5]], dtype=dtype),
        torch.tensor([[x0, 0.1]], dtype=dtype),
        torch.tensor([[g_loss, 9.0]], dtype=dtype),
        torch.ones(1, dtype=dtype),
        norm="l1",
    )
    assert got[1][0, 0].item() == pytest.approx(gradient, rel=4 * EPS[dtype])
    assert got[2][0].tolist() == [free, True]


@pytest.mark.parametrize("n", [1, 63])
def test_l2_subgradient_at_zero_is_the_shortest(n, dtype, implementation):
    """It lies in g + c (unit ball), and none of many others there is shorter."""
    x = torch.rand(1, n, dtype=dtype)
    g = torch.randn(1, n, dtype=dtype)
    unit = torch.nn.functional.normalize(torch.randn(2000, n, dtype=torch.float64), dim=1)
    unit = torch.cat((unit, -torch.nn.functional.normalize(g.double(), dim=1)))
    unit = torch.cat((unit, unit * torch.rand(len(unit), 1)))
    for share in (0.0, 0.3, 0.999, 1.001, 5.0):
        c = (share * g.norm()).reshape(1)
        gradient = ops.penalty(x, x, g, c, norm="l2")[1].double()
        slack = FEW_ROUNDINGS * EPS[dtype] * g.norm().item()
        assert (gradient - g).norm() <= c.item() + slack
        assert (gradient.norm() <= (g + c.double() * unit).norm(dim=1) + slack).all()
        assert (gradient == 0).all() == (share > 1)


def test_l1_subgradient_at_zero_is_the_shortest(dtype, implementation):
    """Each element lies in g_i + [-c, c], and none of many others there is nearer to 0."""
    x = torch.rand(1, 129, dtype=dtype)
    g = torch.randn(1, 129, dtype=dtype)
    c = torch.tensor([0.8], dtype=dtype)
    gradient = ops.penalty(x, x, g, c, norm="l1")[1]
    assert ((gradient - g).abs() <= c * (1 + FEW_ROUNDINGS * EPS[dtype])).all()
    others = g + c * torch.linspace(-1, 1, 401, dtype=dtype)[:, None]
    assert (gradient.abs() <= others.abs().amin(0) + 0.0021).all()  # half a step of the grid
    assert torch.equal(gradient == 0, g.abs() <= c)


@pytest.mark.parametrize(
    ("norm", "g", "c"),
    [("l2", [3.0, 4.0], 5.0), ("l1", [5.0, -5.0], 5.0), ("l2", [0.0, 0.0], 0.0)],
)
def test_subgradient_is_zero_exactly_from_c_on(norm, g, c, dtype, implementation):
    """|g| is exactly c here; the next smaller c already leaves something."""
    x, g = torch.full((1, 2), 0.5, dtype=dtype), torch.tensor([g], dtype=dtype)
    c = torch.tensor([c], dtype=dtype)
    assert (ops.penalty(x, x, g, c, norm=norm)[1] == 0).all()
    if c > 0:
        assert (ops.penalty(x, x, g, c * (1 - 1e-3), norm=norm)[1] != 0).all()


@pytest.mark.parametrize("norm", ["l2sq", "l2", "l1"])
def test_gradient_is_the_derivative_of_the_value(norm, dtype, implementation):
    """Away from kinks: the oracle of the norm in float64, the op's own derivative, its output."""
    x, x0, g_loss = torch.rand(3, ROWS, 129, dtype=dtype)
    c = torch.tensor([0.5, 2.0, 0.0], dtype=dtype)
    x64 = x.double().requires_grad_()
    wanted = c.double() * NORMS[norm].oracle(x64 - x0)
    wanted.sum().backward()
    x.requires_grad_()
    value, gradient, _ = ops.penalty(x, x0, g_loss, c, norm=norm)
    (derivative,) = torch.autograd.grad(value.sum(), x)
    close = {"rtol": WELL_CONDITIONED[dtype], "atol": WELL_CONDITIONED[dtype]}
    torch.testing.assert_close(value.double(), wanted, **close)
    torch.testing.assert_close(derivative.double(), x64.grad, **close)
    torch.testing.assert_close((gradient - g_loss).double(), x64.grad, **close)


def smooth_inputs():
    x, x0, g_loss = torch.rand(3, 1, 3, dtype=torch.float64)
    inputs = x + 1, x0, g_loss, torch.tensor([0.5], dtype=torch.float64)
    return [each.requires_grad_() for each in inputs]


@pytest.mark.parametrize("norm", NORMS)
def test_gradcheck(norm, implementation):
    """First and second derivatives of value and gradient by x, x0, g_loss and c."""

    def run(*inputs):
        return ops.penalty(*inputs, norm=norm, lower=-9.0, upper=9.0)[:2]

    assert torch.autograd.gradcheck(run, smooth_inputs())
    assert torch.autograd.gradgradcheck(run, smooth_inputs())


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_derivative_of_the_value_is_zero_at_the_kink(norm, dtype, implementation):
    x = torch.rand(1, 5, dtype=dtype, requires_grad=True)
    value, gradient, _ = ops.penalty(x, x.detach(), torch.zeros_like(x), torch.ones(1).to(x))
    (derivative,) = torch.autograd.grad(value.sum() + gradient.sum(), x, retain_graph=True)
    assert derivative.isfinite().all()
    value, _, _ = ops.penalty(x, x.detach(), torch.zeros_like(x), torch.ones(1).to(x), norm=norm)
    assert (torch.autograd.grad(value.sum(), x)[0] == 0).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_registration(norm):
    *inputs, lower, upper = scene(5, "each", torch.float32)
    for grad in (False, True):
        args = [each.clone().requires_grad_(grad) for each in inputs]
        torch.library.opcheck(torch.ops.advkit.penalty.default, (*args, lower, upper, norm))


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_compiled(norm):
    """Without a graph break, values and derivatives are those of eager mode."""
    torch.compiler.reset()
    given = scene(63, "scalar", torch.float32)[:4]

    def run(*inputs):
        value, gradient, free = ops.penalty(*inputs, norm=norm)
        return value.sum() + (gradient * free).square().sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    results = []
    for each in (run, compiled):
        inputs = [one.clone().requires_grad_() for one in given]
        out = each(*inputs)
        results.append((out, *torch.autograd.grad(out, inputs)))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_out_variant_writes_the_result_and_nothing_else(norm, dtype, implementation):
    *args, lower, upper = scene(129, "each", dtype)
    box = {"norm": norm, "lower": lower, "upper": upper}
    value = torch.full((5,), 7.0, dtype=dtype)
    gradient = torch.full((5, 129), 7.0, dtype=dtype)
    free = torch.arange(5 * 129).reshape(5, 129) % 2 == 0
    untouched = free.clone()
    ops.penalty_out(*args, **box, value=value[1:4], gradient=gradient[1:4], free=free[1:4])
    for out, wanted in zip((value, gradient, free), ops.penalty(*args, **box), strict=True):
        assert torch.equal(out[1:4], wanted)
    assert (value[[0, 4]] == 7).all()
    assert (gradient[[0, 4]] == 7).all()
    assert torch.equal(free[[0, 4]], untouched[[0, 4]])


@pytest.mark.parametrize("norm", NORMS)
def test_rows_cut_out_of_larger_tensors(norm, dtype, implementation):
    """Every row is surrounded by NaN: reading past its end would show."""
    *args, lower, upper = scene(129, "each", dtype)

    def cut(tensor):
        frame = tensor.new_full((2 * ROWS + 1, 135), torch.nan)
        return frame[1::2, 3:132].copy_(tensor)

    x, x0, g_loss, c = args
    box = {"norm": norm, "lower": cut(lower), "upper": cut(upper)}
    got = ops.penalty(cut(x), cut(x0), cut(g_loss), c, **box)
    wanted = ops.penalty(*args, norm=norm, lower=lower, upper=upper)
    for out, each in zip(got, wanted, strict=True):
        assert torch.equal(out, each)


def test_numbers_and_expanded_tensors_are_the_same_box(dtype, implementation):
    x, x0, g_loss, c, _, _ = scene(63, "scalar", dtype)
    wanted = ops.penalty(x, x0, g_loss, c, norm="l1", lower=0, upper=1.0)
    low, high = torch.zeros(63, dtype=dtype), torch.ones(1, 63, dtype=dtype).expand(ROWS, 63)
    got = ops.penalty(x, x0, g_loss, c, norm="l1", lower=low, upper=high)
    for out, each in zip(got, wanted, strict=True):
        assert torch.equal(out, each)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("rows", "n"), [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_do(rows, n, norm, dtype, implementation):
    x = torch.zeros(rows, n, dtype=dtype)
    value, gradient, free = ops.penalty(x, x, x, torch.ones(rows, dtype=dtype), norm=norm)
    assert torch.equal(value, torch.zeros(rows, dtype=dtype))
    assert gradient.shape == free.shape == (rows, n)


@pytest.mark.parametrize("norm", NORMS)
def test_bits_depend_on_neither_batch_nor_threads(norm, dtype, isa, threads):
    """Nine rows: enough for two threads to take whole rows; one alone is cut into tiles."""
    x, x0, g_loss = torch.rand(3, 9, 40_000, dtype=dtype)
    args = x, x0, g_loss - 0.5, torch.rand(9, dtype=dtype)
    with threads(1):
        batch = ops.penalty(*args, norm=norm)
    with threads(2):
        shared = ops.penalty(*args, norm=norm)
        rows = [ops.penalty(*(one[b : b + 1] for one in args), norm=norm) for b in range(9)]
    alone = (torch.cat(outs) for outs in zip(*rows, strict=True))
    for outs in zip(batch, shared, alone, strict=True):
        assert torch.equal(outs[1], outs[0])
        assert torch.equal(outs[2], outs[0])


@pytest.mark.parametrize("norm", NORMS)
def test_nan_shows_in_its_row_only(norm, dtype, implementation):
    x, x0, g_loss, c, _, _ = scene(63, "each", dtype)
    x0[1] = x[1]
    clean = ops.penalty(x, x0, g_loss, c, norm=norm)
    g_loss[1, 40] = torch.nan
    _, gradient, _ = spoiled = ops.penalty(x, x0, g_loss, c, norm=norm)
    assert gradient[1, 40].isnan()
    for out, each in zip(spoiled, clean, strict=True):
        assert torch.equal(out[[0, 2]], each[[0, 2]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_other_floating_dtypes_run_on_the_reference(dtype):
    x, x0, g_loss, c, _, _ = scene(63, "scalar", dtype)
    value, gradient, _ = ops.penalty(x, x0, g_loss, c, norm="l2sq")
    wanted = ops.penalty(x.float(), x0.float(), g_loss.float(), c.float(), norm="l2sq")
    rounding = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(value.float(), wanted[0], rtol=rounding, atol=0)
    torch.testing.assert_close(gradient.float(), wanted[1], rtol=rounding, atol=rounding)
