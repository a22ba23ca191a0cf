"""PTX from CUDA C++ by nvcc, and from Triton kernels ahead of time; no GPU is needed for either."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .counts import Counts
from .memory import Memory
from .module import Module


@cache
def find_nvcc() -> str | None:
    """Return nvcc's path: from PATH, or from PyPI's nvidia-cuda-nvcc; None where there is none."""
    found = shutil.which("nvcc")
    if found:
        return found
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in sorted(Path(place).glob("nvidia/*/bin/nvcc")):
            if os.access(path, os.X_OK):
                return str(path)
    return None


@cache
def nvcc(source: str, arch: str, *flags: str) -> str:
    """Return the PTX of CUDA C++ for an architecture such as "sm_90".

    Raises
    ------
    RuntimeError
        There is no nvcc, or it rejects the source; the message is nvcc's.
    """
    compiler = find_nvcc()
    if compiler is None:
        raise RuntimeError("no nvcc on PATH or in site-packages/nvidia; install nvidia-cuda-nvcc")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cu")
        file.write_text(source)
        command = [compiler, "-ptx", "-std=c++17", f"-arch={arch}", *flags, "-o", "-", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def _triton_compile(kernel, signature, constexprs, target: tuple, aligned, options: Mapping):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if os.environ.get("TRITON_INTERPRET") == "1":
        raise RuntimeError("TRITON_INTERPRET is set: kernels are not compiled then; unset it")
    signature = dict(signature) | dict.fromkeys(constexprs, "constexpr")
    # Triton wants the arguments in the order of the function's.
    signature = {name: signature[name] for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(kernel, signature, dict(constexprs), attrs=places)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return triton.compile(source, target=GPUTarget(*target), options=dict(options))


def triton_binary(
    kernel,
    signature: Mapping[str, str],
    constexprs: Mapping[str, object],
    target: tuple[str, int | str, int],
    aligned: Iterable[str] = (),
    **options,
) -> bytes:
    """Return the machine code of a Triton kernel: a cubin, or an hsaco for AMD.

    `target` is ("cuda", 80, 32) and such, or ("hip", "gfx942", 64), ("hip", "gfx1100", 32).
    """
    compiled = _triton_compile(kernel, signature, constexprs, target, aligned, options)
    return compiled.asm["cubin" if target[0] == "cuda" else "hsaco"]


@dataclass(frozen=True)
class TritonKernel:
    """A Triton kernel as PTX.

    Attributes
    ----------
    text
        The PTX.
    name
        The kernel's name in it.
    arguments
        Names of the arguments that are passed, in order. After them Triton takes pointers to
        scratch memory, which `launch` passes as null.
    shared
        Bytes of dynamic shared memory.
    threads
        Threads of a block.
    """

    text: str
    name: str
    arguments: tuple[str, ...]
    shared: int
    threads: int

    @property
    def module(self) -> Module:
        return _module(self.text)

    def launch(
        self, grid: int | Sequence[int], values: Sequence, *, memory: Memory, **how
    ) -> Counts:
        """Run the kernel on values for its arguments, constexprs left out; see `Kernel.launch`."""
        kernel = self.module.kernels[self.name]
        hidden = len(kernel.parameters) - len(self.arguments)
        params = [*values, *[0] * hidden]
        return kernel.launch(grid, self.threads, params, memory=memory, shared=self.shared, **how)


@cache
def _module(text: str) -> Module:
    return Module(text)


def triton_ptx(
    kernel,
    signature: Mapping[str, str],
    constexprs: Mapping[str, object],
    arch: int = 90,
    aligned: Iterable[str] = (),
    num_warps: int = 4,
    **options,
) -> TritonKernel:
    """Compile a `triton.jit` function to PTX.

    Parameters
    ----------
    kernel
        The function.
    signature
        Triton's type of each argument that is not a constexpr: "*fp32", "i32", "fp64".
    constexprs
        The constexprs' values.
    arch
        80, 90, 100: the compute capability times ten.
    aligned
        Arguments that are multiples of 16, on which Triton builds.
    num_warps, options
        As in Triton: num_stages and so on.
    """
    options = {"num_warps": num_warps, **options}
    compiled = _triton_compile(kernel, signature, constexprs, ("cuda", arch, 32), aligned, options)
    names = tuple(name for name in kernel.arg_names if name not in constexprs)
    meta = compiled.metadata
    return TritonKernel(compiled.asm["ptx"], meta.name, names, meta.shared, 32 * meta.num_warps)
