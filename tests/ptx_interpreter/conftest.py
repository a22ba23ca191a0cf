"""Short ways to run a kernel: of PTX text, of CUDA C++."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ptx import Memory, Module
from ptx.compile import find_nvcc, nvcc

ARCHS = ["sm_80", "sm_90", "sm_100"]


@pytest.fixture(params=ARCHS)
def arch(request):
    return request.param


_SOURCE = Path(__file__).with_name("kernels.cu").read_text()


@cache
def _module(arch):
    return Module(nvcc(_SOURCE, arch))


@pytest.fixture
def cuda():
    """Return a function that runs a kernel of kernels.cu.

    Arguments are arrays, which are registered and whose addresses are passed, and what else
    `Kernel.launch` takes. `buffers` and `read_only` are registered, too.
    """
    if find_nvcc() is None:
        pytest.skip("no nvcc: not on PATH, and no nvidia-cuda-nvcc installed")

    def run(kernel, grid, block, *arguments, arch="sm_90", buffers=(), read_only=(), **how):
        memory = Memory()
        for array in read_only:
            memory.add(array, writable=False)
        for value in (*buffers, *arguments):
            if isinstance(value, np.ndarray) and not any(value is array for array in read_only):
                memory.add(value)
        values = [v.ctypes.data if isinstance(v, np.ndarray) else v for v in arguments]
        return _module(arch).kernels[kernel].launch(grid, block, values, memory=memory, **how)

    return run


_HEAD = ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k("


@pytest.fixture
def evaluate():
    """Return a function that runs instructions on arrays: `%a0`, `%a1`, ... give `%d`, of `out`."""

    def run(text, out, *arrays):
        count, out = len(arrays[0]), np.dtype(out)
        result = np.zeros(count, out)
        memory = Memory()
        names = [f"p{k}" for k in range(len(arrays) + 1)]
        lines = [".reg .b64 %x, %i; .reg .b32 %t; .reg .pred %p, %q; mov.u32 %t, %tid.x;"]
        for k, array in enumerate([*arrays, result]):
            size = array.dtype.itemsize
            register = "%d" if array is result else f"%a{k}"
            lines.append(f".reg .b{max(8 * size, 16)} {register}; mul.wide.u32 %i, %t, {size};")
            if array is not result:
                lines.append(f"ld.param.u64 %x, [p{k}]; add.s64 %x, %x, %i;")
                lines.append(f"ld.global.b{8 * size} {register}, [%x];")
        lines.append(text)
        lines.append(f"ld.param.u64 %x, [{names[-1]}]; add.s64 %x, %x, %i;")
        lines.append(f"st.global.b{8 * out.itemsize} [%x], %d; ret;")
        parameters = ", ".join(f".param .u64 {name}" for name in names)
        module = Module(_HEAD + parameters + ")\n{\n" + "\n".join(lines) + "\n}\n")
        addresses = [memory.add(array) for array in [*arrays, result]]
        module.kernels["k"].launch(1, count, addresses, memory=memory)
        return result

    return run
