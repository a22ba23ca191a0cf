"""Bits: logic, shifts, fields, counts, permutations, moves."""

from __future__ import annotations

import numpy as np

from .decode import LOCAL_WINDOW, SHARED_WINDOW, Program, assign, operation
from .syntax import Instruction
from .types import TYPES, Type, bits

_U32 = TYPES["u32"]
_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@operation("and or xor")
def logic(p: Program, i: Instruction):
    (kind,) = i.types
    function = _LOGIC[i.opcode]
    first, second = (o.negated for o in i.operands[1:])
    if first or second:
        return p.value(i, lambda a, b: function(a ^ first, b ^ second), kind, kind, kind)
    return p.value(i, function, kind, kind, kind)


@operation("not")
def not_(p: Program, i: Instruction):
    (kind,) = i.types
    return p.value(i, np.invert, kind, kind)


@operation("cnot")
def cnot(p: Program, i: Instruction):
    (kind,) = i.types
    return p.value(i, lambda a: a == 0, kind, kind)


@operation("lop3")
def lop3(p: Program, i: Instruction):
    (kind,) = i.types
    table = int(i.operands[4].literal, 0)
    terms = [[k >> 2 & 1, k >> 1 & 1, k & 1] for k in range(8) if table >> k & 1]

    def function(*values):
        result = np.zeros_like(values[0])
        for term in terms:
            result |= np.bitwise_and.reduce(
                [v if wanted else ~v for v, wanted in zip(values, term, strict=True)]
            )
        return result

    return p.value(i, function, kind, kind, kind, kind)


def _shift(left: bool, width: int, kind: Type):
    """Return a shift whose count is clamped to the width."""

    def function(a, count):
        inside = np.minimum(count, width - 1).astype(kind.dtype)
        if left:
            return np.where(count < width, a << inside, 0)
        beyond = a >> kind.dtype.type(width - 1) if kind.signed else 0
        return np.where(count < width, a >> inside, beyond)

    return function


@operation("shl shr")
def shift(p: Program, i: Instruction):
    (kind,) = i.types
    return p.value(i, _shift(i.opcode == "shl", 8 * kind.size, kind), kind, kind, _U32)


@operation("shf", "l r wrap clamp")
def funnel(p: Program, i: Instruction):
    wrap, left = i.has("wrap"), i.has("l")

    def function(low, high, count):
        count = (count & 31 if wrap else np.minimum(count, 32)).astype(np.uint64)
        both = high.astype(np.uint64) << np.uint64(32) | low
        if left:
            return ((both << count) >> np.uint64(32)).astype(np.uint32)
        return (both >> count).astype(np.uint32)

    return p.value(i, function, _U32, _U32, _U32, _U32)


def _mask(length, dtype):
    """Return 2^length - 1, for lengths up to the width."""
    width = 8 * dtype.itemsize
    short = (dtype.type(1) << np.minimum(length, width - 1).astype(dtype)) - dtype.type(1)
    return np.where(length < width, short, ~dtype.type(0))


@operation("bfe")
def bfe(p: Program, i: Instruction):
    (kind,) = i.types
    raw, width = bits(kind.size), 8 * kind.size
    down = _shift(False, width, raw)

    def function(a, start, length):
        start, length = start & 255, length & 255
        field = down(a, start) & _mask(length, raw.dtype)
        if not kind.signed:
            return field
        last = np.minimum(start + length - 1, width - 1)
        negative = (down(a, last) & raw.dtype.type(1)).astype(bool) & (length > 0)
        return np.where(
            negative, field | ~_mask(np.minimum(length, width - start), raw.dtype), field
        )

    return p.value(i, function, raw, raw, _U32, _U32)


@operation("bfi")
def bfi(p: Program, i: Instruction):
    (kind,) = i.types
    up = _shift(True, 8 * kind.size, kind)

    def function(field, into, start, length):
        start, length = start & 255, length & 255
        mask = up(_mask(length, kind.dtype), start)
        return into & ~mask | up(field, start) & mask

    return p.value(i, function, kind, kind, kind, _U32, _U32)


def _reverse(a):
    ordered = np.ascontiguousarray(a)
    single = np.unpackbits(ordered.view(np.uint8).reshape(a.size, -1), axis=1, bitorder="little")
    return np.packbits(single[:, ::-1], axis=1, bitorder="little").view(a.dtype)[:, 0]


def _length(a):
    """Return the number of bits up to the highest one that is set."""
    length = np.zeros(a.shape, np.uint32)
    for step in (32, 16, 8, 4, 2, 1):
        if step < 8 * a.dtype.itemsize:
            above = a >> a.dtype.type(step)
            length += np.where(above != 0, np.uint32(step), np.uint32(0))
            a = np.where(above != 0, above, a)
    return length + (a != 0)


@operation("brev")
def brev(p: Program, i: Instruction):
    (kind,) = i.types
    return p.value(i, _reverse, kind, kind)


@operation("popc clz")
def count(p: Program, i: Instruction):
    (kind,) = i.types
    width = np.uint32(8 * kind.size)
    function = np.bitwise_count if i.opcode == "popc" else lambda a: width - _length(a)
    return p.value(i, function, _U32, kind)


@operation("bfind", "shiftamt")
def bfind(p: Program, i: Instruction):
    (kind,) = i.types
    last, amount, raw = 8 * kind.size - 1, i.has("shiftamt"), bits(kind.size)

    def function(a):
        a = np.where(a < 0, ~a, a).astype(raw.dtype) if kind.signed else a
        length = _length(a).astype(np.int64)
        found = last - (length - 1) if amount else length - 1
        return np.where(length == 0, -1, found).astype(np.uint32)

    return p.value(i, function, _U32, kind)


@operation("prmt")
def prmt(p: Program, i: Instruction):
    def function(a, b, selector):
        source = np.stack([a, b], axis=1).view(np.uint8)
        nibbles = selector[:, None] >> np.array([0, 4, 8, 12], np.uint32)
        chosen = np.take_along_axis(source, (nibbles & 7).astype(np.intp), axis=1)
        spread = (chosen.view(np.int8) >> 7).view(np.uint8)  # the sign, eight times
        return np.where(nibbles & 8, spread, chosen).view(np.uint32)[:, 0]

    return p.value(i, function, _U32, _U32, _U32, _U32)


@operation("dp4a")
def dp4a(p: Program, i: Instruction):
    first, second = (np.dtype(f"{t.dtype.kind}1") for t in i.types)

    def function(a, b, c):
        a, b = (
            np.ascontiguousarray(v).view(t).reshape(-1, 4) for v, t in ((a, first), (b, second))
        )
        return c + (a.astype(np.int32) * b.astype(np.int32)).sum(1, dtype=np.int32).view(np.uint32)

    return p.value(i, function, _U32, _U32, _U32, _U32)


@operation("mov cvta", "to global shared local const param shared::cta")
def mov(p: Program, i: Instruction):
    (kind,) = i.types
    if i.opcode == "cvta":
        return _cvta(p, i, kind)
    target, source = i.operands
    if target.parts or source.parts:
        return _repack(p, kind, target, source)
    if source.symbol in p.parameters:
        offset, base = p.parameters[source.symbol], p.slots.parameter(-1, kind)
        whole = kind.dtype.type(offset + source.offset)
        return assign(p.destination(target, kind), lambda a: a + whole, [base])
    if kind.kind == "int":
        kind = bits(kind.size)
    return p.value(i, lambda a: a, kind, kind)


def _repack(p: Program, kind: Type, target, source):
    """Return the closure of a `mov` that joins or takes apart."""
    raw = bits(kind.size)
    if source.parts:
        part = bits(kind.size // len(source.parts))
        sources = [p.source(o, part) for o in source.parts]

        def join(*values):
            return np.stack(values, axis=1).view(raw.dtype)[:, 0]

        return assign(p.destination(target, raw), join, sources)
    part, whole = bits(kind.size // len(target.parts)), p.source(source, raw)
    targets = [(k, p.destination(o, part)) for k, o in enumerate(target.parts) if o.symbol != "_"]

    def run(m):
        slots, at = m.slots, m.at
        values = np.ascontiguousarray(slots[whole][at]).view(part.dtype)
        values = values.reshape(-1, len(target.parts))
        for k, slot in targets:
            slots[slot][at] = values[:, k]

    return run


def _cvta(p: Program, i: Instruction, kind: Type):
    """Return the closure that turns an address of one memory into a generic one, or back."""
    window = 0
    if i.has("shared", "shared::cta"):
        window = SHARED_WINDOW
    elif i.has("local"):
        window = LOCAL_WINDOW
    shift = kind.dtype.type(window)
    if i.has("to"):
        return p.value(i, lambda a: a - shift, kind, kind)
    return p.value(i, lambda a: a + shift, kind, kind)


@operation("isspacep", "global shared shared::cta local const param")
def isspacep(p: Program, i: Instruction):
    windows = {"local": LOCAL_WINDOW, "shared": SHARED_WINDOW, "shared::cta": SHARED_WINDOW}
    window, either = windows.get(i.modifiers[0], 0), SHARED_WINDOW | LOCAL_WINDOW
    return p.value(i, lambda a: a & either == window, TYPES["pred"], TYPES["s64"])
