"""What the threads of a warp do together: shuffles, votes, matches, reductions."""

from __future__ import annotations

import numpy as np

from .decode import Program, operation
from .errors import Fault
from .syntax import Instruction
from .types import TYPES, bits

_U32, _B32, _PRED = TYPES["u32"], TYPES["b32"], TYPES["pred"]


def _together(p: Program, i: Instruction, mask_at: int, act):
    """Return the closure that runs act(m, mask) once the lanes that a mask names are all here."""
    mask_slot = p.source(i.operands[mask_at], _U32)

    def run(m, pc):
        m.meet(pc, m.slots[mask_slot][m.at])
        if m.count:
            act(m, m.slots[mask_slot][m.at])
        return m.proceed(pc + 1)

    return run


def _targets(p: Program, i: Instruction, *kinds) -> list[int]:
    operands = [i.operands[0], i.operands[0].second]
    return [p.destination(o, k) for o, k in zip(operands, kinds, strict=True) if o]


def _assign(m, targets: list[int], *values) -> None:
    for slot, value in zip(targets, values, strict=False):
        m.slots[slot][m.at] = value


@operation("shfl", "sync up down bfly idx", control=True)
def shuffle(p: Program, i: Instruction):
    if not i.has("sync"):
        raise i.unsupported("unsupported shuffle")
    mode = i.pick("up down bfly idx")
    targets = _targets(p, i, _B32, _PRED)
    value, step, clamp = (p.source(o, _U32) for o in i.operands[1:4])

    def act(m, mask):
        lane = (m.index & 31).astype(np.int64)
        b = (m.slots[step][m.at] & 31).astype(np.int64)
        c = m.slots[clamp][m.at].astype(np.int64)
        segment = c >> 8 & 31
        low = lane & segment
        high = low | c & 31 & ~segment
        if mode == "up":
            source = lane - b
            inside = source >= high
        else:
            source = {"down": lane + b, "bfly": lane ^ b, "idx": low | b & ~segment}[mode]
            inside = source <= high
        source = np.where(inside, source, lane)
        absent = m.present() >> source.astype(np.uint32) & 1 == 0
        if absent.any():
            bad = int(np.flatnonzero(absent)[0])
            raise Fault(f"shuffle from lane {source[bad]}, which is absent", bad)
        _assign(m, targets, m.slots[value][(m.index & ~31) + source], inside)

    return _together(p, i, 4, act)


def _groups(m, mask):
    """Return each lane's group: lanes of one warp with one mask."""
    groups = np.unique(m.warps << 32 | mask, return_inverse=True)[1]
    return groups, int(groups.max()) + 1


def _ballot(m, mask, holds):
    """Return as bits, for each lane, for which lanes of its group something holds."""
    groups, count = _groups(m, mask)
    weight = np.where(holds, np.float64(1) * (1 << (m.index & 31)), 0)
    return np.bincount(groups, weight, count).astype(np.uint32)[groups]


@operation("vote", "sync all any uni ballot", control=True)
def vote(p: Program, i: Instruction):
    mode = i.pick("all any uni ballot")
    target = p.destination(i.operands[0], _U32 if mode == "ballot" else _PRED)
    value, flip = p.source(i.operands[1], _PRED), i.operands[1].negated

    def act(m, mask):
        bits_set = _ballot(m, mask, m.slots[value][m.at] ^ flip)
        results = {
            "ballot": bits_set,
            "any": bits_set != 0,
            "all": bits_set == mask,
            "uni": (bits_set == mask) | (bits_set == 0),
        }
        m.slots[target][m.at] = results[mode]

    return _together(p, i, 2, act)


@operation("match", "sync any all", control=True)
def match(p: Program, i: Instruction):
    kind = bits(i.types[0].size)
    targets, value = _targets(p, i, _B32, _PRED), p.source(i.operands[1], kind)

    def act(m, mask):
        values = np.zeros((m.lanes // 32, 32), kind.dtype)
        values[m.warps, m.index & 31] = m.slots[value][m.at]
        equal = values[m.warps] == m.slots[value][m.at][:, None]
        weights = np.uint64(1) << np.arange(32, dtype=np.uint64)
        same = (equal * weights).sum(axis=1).astype(np.uint32) & mask
        if i.has("any"):
            _assign(m, targets, same)
        else:
            _assign(m, targets, np.where(same == mask, mask, 0), same == mask)

    return _together(p, i, 2, act)


_REDUCE = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


@operation("redux", f"sync abs NaN {' '.join(_REDUCE)}", control=True)
def redux(p: Program, i: Instruction):
    (kind,) = i.types
    name = i.pick(" ".join(_REDUCE))
    combine = _REDUCE[name]
    if kind.kind == "float" and not i.has("NaN"):
        combine = {"min": np.fmin, "max": np.fmax}[name]
    target, value = p.destination(i.operands[0], kind), p.source(i.operands[1], kind)

    def act(m, mask):
        groups, _ = _groups(m, mask)
        values = m.slots[value][m.at]
        values = np.abs(values) if i.has("abs") else values
        first = np.unique(groups, return_index=True)[1]
        result = values[first].copy()
        others = np.ones(m.count, bool)
        others[first] = False
        combine.at(result, groups[others], values[others])
        m.slots[target][m.at] = result[groups]

    return _together(p, i, 2, act)


@operation("elect", "sync", control=True)
def elect(p: Program, i: Instruction):
    targets = _targets(p, i, _B32, _PRED)

    def act(m, mask):
        lowest = np.bitwise_count((mask & -mask) - np.uint32(1))
        _assign(m, targets, lowest, (m.index & 31) == lowest)

    return _together(p, i, 1, act)


@operation("activemask")
def activemask(p: Program, i: Instruction):
    target = p.destination(i.operands[0], _U32)

    def run(m):
        m.slots[target][m.at] = m.present()

    return run
