"""Run the CUDA kernels of `advkit.ops` on CPU tensors: the plan's launches, by the PTX interpreter.

The sources are those of the module, compiled to PTX with the same definitions as in
``csrc/cuda/build.cmake``. Whatever is touched outside of the tensors given is a fault, and so is a
race in shared memory.
"""

import re
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from ptx import Memory, Module
from ptx.compile import nvcc
from ptx.resources import MULTIPROCESSORS, RESERVED, Launched, assembled_by_nvcc, resources

from advkit.ops.class_loss import kernel_cuda as class_loss
from advkit.ops.lbfgs_step import kernel_cuda as lbfgs_step
from advkit.ops.penalty import kernel_cuda as penalty
from advkit.ops.two_loop import kernel_cuda as two_loop

OPS = (penalty, class_loss, two_loop, lbfgs_step)
SOURCES = Path(__file__).parents[1] / "csrc"
TYPES = {
    "f32": ("float", "float", 16),
    "f64": ("double", "double", 8),
    "f32_f16": ("float", "__half", 16),
    "f32_bf16": ("float", "__nv_bfloat16", 16),
    "f16": ("__half", "__half", 8),
    "bf16": ("__nv_bfloat16", "__nv_bfloat16", 8),
}
KERNEL = re.compile(
    r"advkit_(penalty|class_loss|two_loop|lbfgs_step)_((?:f|bf)\d\d(?:_b?f16)?)(.*)"
)


@cache
def ptx_of(source, types, arch):
    value, pair, most = TYPES[types]
    definitions = {"TYPES": types, "VALUE": value, "PAIR": pair, "MOST_VALUES": most}
    flags = [f"-DADVKIT_{name}={value}" for name, value in definitions.items()]
    folders = [f"-I{SOURCES / 'cuda'}", f"-I{SOURCES / 'include'}"]
    return nvcc(f'#include "{source}.cu"\n', f"sm_{arch}", *flags, *folders)


@cache
def module(source, types, arch):
    return Module(ptx_of(source, types, arch))


@cache
def taken(source, types, arch):
    return resources(assembled_by_nvcc(ptx_of(source, types, arch), arch))


def place(name):
    """Return the source and the types of a kernel."""
    op, types, part = KERNEL.fullmatch(name).groups()
    split = op == "lbfgs_step" and not part.startswith(("_x", "_shared"))
    return f"{op}_split" if split else op, types


def kernel(name, arch):
    return module(*place(name), arch).kernels[name]


def of_one_block(arch):
    """Return the bytes of shared memory that a block may have."""
    return MULTIPROCESSORS[arch].shared - RESERVED


@contextmanager
def launches_go_to(run, shared_memory):
    """Let `kernel_cuda` of every op start its kernels by run(prepared, device)."""
    with ExitStack() as stack:
        for op in OPS:
            stack.enter_context(mock.patch.object(op, "run", run))
        for op in (two_loop, lbfgs_step):
            stack.enter_context(mock.patch.object(op, "shared_memory", return_value=shared_memory))
        yield


@contextmanager
def interpreted(arch=90, shared_memory=None, **how):
    """Let `kernel_cuda` of every op run here; yields the list of launches, with their counts.

    Parameters
    ----------
    arch : int
        What to compile for: 80, 90 or 100.
    shared_memory : int, optional
        Bytes that a block may have; by default those of `arch`.
    how
        Handed to the interpreter: schedule, seed.
    """
    launched, memories = [], {}
    limit = of_one_block(arch) if shared_memory is None else shared_memory

    def remember(prepare):
        def call(*args):
            memory = Memory()
            for each in args:
                parts = vars(each).values() if hasattr(each, "__dataclass_fields__") else [each]
                for tensor in parts:
                    if isinstance(tensor, torch.Tensor) and tensor.numel():
                        memory.add(tensor)
            prepared = prepare(*args)
            memories[id(prepared)] = memory
            return prepared

        return call

    def run(prepared, device):
        memory = memories.pop(id(prepared))
        for name, grid, threads, shared in prepared.launches:
            counts = kernel(name, arch).launch(
                grid, threads, prepared.call, memory=memory, shared=shared, races=True, **how
            )
            launched.append((name, counts))

    with launches_go_to(run, limit), ExitStack() as stack:
        for op in OPS:
            stack.enter_context(mock.patch.object(op, "prepare", remember(op.prepare)))
        yield launched


@contextmanager
def assembled(arch):
    """Let `kernel_cuda` of every op be compiled and not run; yields the list of `Launched`."""
    launched = []

    def record(prepared, device):
        for name, _, threads, shared in prepared.launches:
            launched.append(Launched(name, threads, shared, taken(*place(name), arch)[name]))

    with launches_go_to(record, of_one_block(arch)):
        yield launched
