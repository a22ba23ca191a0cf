"""two_loop against BFGS matrices that are built in full, in higher precision."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from tolerances import EPS, TIMES_REFERENCE, WELL_CONDITIONED, exact, relative_error

from advkit import ops
from advkit.ops import use_backend

STORED = [torch.bfloat16, torch.float16]


def places(head, count, m):
    """Return the filled places of a ring, oldest first."""
    return [(head - count + k) % m for k in range(count)]


def usable(s, y):
    return s @ y > 1e-8 * np.sqrt((s @ s) * (y @ y))


def dense_inverse(pairs):
    """Return the inverse BFGS matrix of pairs, oldest first (Nocedal & Wright 2006, eq. 6.17)."""
    s, y = pairs[-1]
    eye = np.eye(len(s), dtype=np.longdouble)
    H = (s @ y) / (y @ y) * eye
    for s, y in pairs:
        rho = 1 / (s @ y)
        V = eye - rho * np.outer(s, y)
        H = V @ H @ V.T + rho * np.outer(s, s)
    return H


def recursion(pairs, gamma, g):
    """Return H g of the same matrix without building it, for rows too long for that."""
    if not pairs:
        return gamma * g
    *older, (s, y) = pairs
    alpha = (s @ g) / (s @ y)
    Hg = recursion(older, gamma, g - alpha * y)
    return Hg + (alpha - (y @ Hg) / (s @ y)) * s


def expected(g, S, Y, head, count, free, *, dense=True):
    """Return what two_loop promises, from its definition, as longdouble."""
    out = -exact(g)
    S, Y = exact(S), exact(Y)
    for b, F in enumerate(free.numpy()):
        ring = places(int(head[b]), int(count[b]), S.shape[1])
        pairs = [(S[b, j][F], Y[b, j][F]) for j in ring]
        pairs = [pair for pair in pairs if usable(*pair)]
        if not pairs:
            continue
        if dense:
            out[b, F] = dense_inverse(pairs) @ out[b, F]
        else:
            s, y = pairs[-1]
            out[b, F] = recursion(pairs, (s @ y) / (y @ y), out[b, F])
    return out


def history(rows, m, n, dtype):
    """Return g, S, Y of a well-conditioned problem: the curvature of each s lies in [0.5, 2]."""
    g = torch.randn(rows, n, dtype=dtype)
    S = torch.randn(rows, m, n, dtype=dtype)
    Y = S * torch.empty_like(S).uniform_(0.5, 2)
    return g, S, Y


def full(rows, m):
    """Return head and count of rings that are full, each starting somewhere else."""
    return torch.arange(rows) % m, torch.full((rows,), m)


@cache
def ring_case(m, dtype):
    every = list(itertools.product(range(m), range(m + 1)))
    head, count = (torch.tensor(column) for column in zip(*every, strict=True))
    g, S, Y = history(len(every), m, 7, dtype)
    for b, (h, k) in enumerate(every):
        empty = [j for j in range(m) if j not in places(h, k, m)]
        S[b, empty] = Y[b, empty] = torch.nan
    free = torch.rand(g.shape) < 0.8
    args = g, S, Y, head, count, free
    return args, expected(*args)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_every_ring_offset_and_every_fill(m, dtype, implementation):
    """Places that are not filled hold NaN: reading one would show."""
    args, wanted = ring_case(m, dtype)
    assert relative_error(ops.two_loop(*args), wanted).max() < WELL_CONDITIONED[dtype]


FREE = {
    "all": lambda rows, n: torch.ones(rows, n, dtype=torch.bool),
    "most": lambda rows, n: torch.rand(rows, n) < 0.7,
    "one": lambda rows, n: torch.arange(n).expand(rows, n) == torch.arange(rows)[:, None] % n,
    "none": lambda rows, n: torch.zeros(rows, n, dtype=torch.bool),
}


@cache
def dense_case(n, m, free, dtype):
    g, S, Y = history(3, m, n, dtype)
    args = g, S, Y, *full(3, m), FREE[free](3, n)
    return args, expected(*args)


@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (63, 4), (129, 1), (129, 5)])
def test_dense_matrix(n, m, free, dtype, implementation):
    args, wanted = dense_case(n, m, free, dtype)
    assert relative_error(ops.two_loop(*args), wanted).max() < WELL_CONDITIONED[dtype]


@cache
def long_case(n, m, dtype):
    g, S, Y = history(2, m, n, dtype)
    args = g, S, Y, *full(2, m), torch.rand(2, n) < 0.7
    return args, expected(*args, dense=False)


@pytest.mark.parametrize(("n", "m"), [(784, 10), (1000, 3), (16_385, 3), (40_000, 2)])
def test_long_rows(n, m, dtype, implementation, threads):
    """Rows of more than 16384 values are cut into tiles, which two threads share."""
    if implementation == "triton-split" and n > 1000:
        pytest.skip("Triton cuts these anyway, into larger tiles")
    args, wanted = long_case(n, m, dtype)
    with threads(2):
        direction = ops.two_loop(*args)
    assert relative_error(direction, wanted).max() < WELL_CONDITIONED[dtype]


def test_the_recursion_of_this_file_is_the_dense_matrix():
    args, wanted = dense_case(63, 4, "most", torch.float64)
    np.testing.assert_allclose(expected(*args, dense=False), wanted, rtol=0, atol=1e-15)


SPOILED = {
    "negative": lambda s, y: (s, -y),
    "zero-step": lambda s, y: (torch.zeros_like(s), y),
    "zero-change": lambda s, y: (s, torch.zeros_like(y)),
    "nan": lambda s, y: (s, torch.where(torch.arange(len(y)) == 3, torch.nan, y)),
}


@pytest.mark.parametrize("how", SPOILED)
def test_pairs_without_positive_curvature_are_skipped(how, dtype, implementation):
    """Every subset of a full ring is spoiled, one in each row."""
    m, n = 4, 63
    subsets = list(itertools.product([False, True], repeat=m))
    g, S, Y = history(len(subsets), m, n, dtype)
    for b, spoiled in enumerate(subsets):
        for j in range(m):
            if spoiled[j]:
                S[b, j], Y[b, j] = SPOILED[how](S[b, j], Y[b, j])
    head, count = full(len(subsets), m)
    free = torch.ones(g.shape, dtype=torch.bool)
    direction = ops.two_loop(g, S, Y, head, count, free)
    wanted = expected(g, S, Y, head, count, free)
    assert relative_error(direction, wanted).max() < WELL_CONDITIONED[dtype]
    assert torch.equal(direction[-1], -g[-1])  # nothing left of the last ring


def test_curvature_is_judged_on_the_free_variables(dtype, implementation):
    """s'y and s_F'y_F have opposite signs, in both ways."""
    g, S, Y = history(2, 1, 63, dtype)
    free = torch.rand(1, 63).expand(2, 63) < 0.5
    Y[0, 0] = torch.where(free[0], 0.5 * S[0, 0], -50 * S[0, 0])
    Y[1, 0] = torch.where(free[1], -0.5 * S[1, 0], 50 * S[1, 0])
    args = g, S, Y, *full(2, 1), free
    direction = ops.two_loop(*args)
    assert relative_error(direction, expected(*args)).max() < WELL_CONDITIONED[dtype]
    assert not torch.equal(direction[0], -g[0])
    assert torch.equal(direction[1], -g[1])


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize(("cosine", "used"), [(0.9e-8, False), (1.1e-8, True)])
def test_the_curvature_threshold_is_relative(cosine, used, scale, dtype, implementation):
    """Pairs with s'y = cosine |s| |y|, at three scales. One product each: nothing to round away."""
    S = torch.tensor([[[scale, 0.0]]], dtype=dtype)
    Y = torch.tensor([[[cosine * scale, scale]]], dtype=dtype)
    g = torch.tensor([[1.0, 2.0]], dtype=dtype)
    direction = ops.two_loop(g, S, Y, *full(1, 1), torch.ones(1, 2, dtype=torch.bool))
    assert torch.equal(direction, -g) is not used


def test_without_pairs_the_direction_is_steepest_descent(dtype, implementation):
    g, S, Y = history(3, 2, 63, dtype)
    none = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(ops.two_loop(g, S, Y, none, none, torch.rand(3, 63) < 0.5), -g)


CONDITIONS = {
    # Pairs as a run leaves them.
    "run": (784, 3),
    # Pairs whose s and y are nearly orthogonal: rho and the direction magnify every rounding.
    "orthogonal-1e-2": (784, 3),
    "orthogonal-1e-4": (784, 3),
}


@cache
def ill_conditioned(name, dtype):
    n, m = CONDITIONS[name]
    rows = 300
    g = torch.randn(rows, n, dtype=torch.float64)
    free = torch.rand(rows, n) < 0.9
    if name == "run":
        S, Y, g = pairs_of_a_run(g, m)
    else:
        cosine = float(name.removeprefix("orthogonal-"))
        S, Y = torch.randn(2, rows, m, n, dtype=torch.float64)
        s = torch.nn.functional.normalize(S * free[:, None], dim=-1)
        y = Y * free[:, None]
        y = torch.nn.functional.normalize(y - (s * y).sum(-1, keepdim=True) * s, dim=-1)
        S = torch.where(free[:, None], s, S)
        Y = torch.where(free[:, None], y + cosine * s, Y)
    args = g.to(dtype), S.to(dtype), Y.to(dtype), *full(rows, m), free
    wanted = expected(*args, dense=False)
    with use_backend("reference"):
        reference = free_error(ops.two_loop(*args), wanted, free)
    return args, wanted, reference


def pairs_of_a_run(g, m):
    """Return S, Y and gradient after 2 m steps on a quadratic with eigenvalues from 1 to 1e6."""
    rows, n = g.shape
    eigenvalues = torch.logspace(0, 6, n, dtype=torch.float64)
    axis = torch.nn.functional.normalize(torch.randn(n, dtype=torch.float64), dim=0)

    def hessian(v):
        for scale in (eigenvalues, 1):
            v = (v - 2 * (v @ axis)[:, None] * axis) * scale
        return v

    S, Y = torch.zeros(2, rows, m, n, dtype=torch.float64)
    every = torch.ones(rows, n, dtype=torch.bool)
    for k in range(2 * m):
        head, count = (torch.full((rows,), each) for each in (k % m, min(k, m)))
        with use_backend("reference"):
            d = ops.two_loop(g, S, Y, head, count, every)
        Ad = hessian(d)
        step = -0.8 * (g * d).sum(1, keepdim=True) / (Ad * d).sum(1, keepdim=True)
        S[:, k % m], Y[:, k % m] = step * d, step * Ad
        g = g + step * Ad
    return S, Y, g


def free_error(direction, wanted, free):
    F = free.numpy()
    return relative_error(torch.where(free, direction, 0), np.where(F, wanted, 0))


@pytest.mark.parametrize("name", CONDITIONS)
def test_ill_conditioned_histories(name, dtype, isa):
    """At most twice the reference's error, in the median and nine times in ten of 300 histories."""
    args, wanted, reference = ill_conditioned(name, dtype)
    error = free_error(ops.two_loop(*args), wanted, args[-1])
    for part in (0.5, 0.9):
        bound = TIMES_REFERENCE * np.quantile(reference, part) + EPS[dtype]
        assert np.quantile(error, part) <= bound, f"quantile {part}"


def inside(tensor):
    """Return the same values as rows and places cut out of a larger tensor full of NaN."""
    if tensor.dtype == torch.bool:
        frame = tensor.new_ones([2 * size + 3 for size in tensor.shape])
    else:
        frame = tensor.new_full([2 * size + 3 for size in tensor.shape], torch.nan)
    *rows, last = tensor.shape
    cut = frame[(*(slice(1, 1 + 2 * size, 2) for size in rows), slice(3, 3 + last))]
    return cut.copy_(tensor)


def test_rows_cut_out_of_larger_tensors(dtype, implementation):
    g, S, Y = history(4, 3, 129, dtype)
    head, count = full(4, 3)
    free = torch.rand(4, 129) < 0.7
    cut = ops.two_loop(inside(g), inside(S), inside(Y), head, count, inside(free))
    assert torch.equal(cut, ops.two_loop(g, S, Y, head, count, free))


def test_one_row_for_all(dtype, implementation):
    """Rows of stride 0, as expand makes them."""
    g, S, Y = history(1, 3, 63, dtype)
    head, count = full(1, 3)
    free = torch.rand(1, 63) < 0.7
    alone = ops.two_loop(g, S, Y, head, count, free)
    batch = ops.two_loop(
        g.expand(5, 63),
        S.expand(5, 3, 63),
        Y.expand(5, 3, 63),
        head.repeat(5),
        count.repeat(5),
        free.expand(5, 63),
    )
    assert torch.equal(batch, alone.expand(5, 63))


def test_out_variant_writes_the_result_and_nothing_else(dtype, implementation):
    g, S, Y = history(3, 2, 129, dtype)
    args = g, S, Y, *full(3, 2), torch.rand(3, 129) < 0.7
    frame = torch.full((5, 129), 7.0, dtype=dtype)
    ops.two_loop_out(*args, direction=frame[1:4])
    assert torch.equal(frame[1:4], ops.two_loop(*args))
    assert (frame[[0, 4]] == 7).all()


@pytest.mark.parametrize(("rows", "n"), [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_do(rows, n, dtype, implementation):
    g, S, Y = history(rows, 2, n, dtype)
    count = torch.full((rows,), 2)
    direction = ops.two_loop(g, S, Y, count - 1, count, torch.ones(rows, n, dtype=torch.bool))
    assert direction.shape == (rows, n)
    assert direction.dtype == dtype


@pytest.mark.parametrize("n", [1000, 40_000])
def test_bits_depend_on_neither_batch_nor_threads(n, dtype, isa, threads):
    """Nine rows: enough for two threads to take whole rows; one alone is cut into tiles."""
    g, S, Y = history(9, 2, n, dtype)
    args = g, S, Y, *full(9, 2), torch.rand(9, n) < 0.7
    with threads(1):
        batch = ops.two_loop(*args)
    with threads(2):
        assert torch.equal(ops.two_loop(*args), batch)
        alone = torch.cat([ops.two_loop(*(each[b : b + 1] for each in args)) for b in range(9)])
    assert torch.equal(alone, batch)


def test_a_row_with_nan_spoils_no_other(dtype, implementation):
    g, S, Y = history(3, 2, 63, dtype)
    args = S, Y, *full(3, 2), torch.ones(3, 63, dtype=torch.bool)
    clean = ops.two_loop(g, *args)
    g[1, 40] = torch.nan
    spoiled = ops.two_loop(g, *args)
    assert spoiled[1].isnan().all()
    assert torch.equal(spoiled[[0, 2]], clean[[0, 2]])


@cache
def stored_case(n, m, free, stored, size):
    """Return rings of 16 bits, each row one pair fuller than the last; empty places hold NaN."""
    g, S, Y = history(m + 1, m, n, torch.float32)
    S, Y = (size * S).to(stored), (size * Y).to(stored)
    head, count = torch.arange(m + 1) % m, torch.arange(m + 1)
    for b in range(m + 1):
        filled = places(int(head[b]), int(count[b]), m)
        S[b, [j for j in range(m) if j not in filled]] = torch.nan
    args = g, S, Y, head, count, FREE[free](m + 1, n)
    return args, expected(*args, dense=n < 784)


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize("free", ["all", "most"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (63, 4), (129, 5), (784, 3), (1000, 3)])
def test_pairs_of_16_bits(n, m, free, stored, implementation):
    """The direction is that of the rounded pairs, as close as with pairs of float32."""
    args, wanted = stored_case(n, m, free, stored, 1.0)
    assert relative_error(ops.two_loop(*args), wanted).max() < WELL_CONDITIONED[torch.float32]


@pytest.mark.parametrize("size", [1e-6, 1e4])
def test_pairs_at_the_ends_of_float16(size, implementation):
    args, wanted = stored_case(129, 5, "most", torch.float16, size)
    assert relative_error(ops.two_loop(*args), wanted).max() < WELL_CONDITIONED[torch.float32]


def test_every_value_of_float16(isa):
    """With one pair, y of one value, every other value of the direction is a multiple of s."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    s = bits.view(torch.float16)
    s = torch.cat((s.new_tensor([1000.0]), s[s.isfinite()]))
    g = (torch.arange(len(s)) == 0).float()[None]
    args = g, s[None, None], g.half()[:, None], *full(1, 1), torch.ones_like(g, dtype=torch.bool)
    direction = ops.two_loop(*args)
    few = 4 * EPS[torch.float32]
    with use_backend("reference"):
        torch.testing.assert_close(direction, ops.two_loop(*args), rtol=few, atol=0)


@pytest.mark.parametrize("stored", STORED, ids=str)
def test_a_pair_without_curvature_after_rounding_is_skipped(stored, implementation):
    S, Y = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1.0001, -1.0]]])
    g = torch.tensor([[1.0, 2.0]])
    rest = *full(1, 1), torch.ones(1, 2, dtype=torch.bool)
    assert not torch.equal(ops.two_loop(g, S, Y, *rest), -g)
    assert torch.equal(ops.two_loop(g, S.to(stored), Y.to(stored), *rest), -g)


def test_registration(dtype):
    g, S, Y = history(3, 2, 5, dtype)
    rest = *full(3, 2), torch.rand(3, 5) < 0.7
    torch.library.opcheck(torch.ops.advkit.two_loop.default, (g, S, Y, *rest))
    if dtype == torch.float32:
        torch.library.opcheck(torch.ops.advkit.two_loop.default, (g, S.half(), Y.half(), *rest))


def test_compiled():
    torch.compiler.reset()
    g, S, Y = history(3, 2, 63, torch.float32)
    args = g, S, Y, *full(3, 2), torch.rand(3, 63) < 0.7
    compiled = torch.compile(ops.two_loop, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*args), ops.two_loop(*args))
