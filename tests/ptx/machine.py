"""Runs the blocks of a batch: which threads go next, and what they wait for.

The threads at the lowest program counter run first, all of them together, so that threads which
took different branches meet again without a stack. A thread can run at its program counter (`key`),
or it is parked at an instruction until others of its warp come there, or it waits at a barrier of
its block, or it has ended.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from .counts import Traffic
from .decode import LOCAL_WINDOW, SHARED_WINDOW, Program
from .errors import Fault
from .loadstore import Copies
from .memory import Generic, Global, Local, Shared

END = np.iinfo(np.int32).max  # program counter of those that cannot run
_BARRIERS = 16


class Machine:
    """Some blocks of a launch.

    Attributes
    ----------
    index, at, count
        The active lanes; the same as an index (a slice where all lanes are active); their number.
    slots
        Arrays of the program's slots.
    spaces
        Memories by the name that instructions use.
    """

    def __init__(self, program: Program, launch, blocks: np.ndarray, traffic: Traffic) -> None:
        self.program, self._launch, self.traffic = program, launch, traffic
        self.threads = launch.threads
        self._per_block = -(-self.threads // 32) * 32
        self.lanes = self._per_block * len(blocks)
        every = np.arange(self.lanes)
        self.block_of, self.warp_of = every // self._per_block, every >> 5
        self._thread = every % self._per_block
        self._real = self._thread < self.threads
        self._blocks = blocks
        self._all = every
        self.slots = program.slots.instantiate(self.lanes, launch.parameters)
        self._fill_specials()
        shared = Shared(len(blocks), launch.shared, launch.races)
        local, memory = Local(self.lanes, program.frames["local"]), Global(launch.memory)
        self.spaces = {
            "global": memory,
            "param": Global(launch.memory, "param"),
            "shared": shared,
            "local": local,
            "argument": Local(self.lanes, program.frames["argument"], counted=False),
            "generic": Generic({0: memory, SHARED_WINDOW: shared, LOCAL_WINDOW: local}),
        }
        self.copies = Copies(self.lanes)
        self.key = np.where(self._real, program.start, END).astype(np.int32)
        self._parked = np.full(self.lanes, END, np.int32)
        self._absent = np.zeros(self.lanes, np.uint32)  # whom a parked lane waits for
        self._barrier = np.full(self.lanes, -1, np.int8)  # the barrier that a lane waits at
        self._resume = np.zeros(self.lanes, np.int32)
        self._exited = np.zeros(self.lanes, bool)
        self._arrived = np.zeros((len(blocks), _BARRIERS), np.int64)
        self._expected = np.zeros((len(blocks), _BARRIERS), np.int64)
        self._finish: dict[int, object] = {}
        self._any_parked = False
        self._pool: np.ndarray | None = None
        weights = 1 << (every & 31)
        self.warp_threads = np.bincount(self.warp_of, weights * self._real).astype(np.uint32)
        self._focus(every)
        if launch.random is not None:
            self._choose_pool()

    # Lanes

    def _focus(self, index: np.ndarray) -> None:
        self.index, self.count = index, index.size
        self.at = slice(None) if index.size == self.lanes else index
        self._shrunk = False

    @property
    def warps(self) -> np.ndarray:
        """Warp of each active lane."""
        return self.warp_of[self.at]

    @contextmanager
    def only(self, mask: np.ndarray):
        """Leave only some of the active lanes active."""
        before = self.index, self.at, self.count
        chosen = np.flatnonzero(mask)
        self.index = before[0][chosen]
        self.at, self.count = self.index, chosen.size
        try:
            yield
        except Fault as fault:
            if fault.lane is not None:
                fault.lane = int(chosen[fault.lane])
            raise
        finally:
            self.index, self.at, self.count = before

    def _fill_specials(self) -> None:
        block, grid = self._launch.block, self._launch.grid
        thread, ctaid = self._thread, self._blocks[self.block_of]
        values = {"%laneid": self._all & 31, "%warpid": thread >> 5, "%smid": 0, "%gridid": 0}
        values |= {"%nwarpid": self._per_block // 32, "%nsmid": 1, "%clock": 0, "%clock64": 0}
        values |= {"%dynamic_smem_size": self._launch.dynamic, "%globaltimer": 0}
        values |= {"%total_smem_size": self._launch.shared, "%cluster_ctarank": 0}
        values |= {"%cluster_nctarank": 1, "%is_explicit_cluster": 0}
        lane = 1 << (self._all & 31)
        values |= {"%lanemask_eq": lane, "%lanemask_lt": lane - 1, "%lanemask_le": 2 * lane - 1}
        values |= {"%lanemask_ge": 2**32 - lane, "%lanemask_gt": 2**32 - 2 * lane}
        for k, axis in enumerate("xyz"):
            below, blocks_below = int(np.prod(block[:k])), int(np.prod(grid[:k]))
            values[f"%tid.{axis}"] = thread // below % block[k]
            values[f"%ctaid.{axis}"] = values[f"%clusterid.{axis}"] = (
                ctaid // blocks_below % grid[k]
            )
            values[f"%ntid.{axis}"] = block[k]
            values[f"%nctaid.{axis}"] = values[f"%nclusterid.{axis}"] = grid[k]
            values[f"%cluster_ctaid.{axis}"], values[f"%cluster_nctaid.{axis}"] = 0, 1
        for slot, (what, *source) in enumerate(self.program.slots.sources):
            if what == "special":
                name, dtype = source
                value = np.asarray(values[name], np.int64).astype(dtype)
                self.slots[slot] = np.broadcast_to(value, self.lanes)

    def describe(self, lane: int) -> str:
        """Return a lane's block and thread."""
        block, thread = int(self._blocks[self.block_of[lane]]), int(self._thread[lane])
        parts = []
        for number, shape in ((block, self._launch.grid), (thread, self._launch.block)):
            x, y, _ = shape
            parts.append((number % x, number // x % y, number // (x * y)))
        return f"block {parts[0]}, thread {parts[1]}"

    # Running

    def run(self) -> None:
        """Run until all threads have ended."""
        limits = self._launch.max_steps
        while (pc := self._select()) is not None:
            self._straight(pc)
            if self._launch.counts.steps > limits:
                raise Fault(
                    f"not ended after {limits} instructions; a thread spins, or raise max_steps"
                )
        if self._launch.counts.steps:
            self.traffic.end_batch(self._per_block // 32)

    def _select(self) -> int | None:
        """Choose the lanes that run next; return where, or None where all have ended."""
        key = self.key if self._pool is None else np.where(self._pool, self.key, END)
        pc = int(key.min())
        if pc == END and self._launch.random is not None and (self.key != END).any():
            self._choose_pool()
            key = np.where(self._pool, self.key, END)
            pc = int(key.min())
        if pc == END:
            if not self._exited[self._real].all():
                raise self._deadlock()
            return None
        here = key == pc
        ahead = key
        if self._any_parked:
            here |= self._parked == pc
            ahead = np.minimum(key, self._parked)
            self._parked[here], self.key[here] = END, pc
            self._any_parked = bool((self._parked != END).any())
        beyond = ahead[ahead > pc]
        self._limit = int(beyond.min()) if beyond.size else END
        self._focus(np.flatnonzero(here))
        return pc

    def _choose_pool(self) -> None:
        """Choose, of each block, one warp that can run."""
        ready = (self.key != END).reshape(len(self._blocks), -1, 32).any(axis=2)
        score = np.where(ready, self._launch.random.random(ready.shape), -1)
        chosen = np.zeros(ready.shape, bool)
        chosen[np.arange(len(ready)), score.argmax(axis=1)] = True
        self._pool = np.repeat(chosen.ravel(), 32)

    def _straight(self, pc: int) -> None:
        """Run the chosen lanes until they split, wait, or come to where others are."""
        steps, hits, counts = self.program.steps, self._launch.hits, self._launch.counts
        while True:
            step = steps[pc]
            counts.steps += 1
            try:
                if step.control:
                    following = self._control(step, pc)
                    if following is None:
                        return
                else:
                    if step.guard is None:
                        hits[pc] += self.count
                        step.run(self)
                    else:
                        hits[pc] += self._guarded(step)
                    following = pc + 1
            except Fault as fault:
                raise self._located(fault, step) from None
            back, pc = following <= pc, following
            # A jump back may come to lanes that are parked, and may be one of too many.
            stay = not (back and (self._any_parked or counts.steps > self._launch.max_steps))
            if pc >= self._limit or not stay:
                self.key[self.index] = pc
                return

    def _guarded(self, step) -> int:
        holds = self.slots[step.guard][self.at] ^ step.negated
        count = int(np.count_nonzero(holds))
        if count == self.count:
            step.run(self)
        elif count:
            with self.only(holds):
                step.run(self)
        return count

    def _control(self, step, pc: int) -> int | None:
        if step.guard is not None:
            holds = self.slots[step.guard][self.at] ^ step.negated
            if not holds.any():
                return pc + 1
            if not holds.all():
                self.key[self.index[~holds]] = pc + 1
                self._focus(self.index[holds])
                self._shrunk = True
        following = step.run(self, pc)
        self._launch.hits[pc] += self.count
        if following is not None and self._shrunk:
            self.key[self.index] = following
            return None
        return following

    def _located(self, fault: Fault, step) -> Fault:
        where = f"line {step.instruction.line}: {step.instruction.text}"
        lane = "" if fault.lane is None else f" ({self.describe(int(self.index[fault.lane]))})"
        return Fault(f"{fault}{lane}, at {where}")

    # What control instructions use

    def proceed(self, pc: int) -> int | None:
        """Return where the active lanes go on; None where no lane is left."""
        return pc if self.count else None

    def exit(self) -> None:
        self._exited[self.index] = True
        self.key[self.index] = END

    def present(self) -> np.ndarray:
        """Return, for each active lane, the active lanes of its warp, as bits."""
        if self.count == self.lanes:
            return np.full(self.lanes, 0xFFFFFFFF, np.uint32)
        warps = self.warps
        return np.bincount(warps, 1 << (self.index & 31)).astype(np.uint32)[warps]

    def meet(self, pc: int, mask: np.ndarray, *, barrier: bool = False) -> None:
        """Park the active lanes whose mask names lanes that are not here; others stay active."""
        if not barrier and (mask >> (self.index & 31).astype(np.uint32) & 1 == 0).any():
            bad = int(np.flatnonzero(mask >> (self.index & 31).astype(np.uint32) & 1 == 0)[0])
            raise Fault(f"the lane is not in its own member mask {mask[bad]:#x}", bad)
        missing = mask & ~self.present()
        if not missing.any():
            return
        exited = np.bincount(self.warp_of, (1 << (self._all & 31)) * self._exited)
        gone = missing & (exited.astype(np.uint32) | ~self.warp_threads)[self.warps]
        if gone.any():
            bad = int(np.flatnonzero(gone)[0])
            what = "divergent barrier: threads" if barrier else "the member mask names lanes that"
            raise Fault(f"{what} have ended or never were ({gone[bad]:#x} of the warp)", bad)
        late = self.index[missing != 0]
        self.key[late], self._parked[late], self._any_parked = END, pc, True
        self._absent[late] = missing[missing != 0]
        self._focus(self.index[missing == 0])
        self._shrunk = True

    def arrive(self, pc: int, ids, threads, *, waits: bool, finish) -> None:
        """Count the active lanes at barriers of their blocks; let those go that are complete."""
        blocks = self.block_of[self.at]
        if (ids >= _BARRIERS).any():
            raise Fault(f"barrier {ids.max()} is beyond the last", int(ids.argmax()))
        np.add.at(self._arrived, (blocks, ids), 1)
        self._expected[blocks, ids] = self.threads if threads is None else threads
        if waits:
            self._barrier[self.index], self._resume[self.index] = ids, pc + 1
            self.key[self.index] = END
        self._finish[pc] = finish
        if (self._arrived > self._expected).any():
            raise Fault("more threads at a barrier than it was declared for", 0)
        full = (self._arrived == self._expected) & (self._arrived > 0)
        for number in np.flatnonzero(full.any(axis=0)).tolist():
            self._release(full[:, number], number)

    def _release(self, complete: np.ndarray, number: int) -> None:
        lanes = np.flatnonzero((self._barrier == number) & complete[self.block_of])
        whole = complete & (self._expected[:, number] == self.threads)
        self.spaces["shared"].passed(np.flatnonzero(whole))
        self._arrived[complete, number] = 0
        self._barrier[lanes] = -1
        self.key[lanes] = self._resume[lanes]
        for pc in np.unique(self._resume[lanes] - 1).tolist():
            if self._finish.get(pc):
                self._finish[pc](self, lanes[self._resume[lanes] == pc + 1])

    def _deadlock(self) -> Fault:
        """Say who waits for whom, in the first block that cannot go on."""
        place = np.where(self._barrier >= 0, self._resume - 1, self._parked)
        lane = int(np.flatnonzero(place != END)[0])
        same = self.block_of == self.block_of[lane]
        instruction = self.program.steps[place[lane]].instruction
        what = "divergent barrier" if instruction.opcode in ("bar", "barrier") else "deadlock"
        if self._parked[lane] != END:
            what += f": lanes {self._absent[lane]:#x} of its warp never came"
        sites, numbers = np.unique(place[same & (place != END)], return_counts=True)
        waits = [
            f"{number} wait at line {self.program.steps[pc].instruction.line}"
            for pc, number in zip(sites.tolist(), numbers.tolist(), strict=True)
        ]
        waits.append(f"{np.count_nonzero(self._exited & same)} have ended")
        return Fault(
            f"{what}: of the {self.threads} threads of its block {', '.join(waits)}"
            f" ({self.describe(lane)}), at line {instruction.line}: {instruction.text}"
        )
