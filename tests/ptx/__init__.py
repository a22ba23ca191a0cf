"""Runs the PTX that nvcc and Triton emit, in NumPy, for tests of kernels where there is no GPU."""

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
