"""Runs the PTX that nvcc and Triton emit, in NumPy, for tests of kernels where there is no GPU.

>>> module = Module(nvcc(source, "sm_90"))  # of ptx.compile
>>> memory = Memory()
>>> params = [n, memory.add(x, writable=False), memory.add(y)]
>>> counts = module.kernels["saxpy"].launch(grid, block, params, memory=memory)
>>> counts.sectors_read, counts.instructions["fma.f32"]

Registers are arrays with a value for each thread (`decode.py`, `machine.py`); global memory is this
process's own (`memory.py`). To add an instruction: a builder with `@operation` in the file of its
subject, which returns the closure that runs it for the active threads.
"""

from .counts import Counts
from .errors import Fault, PtxError, UnsupportedInstruction
from .memory import Memory
from .module import Kernel, Module, Parameter

__all__ = [
    "Counts",
    "Fault",
    "Kernel",
    "Memory",
    "Module",
    "Parameter",
    "PtxError",
    "UnsupportedInstruction",
]
