"""Floating-point functions of values, for the builders in `arithmetic.py`.

Approximate operations (`.approx`, `.full`) give the correctly rounded value, or one within an ulp;
the device's own may be off by what the PTX manual says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import ieee
from .types import Type

ROUNDING = "rn rz rm rp"


def _double(kind: Type) -> Callable:
    """Return what turns values of a type into float64, exactly."""
    if kind.kind == "bf16":
        return lambda v: ieee.from_bf16(v).astype(np.float64)
    return lambda v: v.astype(np.float64)


def through_double(function: Callable, kind: Type, mode: str = "rn") -> Callable:
    """Return a function computed in float64 and rounded to the type.

    It is rounded once where the float64 result is exact or rounded to odd.
    """
    widen = _double(kind)
    if kind.kind == "bf16":
        return lambda *v: ieee.to_bf16(function(*map(widen, v)), mode)
    return lambda *v: ieee.narrow(function(*map(widen, v)), kind.dtype, mode)


def finish(function: Callable, instruction, kind: Type) -> Callable:
    """Add `.ftz` and `.sat`, where the instruction has them, to a function."""
    if instruction.has("ftz") and kind.dtype == np.float32:
        inner = function

        def function(*values):
            return ieee.flush(inner(*map(ieee.flush, values)))

    if instruction.has("sat"):
        whole = function

        def function(*values):
            return ieee.saturate(whole(*values))

    if instruction.has("relu"):
        signed = function

        def function(*values):
            return np.fmax(signed(*values), kind.dtype.type(0))

    return function


def add(kind: Type, mode: str) -> Callable:
    if mode == "rn" and kind.kind == "float":
        return np.add
    return through_double(lambda a, b: ieee.fma_odd(a, np.float64(1), b), kind, mode)


def sub(kind: Type, mode: str) -> Callable:
    if mode == "rn" and kind.kind == "float":
        return np.subtract
    return through_double(lambda a, b: ieee.fma_odd(a, np.float64(1), -b), kind, mode)


def mul(kind: Type, mode: str) -> Callable:
    if mode == "rn" and kind.kind == "float":
        return np.multiply
    return through_double(np.multiply, kind, mode)


def fma(kind: Type, mode: str) -> Callable:
    if kind.dtype == np.float64:
        return ieee.fma64
    if kind.dtype == np.float32 and mode == "rn":
        return ieee.fma32
    return through_double(ieee.fma_odd, kind, mode)


def _extreme(pick: Callable, zeros: Callable, absolute: bool) -> Callable:
    """Return min or max of two or more; `zeros` joins equal values' bits, as -0 is below +0."""

    def two(a, b):
        raw = np.dtype(f"i{a.dtype.itemsize}")
        best = pick(a, b)
        both = zeros(a.view(raw), b.view(raw)).view(a.dtype)
        return np.where(a == b, both, best)

    def function(*values):
        values = [np.abs(v) if absolute else v for v in values]
        best = values[0]
        for value in values[1:]:
            best = two(best, value)
        return best

    return function


def minimum(nan: bool, absolute: bool = False) -> Callable:
    """Return the least; a NaN wins if `nan`, otherwise it is left out."""
    return _extreme(np.minimum if nan else np.fmin, np.bitwise_or, absolute)


def maximum(nan: bool, absolute: bool = False) -> Callable:
    """Return the greatest; a NaN wins if `nan`, otherwise it is left out."""
    return _extreme(np.maximum if nan else np.fmax, np.bitwise_and, absolute)


def bf16_extreme(function: Callable) -> Callable:
    """Return min or max on the bits of bfloat16."""
    return lambda *v: (function(*map(ieee.from_bf16, v)).view(np.uint32) >> 16).astype(np.uint16)


def high_word(function: Callable) -> Callable:
    """Return an approximation whose lower 32 bits are zero, as `rcp.approx.ftz.f64` gives."""

    def approximate(a):
        raw = ieee.flush(function(ieee.flush(a))).view(np.int64)
        return (raw & ~0xFFFFFFFF).view(np.float64)

    return approximate


UNARY = {
    "sqrt": np.sqrt,
    "rcp": lambda a: a.dtype.type(1) / a,
    "rsqrt": lambda a: a.dtype.type(1) / np.sqrt(a),
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}

TESTS = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda a: ~np.isnan(a),
    "notanumber": np.isnan,
    "normal": lambda a: np.isfinite(a) & (np.abs(a) >= np.finfo(a.dtype).tiny),
    "subnormal": lambda a: (np.abs(a) < np.finfo(a.dtype).tiny) & (a != 0),
}
