"""What a launch did: instructions, memory traffic, bank conflicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

SECTOR = 32  # bytes


def _no_sectors() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass
class Counts:
    """Totals over all threads of a launch.

    Attributes
    ----------
    instructions
        Executed instructions by class, one for each thread: opcode and type ("fma.f64"), opcode and
        memory for what reads or writes ("ld.global"). Those whose guard is false do not count.
    sectors_read, sectors_written
        Sectors of 32 bytes in global memory: distinct ones of each warp-wide instruction. Atomic
        operations count as both.
    block_sectors_read, block_sectors_written
        The same, distinct in each block.
    read, written
        Numbers of the sectors, distinct in the launch and sorted: how many they are times 32, the
        bytes that must cross to DRAM.
    bank_conflicts
        Wavefronts of shared memory beyond the first of each warp-wide access of up to 128 bytes.
    local_bytes
        Bytes of local memory read and written.
    shuffles, barriers
        Executed `shfl` and barriers of a block, one for each thread.
    steps
        Instructions the interpreter ran, each for many threads.
    """

    instructions: Counter[str] = field(default_factory=Counter)
    sectors_read: int = 0
    sectors_written: int = 0
    block_sectors_read: int = 0
    block_sectors_written: int = 0
    read: np.ndarray = field(default_factory=_no_sectors, repr=False, compare=False)
    written: np.ndarray = field(default_factory=_no_sectors, repr=False, compare=False)
    bank_conflicts: int = 0
    local_bytes: int = 0
    steps: int = 0

    @property
    def unique_sectors_read(self) -> int:
        return self.read.size

    @property
    def unique_sectors_written(self) -> int:
        return self.written.size

    @property
    def shuffles(self) -> int:
        return self.total("shfl")

    @property
    def barriers(self) -> int:
        of_warps = self.instructions["bar.warp.sync"]
        return self.total("bar") + self.total("barrier") - of_warps

    def total(self, opcode: str) -> int:
        """Return how often an opcode was executed, whatever its type or memory."""
        return sum(n for name, n in self.instructions.items() if name.split(".")[0] == opcode)


def sectors_of(launches: Iterable[Counts]) -> int:
    """Return how many sectors cross to DRAM in launches that follow one another on one memory.

    A cache that holds all they touch: a sector is fetched once, unless an earlier launch wrote it,
    and written back once.
    """
    fetched, known, written = 0, _no_sectors(), _no_sectors()
    for counts in launches:
        fetched += np.setdiff1d(counts.read, known, assume_unique=True).size
        written = np.union1d(written, counts.written)
        known = np.union1d(known, np.union1d(counts.read, written))
    return fetched + written.size


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Return sorted keys without repetitions; quick where they come sorted."""
    if keys.size > 1:
        if (keys[1:] < keys[:-1]).any():
            keys = np.sort(keys)
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    return keys


class Traffic:
    """Counts the accesses of one batch of blocks, and of the batches before."""

    _SHIFT = 43  # bits of a sector's number

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._seen: dict[str, list[np.ndarray]] = {"read": [], "written": []}
        self.local_bytes = 0

    def sectors(self, warps: np.ndarray, address: np.ndarray, mode: str) -> None:
        """Count the sectors of an access; warps has each lane's warp."""
        keys = _distinct(warps << self._SHIFT | address >> 5)
        if mode != "write":
            self._counts.sectors_read += keys.size
            self._note("read", keys)
        if mode != "read":
            self._counts.sectors_written += keys.size
            self._note("written", keys)

    def _note(self, name: str, keys: np.ndarray) -> None:
        seen = self._seen[name]
        seen.append(keys)
        if len(seen) >= 512:  # a long loop may touch the same bytes again and again
            seen[:] = [_distinct(np.concatenate(seen))]

    def banks(self, warps: np.ndarray, address: np.ndarray, size: int) -> None:
        """Count the conflicts of an access to shared memory of size bytes by each lane."""
        per_phase = min(32, max(1, 128 // size))  # lanes served together
        word = address >> 2
        if warps.size % 32 == 0 and warps.size == (warps[-1] - warps[0] + 1) * 32:
            together = word.reshape(-1, per_phase)
            if (together.max(axis=1) - together.min(axis=1) + max(size // 4, 1) <= 32).all():
                return
            phase = np.repeat(np.arange(len(together)), per_phase)
        else:
            first = np.flatnonzero(np.concatenate([[True], warps[1:] != warps[:-1]]))
            position = np.arange(warps.size) - np.repeat(first, np.diff([*first, warps.size]))
            phase = warps * (32 // per_phase) + position // per_phase
            phase -= phase[0]
        words = (word[:, None] + np.arange(max(size // 4, 1))).ravel()
        keys = _distinct(np.repeat(phase, max(size // 4, 1)) << 32 | words)
        load = np.bincount((keys >> 32) * 32 + (keys & 31)).astype(np.int64)
        load = np.pad(load, (0, -load.size % 32)).reshape(-1, 32)
        self._counts.bank_conflicts += int(np.maximum(load.max(axis=1) - 1, 0).sum())

    def end_batch(self, warps_per_block: int) -> None:
        """Sum up what the blocks of a batch touched."""
        for name, seen in self._seen.items():
            if not seen:
                continue
            keys = np.concatenate(seen)
            sector = keys & ((1 << self._SHIFT) - 1)
            block = (keys >> self._SHIFT) // warps_per_block
            touched = _distinct(block << self._SHIFT | sector).size
            field_name = f"block_sectors_{name}"
            setattr(self._counts, field_name, getattr(self._counts, field_name) + touched)
            known = getattr(self._counts, name)
            setattr(self._counts, name, _distinct(np.concatenate([known, sector])))
            seen.clear()

    def end(self) -> None:
        self._counts.local_bytes = self.local_bytes
