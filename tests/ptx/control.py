"""Where a thread goes on: branches, calls, returns, barriers. Each `run` returns as `Step` says."""

from __future__ import annotations

import numpy as np

from .decode import Program, operation
from .errors import Fault
from .syntax import Instruction
from .types import TYPES

_S32, _U32, _PRED = TYPES["s32"], TYPES["u32"], TYPES["pred"]


@operation("bra", "uni", control=True)
def bra(p: Program, i: Instruction):
    target = p.target(i, i.operands[0].symbol)
    return lambda m, pc: target


@operation("brx", "idx uni", control=True)
def brx(p: Program, i: Instruction):
    names = p.function.find(p.function.tables, i.scope, i.operands[1].symbol)
    targets = np.array([p.target(i, name) for name in names], np.int32)
    index = p.source(i.operands[0], _U32)

    def run(m, pc):
        chosen = m.slots[index][m.at]
        if (chosen >= targets.size).any():
            raise Fault("branch index beyond its table", int(np.argmax(chosen >= targets.size)))
        m.key[m.index] = targets[chosen]

    return run


@operation("call", "uni", control=True)
def call(p: Program, i: Instruction):
    """Build a call: arguments and results are copied between frames, which are static."""
    name = p.callee(i)
    if name == "__assertfail":
        return _fail("assertion failed")
    if name not in p.entries:
        raise i.unsupported("call of a function that is not in the module")
    place = next(k for k, o in enumerate(i.operands) if o.symbol)
    results = [o for operand in i.operands[:place] for o in operand.parts]
    arguments = [o for operand in i.operands[place + 1 :] for o in operand.parts]
    callee = p.functions[name]
    caller, target, back = p.function.name, p.entries[name], p.returns[name]

    def copies(operands, variables, inwards):
        pairs = []
        for operand, variable in zip(operands, variables, strict=True):
            here, there = p.local[caller, operand.symbol][1], p.local[name, variable.name][1]
            pairs.append((here, there, variable.size) if inwards else (there, here, variable.size))
        return pairs

    before = copies(arguments, callee.parameters, True)
    p.epilogues[len(p.steps)] = copies(results, callee.returns, False)

    def run(m, pc):
        for pair in before:
            m.spaces["argument"].copy(m, *pair)
        m.slots[back][m.at] = pc
        return target

    return run


@operation("ret exit", "uni", control=True)
def ret(p: Program, i: Instruction):
    if p.function.entry or i.opcode == "exit":
        return lambda m, pc: m.exit()
    back, epilogues = p.returns[p.function.name], p.epilogues

    def run(m, pc):
        calls = m.slots[back][m.at]
        m.key[m.index] = calls + 1
        for site in np.unique(calls).tolist():
            if epilogues[site]:
                with m.only(calls == site):
                    for pair in epilogues[site]:
                        m.spaces["argument"].copy(m, *pair)

    return run


def _fail(message: str):
    def run(m, pc):
        raise Fault(message, 0)

    return run


@operation("trap", control=True)
def trap(p: Program, i: Instruction):
    return _fail("trap")


@operation("bar barrier", "cta sync arrive warp aligned red popc and or", control=True)
def barrier(p: Program, i: Instruction):
    if i.has("warp"):
        return _warp_barrier(p, i)
    operands = list(i.operands)
    result = operands.pop(0) if i.has("red") else None
    vote = operands.pop() if i.has("red") else None
    number = p.source(operands[0], _U32)
    expected = p.source(operands[1], _U32) if len(operands) > 1 else None
    aligned = i.opcode == "bar" or i.has("aligned")
    reduce = _reduction(p, i, result, vote) if i.has("red") else None

    def run(m, pc):
        if aligned:
            m.meet(pc, m.warp_threads[m.warps], barrier=True)
        if not m.count:
            return None
        ids = m.slots[number][m.at].astype(np.int64)
        threads = None if expected is None else m.slots[expected][m.at].astype(np.int64)
        m.arrive(pc, ids, threads, waits=not i.has("arrive"), finish=reduce)
        return m.proceed(pc + 1) if i.has("arrive") else None

    return run


def _warp_barrier(p: Program, i: Instruction):
    mask = p.source(i.operands[0], _U32)

    def run(m, pc):
        m.meet(pc, m.slots[mask][m.at])
        return m.proceed(pc + 1)

    return run


def _reduction(p: Program, i: Instruction, result, vote):
    """Return what gives lanes that a barrier lets go how many, or whether all or any, hold."""
    mode, kind = i.pick("popc and or"), _U32 if i.has("popc") else _PRED
    target, value, flip = p.destination(result, kind), p.source(vote, _PRED), vote.negated

    def finish(m, lanes):
        blocks = np.unique(m.block_of[lanes], return_inverse=True)[1]
        holds = m.slots[value][lanes] ^ flip
        count, total = np.bincount(blocks, holds).astype(np.uint32), np.bincount(blocks)
        results = {"popc": count, "or": count > 0, "and": count == total}
        m.slots[target][lanes] = results[mode][blocks]

    return finish
