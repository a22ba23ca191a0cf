"""Run the Triton kernels of `advkit.ops` on CPU tensors, compiled, by the PTX interpreter."""

import importlib
from contextlib import ExitStack, contextmanager
from functools import cache
from unittest import mock

import torch
from ptx import Memory
from ptx.compile import triton_binary, triton_ptx
from ptx.elsewhere import compiled_elsewhere
from ptx.resources import Launched, resources

MODULES = (
    "penalty.kernel_triton",
    "penalty.kernel_triton_split",
    "class_loss.kernel_triton",
    "two_loop.kernel_triton",
    "two_loop.kernel_triton_split",
    "lbfgs_step.kernel_triton",
    "lbfgs_step.kernel_triton_split",
)
TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}
OPTIONS = ("num_warps", "enable_fp_fusion")


@cache
def _compiled(function, kernel, signature, constexprs, target, module, aligned, options):
    given = {"aligned": aligned, **dict(options)}
    arguments = dict(signature), dict(constexprs), target
    return compiled_elsewhere(function, kernel, *arguments, module=module, **given)


def described(kernel, args, given):
    """Return what a call makes Triton compile: signature, constexprs, what is aligned, options."""
    constexprs = {key: value for key, value in given.items() if key not in OPTIONS}
    names = [name for name in kernel.arg_names if name not in constexprs]
    signature, aligned = {}, []
    for name, value in zip(names, args, strict=True):
        if isinstance(value, torch.Tensor):
            signature[name], number = TYPES[value.dtype], value.data_ptr()
        else:
            signature[name], number = "i32" if -(2**31) <= value < 2**31 else "i64", value
        if number % 16 == 0:
            aligned.append(name)
    options = {key: value for key, value in given.items() if key in OPTIONS}
    return signature, constexprs, tuple(aligned), {"enable_fp_fusion": True, **options}


def compiled(kernel, args, given, target=90):
    """Compile the kernel of a call: to PTX for 80, 90 or 100, to a binary for a target's triple."""
    signature, constexprs, aligned, options = described(kernel, args, given)
    return _compiled(
        triton_ptx if isinstance(target, int) else triton_binary,
        kernel.fn.__name__,
        tuple(signature.items()),
        tuple(constexprs.items()),
        target,
        kernel.fn.__module__,
        aligned,
        tuple(options.items()),
    )


@contextmanager
def launches_go_to(launch):
    """Let the Triton kernels of every op start by launch(kernel, grid, args, given)."""

    def call(kernel, grid, device, *args, **given):
        if 0 not in grid:
            launch(kernel, grid, args, given)

    with ExitStack() as stack:
        for name in MODULES:
            module = importlib.import_module(f"advkit.ops.{name}")
            stack.enter_context(mock.patch.object(module, "launch", call))
        yield


@contextmanager
def interpreted(arch=90, **how):
    """Let `kernel_triton` of every op run here; yields the list of launches, with their counts.

    Whatever is touched outside of the tensors given is a fault, and so is a race in shared memory
    but for equal values, as Triton writes copies.

    Parameters
    ----------
    arch : int
        What to compile for: 80, 90 or 100.
    how
        Handed to the interpreter: schedule, seed.
    """
    launched = []

    def run(kernel, grid, args, given):
        memory = Memory()
        for each in args:
            if isinstance(each, torch.Tensor) and each.numel():
                memory.add(each)
        values = [each.data_ptr() if isinstance(each, torch.Tensor) else each for each in args]
        program = compiled(kernel, args, given, arch)
        counts = program.launch(grid, values, memory=memory, races="differing", **how)
        launched.append((kernel.fn.__name__, counts))

    with launches_go_to(run):
        yield launched


@contextmanager
def assembled(arch):
    """Let `kernel_triton` of every op be compiled and not run; yields the list of `Launched`."""
    launched = []

    def record(kernel, grid, args, given):
        program = compiled(kernel, args, given, arch)
        binary = compiled(kernel, args, given, ("cuda", arch, 32))
        takes = resources(binary)[program.name]
        launched.append(Launched(program.name, program.threads, program.shared, takes))

    with launches_go_to(record):
        yield launched
