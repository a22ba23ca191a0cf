"""The memories: which bytes may be touched, and where they are.

A space's `locate(m, address, size, count, mode)` checks an access of the active lanes to `count`
values of `size` bytes each and returns where each lane's first byte is in `view(dtype)`.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from .decode import LOCAL_WINDOW, SHARED_WINDOW
from .errors import Fault

READ, WRITE, ATOMIC = "read", "write", "atomic"
FIRST = 4096  # the zero page is nobody's


class _Process:
    """All memory of this process as one array, which NumPy then indexes by address.

    Nothing is read or written but what the caller has checked to be in a registered buffer.
    """

    def __init__(self, dtype: np.dtype) -> None:
        count = ((1 << 48) - FIRST) // dtype.itemsize
        self.__array_interface__ = {
            "data": (FIRST, False),
            "shape": (count,),
            "typestr": dtype.str,
            "version": 3,
        }


class Memory:
    """Global memory: the buffers that kernels may read or write, at their true addresses."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, bool]] = []  # first address, the one after, writable
        self._keep: list = []
        self._prepare()

    def add(self, buffer, *, writable: bool = True) -> int:
        """Register a CPU tensor or a NumPy array; return the address of its first element.

        The range is that of its elements, first to last. What overlaps an earlier range joins it,
        and both must be writable, or both not.
        """
        if hasattr(buffer, "data_ptr"):
            address, item = buffer.data_ptr(), buffer.element_size()
            last = sum((n - 1) * s for n, s in zip(buffer.shape, buffer.stride(), strict=True))
            size = (last + 1) * item if buffer.numel() else 0
            if buffer.device.type != "cpu":
                raise ValueError(f"the buffer is on {buffer.device}, expected the CPU")
        else:
            low, high = np.lib.array_utils.byte_bounds(buffer)
            address, size = buffer.ctypes.data, (high - low if buffer.size else 0)
            if low != address:
                raise ValueError("negative strides are not supported")
        if size:
            self._add(address, address + size, writable)
        self._keep.append(buffer)
        self._prepare()
        return address

    def _add(self, start: int, end: int, writable: bool) -> None:
        apart = []
        for first, after, other in self._ranges:
            if first >= end or after <= start:
                apart.append((first, after, other))
            elif other != writable:
                raise ValueError("the buffer overlaps one that is registered with other rights")
            else:
                start, end = min(start, first), max(end, after)
        self._ranges = sorted([*apart, (start, end, writable)])

    def _prepare(self) -> None:
        table = np.array(self._ranges or [(0, 0, False)], np.int64)
        self._starts, self._ends, self._writable = (
            table[:, 0].copy(),
            table[:, 1].copy(),
            table[:, 2],
        )
        self._first_addresses = self._starts.tolist()

    def joined(self, *others: Memory) -> Memory:
        """Return a memory with the buffers of all."""
        whole = Memory()
        for memory in (self, *others):
            for start, end, writable in memory._ranges:
                whole._add(start, end, writable)
            whole._keep.append(memory)
        whole._prepare()
        return whole

    def check(self, address: np.ndarray, size: int, write: bool) -> None:
        """Raise a fault where size bytes at an address are in no buffer, or not to be written."""
        low, high = int(address.min()), int(address.max())
        k = bisect_right(self._first_addresses, low) - 1
        if k >= 0 and high + size <= self._ends[k] and (self._writable[k] or not write):
            return
        which = np.searchsorted(self._starts, address, side="right") - 1
        inside = (which >= 0) & (address + size <= self._ends[which])
        if not inside.all():
            bad = int(np.flatnonzero(~inside)[0])
            raise Fault(f"address {address[bad]:#x} is in no buffer ({size} bytes)", bad)
        if write and not self._writable[which].all():
            bad = int(np.flatnonzero(self._writable[which] == 0)[0])
            raise Fault(f"write to read-only memory at {address[bad]:#x}", bad)


def check_alignment(address: np.ndarray, size: int) -> None:
    wrong = address & (size - 1)
    if wrong.any():
        bad = int(np.flatnonzero(wrong)[0])
        raise Fault(f"address {address[bad]:#x} is not aligned to {size} bytes", bad)


class Global:
    """Global memory as instructions see it. `kind`: "global", or "param", which is not counted."""

    doubt = None

    def __init__(self, memory: Memory, kind: str = "global") -> None:
        self._memory, self._counted = memory, kind == "global"
        self._views: dict[np.dtype, np.ndarray] = {}

    def view(self, dtype: np.dtype) -> np.ndarray:
        if dtype not in self._views:
            self._views[dtype] = np.asarray(_Process(dtype))
        return self._views[dtype]

    def locate(self, m, address: np.ndarray, size: int, count: int, mode: str) -> np.ndarray:
        check_alignment(address, size * count)
        self._memory.check(address, size * count, mode != READ)
        if self._counted:
            m.traffic.sectors(m.warps, address, mode)
        return address - FIRST


class Local:
    """Each thread's own memory: frame bytes, lane after lane."""

    doubt = None

    def __init__(self, lanes: int, frame: int, counted: bool = True) -> None:
        self._counted = counted
        self._size, self._frame = frame, -(-max(frame, 1) // 32) * 32
        self._bytes = np.zeros(lanes * self._frame, np.uint8)
        self._base = np.arange(lanes, dtype=np.int64) * self._frame

    def view(self, dtype: np.dtype) -> np.ndarray:
        return self._bytes.view(dtype)

    def locate(self, m, address: np.ndarray, size: int, count: int, mode: str) -> np.ndarray:
        check_alignment(address, size * count)
        outside = (address < 0) | (address + size * count > self._size)
        if outside.any():
            bad = int(np.flatnonzero(outside)[0])
            raise Fault(f"local address {address[bad]:#x} is outside of {self._size} bytes", bad)
        if self._counted:
            m.traffic.local_bytes += size * count * m.count
        return self._base[m.at] + address

    def copy(self, m, source: int, target: int, size: int) -> None:
        """Copy size bytes of every active thread's memory."""
        table = self._bytes.reshape(-1, self._frame)
        table[m.at, target : target + size] = table[m.at, source : source + size]


class Shared:
    """Shared memory of the batch's blocks, which knows who wrote and who read each byte."""

    _ATOMIC, _SEVERAL = -1, -2

    def __init__(self, blocks: int, size: int, races: bool | str) -> None:
        self._size, self._stride = size, -(-max(size, 1) // 32) * 32
        self._bytes = np.zeros(blocks * self._stride, np.uint8)
        self._written = np.zeros(blocks * self._stride, np.uint8)  # 255 where somebody wrote
        self._races = races
        # Writes of this instruction to bytes that another warp wrote: no race if of the same value.
        self.doubt: tuple | None = None
        if races:  # since the last barrier; 0: nobody, otherwise a warp's number plus 1
            self._writer = np.zeros(blocks * self._stride, np.int32)
            self._reader = np.zeros(blocks * self._stride, np.int32)

    def view(self, dtype: np.dtype) -> np.ndarray:
        return self._bytes.view(dtype)

    def locate(self, m, address: np.ndarray, size: int, count: int, mode: str) -> np.ndarray:
        check_alignment(address, size * count)
        outside = (address < 0) | (address + size * count > self._size)
        if outside.any():
            bad = int(np.flatnonzero(outside)[0])
            raise Fault(f"shared address {address[bad]:#x} is outside of {self._size} bytes", bad)
        place = m.block_of[m.at] * self._stride + address
        written = self._written.view(f"u{size}")
        full, index = written.dtype.type(2 ** (8 * size) - 1), place // size
        for k in range(count):
            if mode != WRITE:
                missing = written[index + k] != full
                if missing.any():
                    bad = int(np.flatnonzero(missing)[0])
                    where = address[bad] + k * size
                    raise Fault(f"read of shared memory that nobody wrote, at {where:#x}", bad)
            if mode != READ:
                written[index + k] = full
        if self._races:
            self._check_races(m, place, size * count, mode)
        m.traffic.banks(m.warps, address, size * count)
        return place

    def _check_races(self, m, place: np.ndarray, size: int, mode: str) -> None:
        me = m.warp_of[m.at] + 1
        earlier, together = np.zeros((2, place.size, size), bool)
        for k in range(size):
            byte = place + k
            writer, reader = self._writer[byte], self._reader[byte]
            clash = (writer != 0) & (writer != me)
            if mode == READ:
                self._reader[byte] = np.where((reader == 0) | (reader == me), me, self._SEVERAL)
                # Several warps that read in one instruction overwrote each other's number.
                self._reader[byte[self._reader[byte] != me]] = self._SEVERAL
            else:
                self._writer[byte] = self._ATOMIC if mode == ATOMIC else me
                if mode == ATOMIC:
                    clash &= writer != self._ATOMIC
                elif self._races == "differing":
                    earlier[:, k] = clash & (writer != self._ATOMIC)
                    together[:, k] = self._writer[byte] != me
                    clash &= writer == self._ATOMIC
                else:
                    clash |= self._writer[byte] != me
                clash |= (reader != 0) & (reader != me)
            if clash.any():
                raise self._race(place + k, clash)
        if earlier.any() or together.any():
            before = self._bytes[place[:, None] + np.arange(size)]
            self.doubt = place, before, earlier, together

    def _race(self, byte: np.ndarray, clash: np.ndarray) -> Fault:
        bad = int(np.flatnonzero(clash)[0])
        where = byte[bad] % self._stride
        return Fault(f"race: two warps use shared byte {where:#x} between barriers", bad)

    def settle(self, values: list[np.ndarray]) -> None:
        """Raise a fault where a write in doubt, of these values, differs from the other warp's."""
        place, before, earlier, together = self.doubt
        self.doubt = None
        own = np.stack(values, axis=1).view(np.uint8)
        now = self._bytes[place[:, None] + np.arange(own.shape[1])]
        differs = (earlier & (own != before) | together & (own != now)).any(axis=1)
        if differs.any():
            raise self._race(place, differs)

    def mark(self, places: np.ndarray, written: bool) -> None:
        """Mark bytes, as `locate` counts them, as written or not: for asynchronous copies."""
        self._written[places] = 255 if written else 0

    def passed(self, blocks: np.ndarray) -> None:
        """Note that all threads of these blocks have passed a barrier."""
        if self._races:
            for table in (self._writer, self._reader):
                table.reshape(-1, self._stride)[blocks] = 0


class Generic:
    """Addresses that say themselves which memory they are in."""

    def __init__(self, spaces: dict[int, Global | Shared | Local]) -> None:
        self._spaces = spaces

    def parts(self, m, address: np.ndarray):
        """Yield (space, lanes as a mask or None for all, address in the space)."""
        window = address & (SHARED_WINDOW | LOCAL_WINDOW)
        window[~np.isin(window, list(self._spaces))] = 0  # global memory, which has no such address
        for base, space in self._spaces.items():
            here = window == base
            if here.all():
                yield space, None, address - base
            elif here.any():
                yield space, here, (address - base)[here]
