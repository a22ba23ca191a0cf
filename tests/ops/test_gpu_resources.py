"""What the kernels for GPUs take of a multiprocessor: they may not spill a byte."""

import importlib

import pytest
from gpu_calls import OPS, prepared
from ptx.compile import find_nvcc
from ptx.resources import Resources, find_cuobjdump

from advkit.ops import _dispatch

pytestmark = pytest.mark.slow

# Images in one block of CUDA; Triton's programs hold 4096 values at most, the last is cut. Of other
# architectures one size alone, since Triton takes half a minute for each;
# bench/kernel_resources.py has them all, and bench/README.md says which of those spill.
SHAPES = [(784, 90), (3072, 80), (3072, 90), (3072, 100), (3072, 120), (4096, 90), (8192, 90)]


@pytest.fixture(params=["triton", "cuda"])
def backend(request):
    if find_cuobjdump() is None:
        pytest.skip("there is no cuobjdump")
    if request.param == "cuda":
        pytest.importorskip("advkit._cuda", exc_type=ImportError)
        if find_nvcc() is None:
            pytest.skip("there is no nvcc")
    else:
        pytest.importorskip("triton")
    return request.param


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("n", "arch"), SHAPES)
def test_no_kernel_spills(backend, op, n, arch):
    call = prepared(op, _dispatch.kernels(op, backend), n, m=10)
    with importlib.import_module(f"{backend}_on_ptx").assembled(arch) as launched:
        call()
    for each in launched:
        assert each.takes.spilled == 0, each
        assert each.takes.blocks(arch, each.threads, each.dynamic) >= 1, each


def test_occupancy():
    """Each limit in its turn, by hand: warps, registers, blocks, shared memory."""
    assert Resources(32, 0, 1024).blocks(90, 1024, 0) == 2
    assert Resources(128, 0, 1024).blocks(90, 128, 0) == 4
    assert Resources(129, 0, 1024).blocks(90, 128, 0) == 3
    assert Resources(16, 0, 1024).blocks(90, 32, 0) == 32
    assert Resources(32, 0, 1024).blocks(90, 64, 100 * 1024) == 2
    assert Resources(32, 0, 0).blocks(80, 64, 100 * 1024) == 1
    assert Resources(16, 0, 1024).blocks(120, 32, 0) == 24
    assert Resources(32, 0, 1024).blocks(120, 1024, 0) == 1
