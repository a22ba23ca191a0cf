"""Kernels as Triton compiles them ahead of time, for three architectures."""

from functools import partial

import numpy as np
import pytest
from ptx import Memory
from ptx.compile import triton_binary, triton_ptx
from ptx.elsewhere import compiled_elsewhere

pytest.importorskip("triton")

_compiled = partial(compiled_elsewhere, module="triton_kernels")


@pytest.fixture(params=[80, 90, 100])
def capability(request):
    return request.param


def _launch(kernel, grid, signature, block, arrays, *numbers, **how):
    memory = Memory()
    addresses = [memory.add(array, writable=k == len(arrays) - 1) for k, array in enumerate(arrays)]
    compiled = _compiled(triton_ptx, kernel, signature, {"BLOCK": block}, **how)
    return compiled.launch(grid, [*addresses, *numbers], memory=memory, races="differing")


_rng = np.random.default_rng(0)


def test_add_with_a_mask(capability):
    x, y = _rng.normal(size=(2, 1000)).astype(np.float32)
    out = np.zeros(1000, np.float32)
    signature = {"x": "*fp32", "y": "*fp32", "out": "*fp32", "n": "i32"}
    _launch("add", 4, signature, 256, [x, y, out], 1000, arch=capability)
    np.testing.assert_array_equal(out, x + y)


def test_row_sum_in_float64_over_a_dynamic_count(capability):
    x, out = _rng.normal(size=(5, 700)).astype(np.float32), np.zeros(5)
    signature = {"x": "*fp32", "out": "*fp64", "n": "i32"}
    counts = _launch("row_sum", 5, signature, 256, [x, out], 700, arch=capability, num_warps=2)
    np.testing.assert_allclose(out, x.sum(axis=1, dtype=np.float64), rtol=1e-13)
    assert counts.instructions["ld.global"] == x.size


def test_softmax(capability):
    x = _rng.normal(size=(3, 100)).astype(np.float32)
    out = np.zeros_like(x)
    signature = {"x": "*fp32", "out": "*fp32", "n": "i32"}
    _launch("softmax", 3, signature, 128, [x, out], 100, arch=capability)
    power = np.exp(x - x.max(axis=1, keepdims=True).astype(np.float64))
    np.testing.assert_allclose(out, power / power.sum(axis=1, keepdims=True), rtol=1e-6)


def test_join_split_where_and_atomics(capability):
    x, out = _rng.normal(size=128), np.zeros(129)
    signature = {"x": "*fp64", "out": "*fp64", "scale": "fp64"}
    _launch("select", 1, signature, 128, [x, out], 3.0, arch=capability)
    expected = np.where(x > 0, 3 * x, -np.sqrt(np.abs(x)))
    np.testing.assert_allclose(out, [*expected, (x > 0).sum()], rtol=1e-15)


@pytest.mark.parametrize("schedule", ["lowest", "random"])
def test_scan_and_a_while_loop(capability, schedule):
    x, out, where = _rng.uniform(size=500), np.zeros(512), np.zeros(2, np.int32)
    signature = {"x": "*fp64", "out": "*fp64", "where": "*i32", "n": "i32"}
    memory = Memory()
    values = [memory.add(array) for array in (x, out, where)]
    kernel = _compiled(triton_ptx, "scan", signature, {"BLOCK": 512}, capability)
    kernel.launch(1, [*values, 500], memory=memory, races="differing", schedule=schedule)
    np.testing.assert_allclose(out[:500], np.cumsum(x), rtol=1e-12)
    assert where.tolist() == [x.argmax(), np.ceil(np.log2(x.sum()))]


def test_two_axes_and_bfloat16(capability):
    torch = pytest.importorskip("torch")
    x, sums = _rng.normal(size=(30, 60)).astype(np.float32), np.zeros(128, np.float32)
    out, memory = np.zeros((60, 30), np.int16), Memory()
    signature = {"x": "*fp32", "sums": "*fp32", "out": "*bf16", "n": "i32", "m": "i32"}
    kernel = _compiled(triton_ptx, "transpose", signature, {"BLOCK": 64}, capability)
    values = [memory.add(array) for array in (x, sums, out)]
    kernel.launch(1, [*values, 30, 60], memory=memory, races="differing")
    np.testing.assert_allclose(sums[:60], x.sum(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(sums[64:94], x.max(axis=1))
    assert torch.equal(torch.from_numpy(out).view(torch.bfloat16), torch.from_numpy(x.T).bfloat16())


@pytest.mark.parametrize(
    "target", [("cuda", 90, 32), ("hip", "gfx942", 64), ("hip", "gfx1100", 32)], ids=str
)
def test_machine_code(target):
    signature = {"x": "*fp32", "out": "*fp64", "n": "i32"}
    code = _compiled(triton_binary, "row_sum", signature, {"BLOCK": 256}, target)
    assert code.startswith(b"\x7fELF")
