"""Conversions between types."""

from __future__ import annotations

import numpy as np

from . import floating, ieee
from .decode import Program, assign, operation
from .syntax import Instruction
from .types import TYPES, Type

_WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def _to_integer(rounding, out: Type):
    """Return float to integer: clamped, NaN to 0 (as the device has it for 32 bits and more)."""
    limits = np.iinfo(out.dtype)
    # The first float64 beyond the largest integer; it is exact, where the largest may not be.
    beyond = np.float64(limits.max // 2 + 1) * 2

    def function(a):
        a = rounding(a.astype(np.float64))
        inside = (a < beyond) & (a >= limits.min)
        result = np.where(inside, a, 0).astype(out.dtype)
        result = np.where(a >= beyond, limits.max, result)
        return np.where(a < limits.min, limits.min, result).astype(out.dtype)

    return function


def _between_integers(kind: Type, out: Type, saturate: bool):
    if not saturate:
        return lambda a: a.astype(out.dtype)
    low, high = np.iinfo(out.dtype).min, np.iinfo(out.dtype).max
    given = np.iinfo(kind.dtype)
    low, high = max(low, given.min), min(high, given.max)
    return lambda a: np.clip(a, kind.dtype.type(low), kind.dtype.type(high)).astype(out.dtype)


def _between_floats(i: Instruction, kind: Type, out: Type, mode: str):
    whole = i.pick(" ".join(_WHOLE))
    if whole and kind == out:
        return _WHOLE[whole]
    if kind == out:
        return lambda a: a
    if kind.kind == "bf16" and out.dtype == np.float32:
        return ieee.from_bf16
    if kind.kind == "float" and out.kind == "float" and out.size > kind.size:
        return lambda a: a.astype(out.dtype)
    widen = ieee.from_bf16 if kind.kind == "bf16" else (lambda a: a)
    if out.kind == "bf16":
        return lambda a: ieee.to_bf16(widen(a).astype(np.float64), mode)
    return lambda a: ieee.narrow(widen(a).astype(np.float64), out.dtype, mode)


def _from_integer(i: Instruction, kind: Type, out: Type, mode: str):
    if out.kind == "float" and mode == "rn" and out.size >= 4:
        return lambda a: a.astype(out.dtype)
    if kind.size == 8:
        raise i.unsupported("64-bit integer in this rounding")
    if out.kind == "bf16":
        return lambda a: ieee.to_bf16(a.astype(np.float64), mode)
    return lambda a: ieee.narrow(a.astype(np.float64), out.dtype, mode)


@operation("cvt", f"{floating.ROUNDING} {' '.join(_WHOLE)} ftz sat relu")
def cvt(p: Program, i: Instruction):
    out, kind = i.types
    mode = i.pick(floating.ROUNDING) or "rn"
    if out.packed == 2:
        return _pack(p, i, out, kind, mode)
    if kind.packed > 1:
        raise i.unsupported("packed source")
    if kind.kind == "int" and out.kind == "int":
        function = _between_integers(kind, out, i.has("sat"))
    elif kind.kind == "int":
        function = floating.finish(_from_integer(i, kind, out, mode), i, out)
    elif out.kind == "int":
        inner = _to_integer(_WHOLE[i.pick(" ".join(_WHOLE)) or "rzi"], out)
        flush = i.has("ftz") and kind.dtype == np.float32
        widen = ieee.from_bf16 if kind.kind == "bf16" else ieee.flush if flush else (lambda a: a)

        def function(a):
            return inner(widen(a))

    else:
        function = _between_floats(i, kind, out, mode)
        if i.has("ftz") and kind.dtype == np.float32:
            narrow = function

            def function(a):
                return narrow(ieee.flush(a))

        if i.has("sat", "relu"):
            function = floating.finish(function, i, out)
    return p.value(i, function, out, kind)


def _pack(p: Program, i: Instruction, out: Type, kind: Type, mode: str):
    """Return `cvt.rn.f16x2.f32 d, high, low` and the same to bfloat16."""
    single = TYPES[out.name.removesuffix("x2")]
    function = _between_floats(i, kind, single, mode)
    if i.has("relu", "sat"):
        function = floating.finish(function, i, single)
    target, high, low = i.operands

    def both(a, b):
        return np.stack([function(b), function(a)], axis=1)

    slot = p.destination(target, out)
    return assign(slot, both, [p.source(high, kind), p.source(low, kind)])
