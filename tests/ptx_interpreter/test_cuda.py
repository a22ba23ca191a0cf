"""Kernels as nvcc compiles them, for three architectures."""

import numpy as np
import pytest

_rng = np.random.default_rng(0)


def test_saxpy_with_a_tail(cuda, arch):
    n = 1000
    x, y = _rng.normal(size=(2, n)).astype(np.float32)
    expected = (2.5 * x.astype(np.float64) + y).astype(np.float32)
    counts = cuda("saxpy", 8, 128, n, 2.5, x, y, arch=arch, read_only=[x])
    np.testing.assert_array_equal(y, expected)
    assert counts.instructions["fma.f32"] == n


@pytest.mark.parametrize("schedule", ["lowest", "random"])
def test_block_sum_with_shuffles(cuda, arch, schedule):
    n, out = 3000, np.zeros(2)
    x = _rng.normal(size=n).astype(np.float32)
    counts = cuda("block_sum", 2, 256, n, x, out, arch=arch, schedule=schedule, races=True)
    np.testing.assert_allclose(out, x.sum(dtype=np.float64), rtol=1e-14)
    assert counts.shuffles == 2 * 256 * 5 * 2  # two words each
    assert counts.barriers == 2 * 256


def test_dynamic_shared_memory_turned_round(cuda, arch):
    x = np.arange(4 * 96, dtype=np.float64)
    y = np.zeros_like(x)
    cuda("reverse", 4, 96, x, y, arch=arch, shared=96 * 8, max_lanes=256)
    np.testing.assert_array_equal(y, x.reshape(4, 96)[:, ::-1].ravel())


def test_divergent_loops(cuda, arch):
    steps = np.zeros(300, np.int32)

    def collatz(value):
        count = 0
        while value != 1:
            value, count = (3 * value + 1 if value & 1 else value // 2), count + 1
        return count

    cuda("collatz", 3, 128, 300, steps, arch=arch)
    np.testing.assert_array_equal(steps, [collatz(i + 1) for i in range(300)])


def _ulps(result, exact):
    return np.abs(result.astype(np.longdouble) - exact) / np.spacing(
        np.abs(exact).astype(result.dtype)
    )


@pytest.mark.parametrize("kind", ["double", "float"])
def test_functions_of_the_mathematical_library(cuda, arch, kind):
    dtype = np.float64 if kind == "double" else np.float32
    x = np.concatenate([_rng.uniform(1e-3, 20, 500), [1e-30, 1.0, 80.0]]).astype(dtype)
    y = np.zeros((5, x.size), dtype)
    cuda(f"functions_{kind}", 4, 128, x.size, x, y, arch=arch)
    v = x.astype(np.longdouble)
    for k, exact in enumerate([np.exp(-v), np.log1p(v), np.log(v), np.sqrt(v), 3 / v]):
        assert _ulps(y[k], exact).max() < (2 if k < 3 else 0.501)


def test_struct_of_sizes_and_pointers_by_value(cuda, arch):
    x, y = np.arange(70, dtype=np.float64), np.zeros(70)
    kind = np.dtype(
        [("rows", "i8"), ("n", "i8"), ("x", "u8"), ("scale", "f4"), ("y", "u8", 2)], align=True
    )
    p = np.array((7, 10, x.ctypes.data, 0.5, (0, y.ctypes.data)), kind)
    cuda("by_value", 1, 32, p.tobytes(), 1, arch=arch, buffers=[y], read_only=[x])
    np.testing.assert_array_equal(y, x / 2)


def test_atomics_in_both_memories(cuda, arch):
    out, bins = np.zeros(4, np.int32), np.zeros(8, np.int32)
    total, order = np.zeros(1, np.float64), np.zeros(512, np.int32)
    cuda("atomics", 2, 256, out, bins, total, order, arch=arch, races=True)
    assert out[[0, 2, 3]].tolist() == [255, 9, 512]
    assert out[1] > 0
    assert total == 256
    assert order.all()
    np.testing.assert_array_equal(bins, 2 * np.arange(256).reshape(-1, 8).sum(axis=0))


def test_asynchronous_copies_arrive_when_waited_for(cuda, arch):
    x = np.arange(256, dtype=np.float32)
    y = np.zeros_like(x)
    cuda("copy_waited_for", 1, 64, x, y, arch=arch, races=True)
    np.testing.assert_array_equal(y.reshape(64, 4), x.reshape(64, 4)[::-1])


def test_asynchronous_copies_in_groups_and_with_zeros(cuda, arch):
    x, y = _rng.normal(size=128), np.full(128, np.nan)
    counts = cuda("copy_in_groups", 1, 64, x, y, arch=arch)
    keep = np.where(np.arange(128) % 2 * (np.arange(128) < 64), 0, 1)
    np.testing.assert_array_equal(y, x * keep)
    assert counts.instructions["cp.async.commit_group"] == 128


def test_calls_switches_local_arrays_and_module_variables(cuda, arch):
    x, y = _rng.normal(size=64), np.zeros((64, 2))
    counts = cuda("calls", 1, 64, 5, x, y, arch=arch)
    for t, a in enumerate(x.tolist()):
        v = (t * 5 % 9) * a
        v = [v + 1, v * 2, v - x[0], -v, v / 3, v * v, 7][t % 7]
        assert y[t, 0] == pytest.approx(v / (a + 0.25) if t % 2 else v, rel=1e-15)
    np.testing.assert_array_equal(y[:, 1], np.arange(64) % 4 + 1)
    assert counts.local_bytes == 64 * 10 * 8


def test_votes_matches_and_reductions_of_a_warp(cuda, arch):
    out = np.zeros((6, 64), np.uint32)
    cuda("votes", 1, 64, out, arch=arch)
    ballot = [sum(1 << k for k in range(32) if (32 * w + k) % 3 == 0) for w in range(2)]
    assert out[0, [0, 32]].tolist() == ballot
    assert out[1, [0, 32]].tolist() == [2, 1]
    np.testing.assert_array_equal(out[2], 0x11111111 << (np.arange(64) & 3))
    assert out[3, [0, 63]].tolist() == [496, 1520]
    assert (out[4] == 53).all()
    assert (out[5, 1::2] == 0xAAAAAAAA).all()


def test_shuffles_with_widths(cuda, arch):
    out = np.zeros((4, 32), np.int32)
    cuda("widths", 1, 32, out, arch=arch)
    t = np.arange(32)
    np.testing.assert_array_equal(out[0], np.where(t % 8 >= 3, t - 3, t))
    np.testing.assert_array_equal(out[1], np.where(t % 8 < 5, t + 3, t))
    np.testing.assert_array_equal(out[2], t ^ 9)
    np.testing.assert_array_equal(out[3], t // 16 * 16 + 5)


def test_generic_addresses_of_several_memories_at_once(cuda, arch):
    x, y = np.arange(64, dtype=np.int32), np.zeros(64, np.int32)
    cuda("generic", 1, 64, x, y, arch=arch)
    t = np.arange(64)
    np.testing.assert_array_equal(y, np.where(t % 3, t, 101 + t))


def test_three_axes_of_blocks_and_threads(cuda, arch):
    out = np.zeros((3, 2, 2, 2, 5, 4), np.int32)
    cuda("axes", (2, 2, 3), (4, 5, 2), out, arch=arch)
    expected = np.arange(12)[:, None] * 1000 + np.arange(40)
    np.testing.assert_array_equal(out.reshape(12, 40), expected)
