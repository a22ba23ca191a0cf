"""What the kernels for GPUs take of a multiprocessor: they may not spill a byte."""

import importlib

import pytest
import torch
from gpu_calls import OPS, prepared
from ptx.compile import find_nvcc
from ptx.resources import Resources, find_cuobjdump

from advkit.ops import _dispatch

pytestmark = pytest.mark.slow

# Images in one program or block, up to the largest, and one cut into tiles. Of other architectures
# two sizes alone, since Triton takes a quarter of a minute for each; bench/kernel_resources.py has
# them all.
SHAPES = [(784, 90), (4096, 90), (8192, 90), (20_000, 90)]
SHAPES += [(n, arch) for n in (3072, 16_384) for arch in (80, 90, 100, 120)]
# Of CUDA images in one block in float64, what sm_120 makes of float32, and images cut into tiles.
OF_CUDA = [(n, arch, torch.float64) for n in (784, 4096) for arch in (80, 90, 100, 120)]
OF_CUDA += [(n, 120, torch.float32) for n in (784, 3072, 8192)]
OF_CUDA += [(20_000, arch, torch.float32) for arch in (80, 90, 100, 120)]


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


def launches(backend, op, n, arch, dtype, m=10):
    """Return what each launch of a call takes, of which a multiprocessor must hold one block."""
    call = prepared(op, _dispatch.kernels(op, backend), n, m=m, dtype=dtype)
    with importlib.import_module(f"{backend}_on_ptx").assembled(arch) as launched:
        call()
    for each in launched:
        assert each.takes.blocks(arch, each.threads, each.dynamic) >= 1, each
    return launched


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("n", "arch"), SHAPES)
def test_no_kernel_spills(backend, op, n, arch):
    for each in launches(backend, op, n, arch, torch.float32):
        assert each.takes.spilled == 0, each


@pytest.mark.parametrize("op", ["two_loop", "lbfgs_step"])
@pytest.mark.parametrize("m", [5, 20])
def test_no_kernel_spills_with_few_or_many_pairs(backend, op, m):
    for each in launches(backend, op, 784, 90, torch.float32, m):
        assert each.takes.spilled == 0, each


@pytest.mark.parametrize("backend", ["triton"], indirect=True)
@pytest.mark.parametrize("op", ["two_loop", "lbfgs_step"])
def test_no_kernel_of_triton_spills_in_float64(backend, op):
    """The longest rows of one program."""
    for each in launches(backend, op, 8192, 90, torch.float64):
        assert each.takes.spilled == 0, each


@pytest.mark.parametrize("backend", ["cuda"], indirect=True)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("n", "arch", "dtype"), OF_CUDA, ids=str)
def test_no_kernel_of_cuda_spills(backend, op, n, arch, dtype):
    for each in launches(backend, op, n, arch, dtype):
        assert each.takes.spilled == 0, each


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
