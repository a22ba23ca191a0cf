"""Compiling Triton kernels in another process, for tests whose own runs Triton's interpreter."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context


@cache
def _compiler() -> ProcessPoolExecutor:
    interpret = os.environ.pop("TRITON_INTERPRET", None)
    try:
        pool = ProcessPoolExecutor(1, get_context("spawn"))
        pool.submit(os.getpid).result()  # the process starts here, with this environment
    finally:
        if interpret is not None:
            os.environ["TRITON_INTERPRET"] = interpret
    return pool


def _compile(function, module, kernel, args, given):
    return function(getattr(importlib.import_module(module), kernel), *args, **given)


def compiled_elsewhere(function: Callable, kernel: str, *args, module: str, **given):
    """Return function(kernel, *args, **given), one of `compile.py`, of a module's kernel."""
    return _compiler().submit(_compile, function, module, kernel, args, given).result()
