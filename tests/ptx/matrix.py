"""Moves of 8 x 8 matrices between shared memory and a warp's registers.

Lane l has elements 2 l and 2 l + 1 of each matrix, row by row; lane 8 k + r has the address of row
r of matrix k.
"""

from __future__ import annotations

import numpy as np

from .decode import Program, operation
from .loadstore import shared_address
from .memory import READ, WRITE
from .syntax import Instruction
from .types import TYPES

_ACCEPTS = "sync aligned m8n8 x1 x2 x4 trans shared shared::cta"


def _rows(m, address: np.ndarray, count: int, mode: str) -> np.ndarray:
    """Return where the elements of the matrices are: (warps, count, 8, 8) of 16-bit values."""
    giving = m.index & 31 < 8 * count
    with m.only(giving):
        place = m.spaces["shared"].locate(m, address[giving], 8, 2, mode)
    return (place // 2).reshape(-1, count, 8, 1) + np.arange(8)


@operation("ldmatrix stmatrix", _ACCEPTS, control=True)
def matrices(p: Program, i: Instruction):
    load = i.opcode == "ldmatrix"
    registers, place = i.operands if load else reversed(i.operands)
    if i.types != [TYPES["b16"]]:
        raise i.unsupported("matrices of this type")
    slots = [p.source(o, TYPES["b32"]) for o in registers.parts or (registers,)]
    address, count, transposed = shared_address(p, place), len(slots), i.has("trans")

    def run(m, pc):
        m.meet(pc, np.full(m.count, 0xFFFFFFFF, np.uint32))
        if not m.count:
            return None
        where = _rows(m, address(m), count, READ if load else WRITE)
        where = where.swapaxes(2, 3) if transposed else where
        words = m.spaces["shared"].view(np.dtype("u2"))
        for k, slot in enumerate(slots):
            elements = where[:, k].reshape(-1, 2)
            if load:
                m.slots[slot][m.at] = words[elements].view(np.uint32)[:, 0]
            else:
                values = np.ascontiguousarray(m.slots[slot][m.at])
                words[elements] = values.view(np.uint16).reshape(-1, 2)
        return m.proceed(pc + 1)

    return run
