"""Which backend serves a call.

``cpu`` is the compiled module, ``triton`` and ``cuda`` are for GPUs, ``reference`` is plain
PyTorch. The automatic choice, by the device of the tensors:

- a CPU: ``cpu``;
- an NVIDIA or AMD GPU: ``triton``, or ``cuda`` where Triton is not installed;
- any other, or a dtype that the kernels do not take: ``reference``.

Where a kernel should serve and cannot, the reference does, and a warning says why, once. A backend
that was asked for (`use_backend`) and cannot serve is an error that says why.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

__all__ = ["BACKENDS", "available_backends", "choose", "kernels", "native", "use_backend"]

BACKENDS = ("cpu", "triton", "cuda", "reference")
DTYPES = (torch.float32, torch.float64)
CANDIDATES = {"cpu": ("cpu",), "cuda": ("triton", "cuda")}  # by device, which AMD's is, too: cuda
OLDEST_TRITON = (3, 4)  # 3.3 crashes where several branches return tuples of blocks

_forced: ContextVar[str | None] = ContextVar("advkit_backend", default=None)


@cache
def _load() -> tuple[ModuleType | None, str]:
    """Load the compiled module, or say why it cannot be."""
    try:
        from advkit import _native
    except ImportError as error:
        return None, (
            f"the compiled module advkit._native cannot be imported ({error}); install advkit with "
            "`pip install .` or `pip install -e .`, and note that Python started in the source "
            "folder of a plain install imports the sources, which have no compiled module"
        )
    isas = _native.available_isas()
    if not isas:
        return None, "this processor is older than x86-64-v2"
    asked = os.environ.get("ADVKIT_ISA")
    if asked:
        if asked not in isas:
            raise ValueError(
                f"ADVKIT_ISA is {asked!r}, which is not available here; "
                f"choose one of {', '.join(isas)}"
            )
        _native.select_isa(asked)
    suffix = "dylib" if sys.platform == "darwin" else "so"
    _native.use_openmp_of(str(Path(torch.__file__).parent / "lib" / f"libtorch_cpu.{suffix}"))
    return _native, ""


def native() -> ModuleType:
    """Return the compiled module, or raise an error that says why it is missing."""
    module, reason = _load()
    if module is None:
        raise RuntimeError(f"backend 'cpu' is not available: {reason}")
    return module


@cache
def _why_no_triton() -> str:
    """Say why Triton cannot be used, or nothing."""
    try:
        version = importlib.import_module("triton").__version__
    except ImportError as error:
        return f"Triton cannot be imported ({error}); install it with `pip install triton`"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        return f"Triton {version} is too old; install {oldest} or newer"
    if _interpreted() or torch.cuda.is_available():
        return ""
    return "there is no GPU that torch can use (TRITON_INTERPRET=1 runs its kernels on the CPU)"


def _interpreted() -> bool:
    """Return whether Triton runs its kernels in its interpreter, for which they need no GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _why_no_cuda() -> str:
    """Say why the CUDA module cannot be used, or nothing."""
    try:
        importlib.import_module("advkit._cuda")
    except ImportError as error:
        return (
            f"the module advkit._cuda cannot be imported ({error}); install advkit with "
            "`pip install . -Ccmake.define.ADVKIT_CUDA=ON`, which needs nvcc of CUDA 12.8 or newer"
        )
    if torch.version.cuda is None or not torch.cuda.is_available():
        return "there is no NVIDIA GPU that torch can use"
    return ""


def _why_not(backend: str) -> str:
    """Say why a backend cannot be used on this machine, or nothing."""
    if backend == "cpu":
        return _load()[1]
    if backend == "triton":
        return _why_no_triton()
    return _why_no_cuda() if backend == "cuda" else ""


def available_backends() -> tuple[str, ...]:
    """Name the backends that this machine can run."""
    return tuple(backend for backend in BACKENDS if not _why_not(backend))


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Make every op inside the ``with`` block use one backend.

    Parameters
    ----------
    name : str or None
        ``"cpu"``, ``"triton"``, ``"cuda"`` or ``"reference"``; None changes nothing.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    RuntimeError
        If it is not available here; the message says why.
    """
    if name is not None and name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} or None, got {name!r}")
    if name is None:
        yield
        return
    reason = _why_not(name)
    if reason:
        raise RuntimeError(f"backend {name!r} is not available: {reason}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


@cache
def _say_once(reason: str) -> None:
    warnings.warn(f"advkit runs its slow reference backend: {reason}", RuntimeWarning, stacklevel=3)


def _device_type(backend: str) -> str:
    """Return the type of device whose tensors a backend's kernels take."""
    return "cpu" if backend == "cpu" or (backend == "triton" and _interpreted()) else "cuda"


def choose(tensor: torch.Tensor, also: tuple[torch.dtype, ...] = ()) -> str:
    """Return the backend for this tensor's device and dtype.

    Parameters
    ----------
    tensor : Tensor
        One of the op's.
    also : tuple of torch.dtype
        What the op's kernels for GPUs take beside float32 and float64.
    """
    forced = _forced.get()
    device = tensor.device.type
    if forced == "reference":
        return forced
    if forced is not None:
        if device != _device_type(forced):
            raise RuntimeError(
                f"backend {forced!r} was asked for, but the tensors are on {tensor.device}"
            )
        taken = DTYPES if forced == "cpu" else DTYPES + also
        if tensor.dtype not in taken:
            names = " and ".join(str(dtype).removeprefix("torch.") for dtype in taken)
            raise RuntimeError(f"backend {forced!r} takes {names}, got {tensor.dtype}")
        return forced
    candidates = CANDIDATES.get(device, ())
    if tensor.dtype not in (DTYPES if device == "cpu" else DTYPES + also):
        return "reference"
    reasons = []
    for backend in candidates:
        reason = _why_not(backend)
        if not reason:
            return backend
        reasons.append(reason)
    if reasons:
        _say_once("; ".join(reasons))
    return "reference"


@cache
def kernels(op: str, backend: str) -> ModuleType:
    """Return the module of an op's kernels; Triton is imported where it is first needed."""
    file = "native" if backend == "cpu" else backend
    return importlib.import_module(f"advkit.ops.{op}.kernel_{file}")
