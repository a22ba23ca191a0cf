"""Which backend serves a call.

``cpu`` is the compiled module, ``reference`` is plain PyTorch. A backend that was asked for and
cannot serve is an error that says why; the automatic choice takes the fastest that can, and says
once when that is not the compiled one.
"""

from __future__ import annotations

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

__all__ = ["BACKENDS", "available_backends", "choose", "native", "use_backend"]

BACKENDS = ("cpu", "reference")
NATIVE_DTYPES = (torch.float32, torch.float64)

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


def available_backends() -> tuple[str, ...]:
    """Name the backends that this machine can run."""
    return BACKENDS if _load()[0] is not None else ("reference",)


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Make every op inside the ``with`` block use one backend.

    Parameters
    ----------
    name : str or None
        ``"cpu"`` or ``"reference"``; None changes nothing.

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
    if name == "cpu":
        native()
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


@cache
def _say_once(reason: str) -> None:
    warnings.warn(f"advkit runs its slow reference backend: {reason}", RuntimeWarning, stacklevel=3)


def choose(tensor: torch.Tensor) -> str:
    """Return the backend for this tensor's device and dtype."""
    forced = _forced.get()
    if forced == "cpu":
        if tensor.device.type != "cpu":
            raise RuntimeError(
                f"backend 'cpu' was asked for, but the tensors are on {tensor.device}"
            )
        if tensor.dtype not in NATIVE_DTYPES:
            raise RuntimeError(f"backend 'cpu' takes float32 and float64, got {tensor.dtype}")
        return "cpu"
    if forced is not None:
        return forced
    if tensor.device.type != "cpu" or tensor.dtype not in NATIVE_DTYPES:
        return "reference"
    module, reason = _load()
    if module is None:
        _say_once(reason)
        return "reference"
    return "cpu"
