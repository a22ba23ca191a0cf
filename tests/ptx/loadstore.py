"""Loads, stores, atomic operations, asynchronous copies, fences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .decode import Program, assign, operation
from .memory import ATOMIC, FIRST, READ, WRITE
from .syntax import Instruction, Operand
from .types import TYPES, Type, bits

_ORDER = "weak volatile relaxed acquire release acq_rel sc cta gpu sys cluster"
_CACHE = (
    "ca cg cs lu cv wb wt nc unified L1::evict_normal L1::evict_unchanged L1::evict_first"
    " L1::evict_last L1::no_allocate L2::evict_last L2::evict_first L2::evict_normal"
    " L2::cache_hint L2::64B L2::128B L2::256B"
)
_SPACES = "global shared shared::cta local param param::entry param::func const"
_SPACE_OF = {"shared::cta": "shared", "const": "param", "param::entry": "param"}
_ACCEPTS = f"{_ORDER} {_CACHE} {_SPACES} v2 v4 v8"


def _address(p: Program, operand: Operand, space: str) -> tuple[str, Callable]:
    """Return the memory and what computes the active lanes' addresses there, as int64."""
    if operand.register is not None:
        size, offset = operand.register.type.size, operand.offset
        kind = TYPES["s64"] if size == 8 else TYPES["u32"]
        slot = p.source(Operand(register=operand.register), kind)
        if size == 8:
            return space, lambda m: m.slots[slot][m.at] + offset
        return space, lambda m: (m.slots[slot][m.at].astype(np.int64) + offset) & 0xFFFFFFFF
    if operand.literal is not None:
        constant = int(operand.literal, 0)
    else:
        where, constant = p.symbol(operand.symbol)
        if where in ("local", "argument"):
            space = where
        constant += operand.offset
    return space, lambda m: np.full(m.count, constant, np.int64)


def shared_address(p: Program, operand: Operand) -> Callable:
    """Return what computes the active lanes' addresses in shared memory."""
    return _address(p, operand, "shared")[1]


def _access(space: str, size: int, count: int, mode: str, transfer: Callable) -> Callable:
    """Return what calls transfer(m, memory, view, indices) for each memory that lanes address."""
    dtype = bits(size).dtype

    def run(m, address):
        memory = m.spaces[space]
        if space != "generic":
            index = memory.locate(m, address, size, count, mode) // size
            transfer(m, memory, memory.view(dtype), index)
            return
        for part, mask, inner in memory.parts(m, address):
            if mask is None:
                index = part.locate(m, inner, size, count, mode) // size
                transfer(m, part, part.view(dtype), index)
            else:
                with m.only(mask):
                    index = part.locate(m, inner, size, count, mode) // size
                    transfer(m, part, part.view(dtype), index)

    return run


def _parts(operand: Operand) -> tuple[Operand, ...]:
    return operand.parts if operand.parts is not None else (operand,)


def _shape(i: Instruction) -> tuple[str, Type]:
    space = i.pick(_SPACES) or "generic"
    return _SPACE_OF.get(space, space), i.types[0]


@operation("ld ldu", _ACCEPTS)
def load(p: Program, i: Instruction):
    space, kind = _shape(i)
    target, source = i.operands[:2]
    if source.symbol in p.parameters and space == "param":
        return _load_parameter(p, kind, target, p.parameters[source.symbol] + source.offset)
    space, address = _address(p, source, space)
    if kind.kind != "int" or kind.packed > 1:
        kind = bits(kind.size)
    targets = [None if o.symbol == "_" else p.destination(o, kind) for o in _parts(target)]

    def transfer(m, memory, view, index):
        for k, slot in enumerate(targets):
            if slot is not None:
                m.slots[slot][m.at] = view[index + k].view(kind.dtype)

    access = _access(space, kind.size, len(targets), READ, transfer)
    return lambda m: access(m, address(m))


def _load_parameter(p: Program, kind: Type, target: Operand, offset: int):
    kind = kind if kind.kind == "int" else bits(kind.size)
    moves = [
        assign(
            p.destination(o, kind), lambda a: a, [p.slots.parameter(offset + k * kind.size, kind)]
        )
        for k, o in enumerate(_parts(target))
    ]

    def run(m):
        for move in moves:
            move(m)

    return run


@operation("st", _ACCEPTS)
def store(p: Program, i: Instruction):
    space, kind = _shape(i)
    kind = bits(kind.size) if kind.kind != "float" or kind.packed > 1 else kind
    target, source = i.operands[:2]
    space, address = _address(p, target, space)
    sources = [p.source(o, kind) for o in _parts(source)]
    raw = bits(kind.size).dtype

    def transfer(m, memory, view, index):
        values = [m.slots[slot][m.at].view(raw) for slot in sources]
        for k, value in enumerate(values):
            view[index + k] = value
        if memory.doubt is not None:
            memory.settle(values)

    access = _access(space, kind.size, len(sources), WRITE, transfer)
    return lambda m: access(m, address(m))


_COMBINE = {
    "add": lambda old, b: old + b,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, b: b,
    "cas": lambda old, b, c: np.where(old == b, c, old),
    "inc": lambda old, b: np.where(old >= b, 0, old + 1).astype(old.dtype),
    "dec": lambda old, b: np.where((old == 0) | (old > b), b, old - 1).astype(old.dtype),
}


@operation("atom red", f"{_ORDER} {_SPACES} {' '.join(_COMBINE)} noftz L2::cache_hint")
def atomic(p: Program, i: Instruction):
    """Build an atomic operation; threads that meet at an address go in the order of their lanes."""
    space, kind = _shape(i)
    if kind.kind == "bf16" or kind.packed > 1:
        raise i.unsupported("atomic operation on this type")
    name = i.pick(" ".join(_COMBINE))
    combine = _COMBINE[name]
    operands = list(i.operands)
    target = p.destination(operands.pop(0), kind) if i.opcode == "atom" else None
    space, address = _address(p, operands[0], space)
    sources = [p.source(o, kind) for o in operands[1 : 3 if name == "cas" else 2]]

    def transfer(m, memory, raw, index):
        view, values = raw.view(kind.dtype), [m.slots[s][m.at] for s in sources]
        old = np.empty(index.size, kind.dtype)
        for turn in _turns(index):
            where = index[turn]
            old[turn] = view[where]
            view[where] = combine(old[turn], *[v[turn] for v in values])
        if target is not None:
            m.slots[target][m.at] = old

    access = _access(space, kind.size, 1, ATOMIC, transfer)
    return lambda m: access(m, address(m))


def _turns(index: np.ndarray):
    """Yield sets of lanes whose places differ, so that each lane comes after those below it."""
    order = np.argsort(index, kind="stable")
    places = index[order]
    position = np.arange(index.size)
    new = np.concatenate([[True], places[1:] != places[:-1]])
    rank = position - np.maximum.accumulate(np.where(new, position, 0))
    by_rank = order[np.argsort(rank, kind="stable")]
    yield from np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])


@operation(
    "membar fence prefetch prefetchu discard applypriority griddepcontrol nanosleep",
    f"{_ORDER} {_CACHE} {_SPACES} gl L1 L2 proxy alias async async::generic sync_restrict"
    " launch_dependents wait acquire mbarrier_init L2::evict_last",
)
def nothing(p: Program, i: Instruction):
    """Build what needs no action here: accesses happen in order."""
    return lambda m: None


@operation("createpolicy", "fractional L2::evict_last L2::evict_first range global")
def policy(p: Program, i: Instruction):
    slot = p.destination(i.operands[0], TYPES["b64"])

    def run(m):
        m.slots[slot][m.at] = 0

    return run


_WAITS = "commit_group wait_group wait_all"


@operation("cp", f"async {_WAITS} {_CACHE} global shared shared::cta")
def copy_async(p: Program, i: Instruction):
    """Build `cp.async`: the bytes arrive, from the source as it then is, when the thread waits."""
    if not i.has("async"):
        raise i.unsupported("unsupported copy")
    if i.has("commit_group"):
        return lambda m: m.copies.commit(m)
    if i.has("wait_group"):
        allowed = int(i.operands[0].literal, 0)
        return lambda m: m.copies.wait(m, allowed)
    if i.has("wait_all"):
        return lambda m: (m.copies.commit(m), m.copies.wait(m, 0))
    target = shared_address(p, i.operands[0])
    _, source = _address(p, i.operands[1], "global")
    size = int(i.operands[2].literal, 0)
    given = i.operands[3:4] if not i.has("L2::cache_hint") else i.operands[3:-1]
    filled = p.source(given[0], TYPES["u32"]) if given else None

    def run(m):
        length = np.full(m.count, size) if filled is None else m.slots[filled][m.at].astype(int)
        m.copies.start(m, target(m), source(m), size, length)

    return run


class Copies:
    """The asynchronous copies of a batch that no wait has completed yet."""

    def __init__(self, lanes: int) -> None:
        self._group = np.zeros(lanes, np.int64)  # of each lane, the number of its open group
        self._pending: list[tuple] = []

    def start(self, m, target, source, size: int, length) -> None:
        part, parts = min(size, 8), max(size // 8, 1)
        place = m.spaces["shared"].locate(m, target, part, parts, WRITE)
        m.spaces["shared"].mark(place[:, None] + np.arange(size), written=False)
        if (length > 0).any():
            with m.only(length > 0):
                m.spaces["global"].locate(m, source[length > 0], part, parts, READ)
        self._pending.append(
            (m.index.copy(), self._group[m.at].copy(), place, source, length, size)
        )

    def commit(self, m) -> None:
        self._group[m.at] += 1

    def wait(self, m, allowed: int) -> None:
        """Complete all but the last `allowed` groups of each active lane."""
        active = np.zeros(self._group.size, bool)
        active[m.at] = True
        waiting = []
        for lanes, group, place, source, length, size in self._pending:
            due = active[lanes] & (group < self._group[lanes] - allowed)
            self._complete(m, place[due], source[due], length[due], size)
            if not due.all():
                rest = (v[~due] for v in (lanes, group, place, source, length))
                waiting.append((*rest, size))
        self._pending = waiting

    @staticmethod
    def _complete(m, place, source, length, size: int) -> None:
        shared, memory = m.spaces["shared"], m.spaces["global"]
        data, whole = shared.view(np.dtype("u1")), memory.view(np.dtype("u1"))
        for k in range(size):
            copied = k < length
            data[place[copied] + k] = whole[source[copied] - FIRST + k]
            data[place[~copied] + k] = 0
        shared.mark(place[:, None] + np.arange(size), written=True)
