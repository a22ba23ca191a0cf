"""Arithmetic, comparison and selection."""

from __future__ import annotations

import numpy as np

from . import floating, ieee
from .decode import Program, assign, operation
from .syntax import Instruction
from .types import TYPES, Type, bits

_PRED = TYPES["pred"]


def _high(a, b):
    """Return the upper half of the product of two 64-bit integers of one type."""
    low, shift = a.dtype.type(0xFFFFFFFF), a.dtype.type(32)
    a1, a0, b1, b0 = a >> shift, a & low, b >> shift, b & low
    # Partial products of lower halves are unsigned in either type.
    unsigned = (a0.view(np.uint64) * b0.view(np.uint64)) >> np.uint64(32)
    middle = a1 * b0 + unsigned.view(a.dtype)
    other = a0 * b1 + (middle & low)
    return a1 * b1 + (middle >> shift) + (other >> shift)


def _product(instruction: Instruction, kind: Type) -> tuple:
    """Return the product of `mul.lo`, `.hi` or `.wide` and the type of its value."""
    if instruction.has("wide"):
        wide = TYPES[f"{'s' if kind.signed else 'u'}{16 * kind.size}"]
        return (lambda a, b: a.astype(wide.dtype) * b.astype(wide.dtype)), wide
    if instruction.has("lo"):
        return np.multiply, kind
    if kind.size == 8:
        return _high, kind
    twice, shift = np.dtype(f"{kind.dtype.kind}{2 * kind.size}"), 8 * kind.size

    def high(a, b):
        return ((a.astype(twice) * b.astype(twice)) >> twice.type(shift)).astype(kind.dtype)

    return high, kind


def _clamped(function, kind: Type):
    """Return `add.sat.s32` and such."""
    limits = np.iinfo(kind.dtype)

    def saturated(a, b):
        exact = function(a.astype(np.int64), b.astype(np.int64))
        return np.clip(exact, limits.min, limits.max).astype(kind.dtype)

    return saturated


_BINARY = {"add": np.add, "sub": np.subtract}


@operation("add sub", floating.ROUNDING + " ftz sat")
def add(p: Program, i: Instruction):
    (kind,) = i.types
    if kind.kind == "int":
        function = _BINARY[i.opcode]
        return p.value(i, _clamped(function, kind) if i.has("sat") else function, kind, kind, kind)
    mode = _mode(i, kind)
    function = {"add": floating.add, "sub": floating.sub}[i.opcode](kind, mode)
    return p.value(i, floating.finish(function, i, kind), kind, kind, kind)


def _mode(i: Instruction, kind: Type) -> str:
    mode = i.pick(floating.ROUNDING) or "rn"
    if mode != "rn" and kind.dtype == np.float64:
        raise i.unsupported("float64 in this rounding")
    return mode


@operation("mul", floating.ROUNDING + " ftz sat lo hi wide")
def mul(p: Program, i: Instruction):
    (kind,) = i.types
    if kind.kind == "int":
        function, out = _product(i, kind)
        return p.value(i, function, out, kind, kind)
    function = floating.finish(floating.mul(kind, _mode(i, kind)), i, kind)
    return p.value(i, function, kind, kind, kind)


@operation("mad fma", floating.ROUNDING + " ftz sat relu lo hi wide")
def fma(p: Program, i: Instruction):
    (kind,) = i.types
    if kind.kind == "int":
        product, out = _product(i, kind)
        return p.value(i, lambda a, b, c: product(a, b) + c, out, kind, kind, out)
    function = floating.finish(floating.fma(kind, _mode(i, kind)), i, kind)
    return p.value(i, function, kind, kind, kind, kind)


def _quotient(a, b):
    """Divide as C does; the device gives all ones where b is zero, and so does this."""
    with np.errstate(all="ignore"):
        if a.dtype.kind == "u":
            return np.where(b == 0, ~a.dtype.type(0), a // np.where(b == 0, 1, b).astype(a.dtype))
        divisor = np.where(b == 0, 1, b).astype(a.dtype)
        quotient = a // divisor
        quotient += ((quotient * divisor != a) & ((a < 0) != (divisor < 0))).astype(a.dtype)
        return np.where(b == 0, a.dtype.type(-1), quotient)


@operation("div", "rn full approx ftz")
def div(p: Program, i: Instruction):
    (kind,) = i.types
    if kind.kind == "int":
        return p.value(i, _quotient, kind, kind, kind)
    return p.value(i, floating.finish(np.divide, i, kind), kind, kind, kind)


@operation("rem")
def rem(p: Program, i: Instruction):
    (kind,) = i.types
    return p.value(i, lambda a, b: a - _quotient(a, b) * b, kind, kind, kind)


@operation("min max", "ftz NaN xorsign abs")
def extreme(p: Program, i: Instruction):
    (kind,) = i.types
    kinds = [kind] * (len(i.operands) - 1)
    if kind.kind == "int":
        return p.value(i, np.minimum if i.opcode == "min" else np.maximum, kind, *kinds)
    if i.has("xorsign"):
        raise i.unsupported("unsupported modifier .xorsign")
    function = floating.minimum if i.opcode == "min" else floating.maximum
    function = function(i.has("NaN"), i.has("abs"))
    if kind.kind == "bf16":
        return p.value(i, floating.bf16_extreme(function), kind, *kinds)
    return p.value(i, floating.finish(function, i, kind), kind, *kinds)


@operation("neg abs", "ftz")
def sign(p: Program, i: Instruction):
    (kind,) = i.types
    function = np.negative if i.opcode == "neg" else np.abs
    if kind.kind == "bf16":
        mask = np.uint16(0x8000)
        function = (lambda a: a ^ mask) if i.opcode == "neg" else (lambda a: a & ~mask)
    return p.value(i, floating.finish(function, i, kind), kind, kind)


@operation("sqrt rcp rsqrt ex2 lg2 sin cos tanh", "rn approx ftz")
def unary(p: Program, i: Instruction):
    (kind,) = i.types
    function = floating.UNARY[i.opcode]
    if kind.dtype == np.float64 and i.has("approx"):
        if i.has("ftz"):
            function = floating.high_word(function)
    elif kind.dtype != np.float64 and i.opcode not in ("sqrt", "rcp"):
        function = floating.through_double(function, kind)
    return p.value(i, floating.finish(function, i, kind), kind, kind)


@operation("copysign")
def copysign(p: Program, i: Instruction):
    (kind,) = i.types
    return p.value(i, lambda a, b: np.copysign(b, a), kind, kind, kind)


@operation("testp", " ".join(floating.TESTS))
def testp(p: Program, i: Instruction):
    (kind,) = i.types
    return p.value(i, floating.TESTS[i.pick(" ".join(floating.TESTS))], _PRED, kind)


def _unordered(compare):
    return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)


_COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}
_COMPARE |= {
    f"{name}u": _unordered(_COMPARE[name]) for name in ("eq", "ne", "lt", "le", "gt", "ge")
}
_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
_COMPARISONS = f"{' '.join(_COMPARE)} {' '.join(_COMBINE)} ftz"


def _comparison(i: Instruction, kind: Type):
    name = i.pick(" ".join(_COMPARE))
    function = _COMPARE[name]
    if kind.kind in ("float", "bf16") and name == "ne":  # ordered: false where one is NaN

        def function(a, b):
            return (a < b) | (a > b)

    if kind.kind == "bf16":
        return lambda a, b: function(ieee.from_bf16(a), ieee.from_bf16(b))
    if i.has("ftz"):
        return lambda a, b: function(ieee.flush(a), ieee.flush(b))
    return function


@operation("setp", _COMPARISONS)
def setp(p: Program, i: Instruction):
    kind = i.types[-1]
    if kind.packed > 1:
        raise i.unsupported("packed comparison")
    compare, target = _comparison(i, kind), i.operands[0]
    combine = _COMBINE.get(i.pick(" ".join(_COMBINE)))
    targets = [p.destination(target, _PRED)]
    if target.second:
        targets.append(p.destination(target.second, _PRED))
    a, b = (p.source(o, kind) for o in i.operands[1:3])
    if combine is None and len(targets) == 1:
        return assign(targets[0], compare, [a, b])
    other = p.source(i.operands[3], _PRED) if combine else None
    flip = combine is not None and i.operands[3].negated

    def run(m):
        slots, at = m.slots, m.at
        holds = compare(slots[a][at], slots[b][at])
        c = None if combine is None else slots[other][at] ^ flip
        values = [v if combine is None else combine(v, c) for v in (holds, ~holds)]
        for slot, value in zip(targets, values, strict=False):
            slots[slot][at] = value

    return run


@operation("set", _COMPARISONS)
def set_(p: Program, i: Instruction):
    out, kind = i.types
    if i.pick(" ".join(_COMBINE)):
        raise i.unsupported("set with a second predicate")
    compare = _comparison(i, kind)
    true = out.dtype.type(1) if out.kind == "float" else np.array(-1).astype(out.dtype)
    return p.value(i, lambda a, b: np.where(compare(a, b), true, 0), out, kind, kind)


@operation("selp")
def selp(p: Program, i: Instruction):
    kind = bits(i.types[0].size) if i.types[0].kind != "float" else i.types[0]
    if i.operands[3].negated:
        return p.value(i, lambda a, b, c: np.where(c, b, a), kind, kind, kind, _PRED)
    return p.value(i, lambda a, b, c: np.where(c, a, b), kind, kind, kind, _PRED)


@operation("slct", "ftz")
def slct(p: Program, i: Instruction):
    kind, test = i.types
    return p.value(i, lambda a, b, c: np.where(c >= 0, a, b), kind, kind, kind, test)
