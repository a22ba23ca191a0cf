"""Modules and kernels: what a test loads and launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from . import arithmetic, bitwise, control, convert, loadstore, matrix, warp  # noqa: F401 (they register)
from .counts import Counts, Traffic
from .decode import Program, place
from .machine import Machine
from .memory import Memory
from .syntax import Function, Parser


@dataclass(frozen=True)
class Parameter:
    """A kernel's parameter: its name, and the byte offset and size in the parameter block."""

    name: str
    offset: int
    size: int


@dataclass
class _Launch:
    """What all batches of a launch share."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    parameters: np.ndarray
    memory: Memory
    shared: int
    dynamic: int
    races: bool | str
    random: np.random.Generator | None
    max_steps: int
    hits: list[int]
    counts: Counts = field(default_factory=Counts)

    @property
    def threads(self) -> int:
        return int(np.prod(self.block))


def _triple(size: int | Sequence[int], name: str) -> tuple[int, int, int]:
    sizes = (size,) if isinstance(size, int) else tuple(size)
    if not 1 <= len(sizes) <= 3 or min(sizes) < 1:
        raise ValueError(f"{name} is {size}, expected one to three positive numbers")
    return (*sizes, *(1,) * (3 - len(sizes)))


class Kernel:
    """A kernel of a module.

    Attributes
    ----------
    name
        Its name in the text.
    parameters
        Its parameters in order.
    bounds
        Its directives such as ".maxntid" or ".reqntid", with their numbers.
    """

    def __init__(self, module: Module, function: Function) -> None:
        self._module, self._function = module, function
        self.name, self.bounds = function.name, function.bounds
        offsets, self._bytes_of_parameters = place(function.parameters)
        self.parameters = [Parameter(v.name, offsets[v.name], v.size) for v in function.parameters]

    @cached_property
    def program(self) -> Program:
        """The kernel's instructions, decoded when it is first needed."""
        module = self._module
        return Program(self._function, module.functions, module.addresses, module.shared)

    @property
    def static_shared(self) -> int:
        """Bytes of shared memory that the kernel declares itself."""
        return self.program.shared_bytes

    def _pack(self, values: bytes | Sequence) -> np.ndarray:
        """Return the parameter block, from itself or from a value for each parameter."""
        size = self._bytes_of_parameters
        if isinstance(values, bytes):
            if len(values) != size:
                raise ValueError(f"{self.name}: {len(values)} bytes of parameters, expected {size}")
            return np.frombuffer(values + bytes(-size % 8), np.uint8).copy()
        if len(values) != len(self.parameters):
            names = [p.name for p in self.parameters]
            raise ValueError(f"{self.name}: {len(values)} parameters, expected {names}")
        block = np.zeros(-(-size // 8) * 8, np.uint8)
        for value, parameter in zip(values, self.parameters, strict=True):
            packed = self._bytes(value, parameter)
            end = parameter.offset + parameter.size
            block[parameter.offset : end] = np.frombuffer(packed, np.uint8)
        return block

    @staticmethod
    def _bytes(value, parameter: Parameter) -> bytes:
        if isinstance(value, (bool, int)):
            return (int(value) % (1 << 8 * parameter.size)).to_bytes(parameter.size, "little")
        if type(value) is float:
            return np.array(value, f"f{parameter.size}").tobytes()
        packed = value if isinstance(value, bytes) else np.asarray(value).tobytes()
        if len(packed) != parameter.size:
            raise ValueError(f"{parameter.name}: {len(packed)} bytes, expected {parameter.size}")
        return packed

    def launch(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        params: bytes | Sequence,
        *,
        memory: Memory,
        shared: int = 0,
        schedule: str = "lowest",
        seed: int = 0,
        races: bool | str = False,
        max_lanes: int = 4096,
        max_steps: int = 10_000_000,
    ) -> Counts:
        """Run all threads of a grid.

        A barrier of the block waits for all its threads: also for those that have ended, which is a
        fault, although newer devices let the others go on.

        Parameters
        ----------
        grid, block
            Blocks of the grid and threads of a block, along one to three axes.
        params
            The parameter block, or a value for each parameter: integers and floats take the
            declared size; NumPy scalars and bytes must have it.
        memory
            Global memory; addresses in parameters must be in it.
        shared
            Bytes of dynamic shared memory.
        schedule
            "lowest": all threads at the lowest program counter go together. "random": of each block
            one warp goes, until it waits or ends, then one drawn by `seed`.
        races
            Whether it is a fault that two warps use a byte of shared memory between two barriers of
            the block, at least one of them writing; atomic operations among each other are none.
            "differing": nor are writes of the same value, as Triton's where threads hold copies.
        max_lanes
            Threads that are simulated together; at least one block is.
        max_steps
            Instructions, each for many threads, after which the launch is given up.

        Returns
        -------
        Counts
            What the launch did.

        Raises
        ------
        Fault
            The kernel did what it must not.
        UnsupportedInstruction
            The kernel has an instruction that is not known here.
        """
        if races not in (False, True, "differing"):
            raise ValueError(f'races is {races!r}, expected False, True or "differing"')
        if schedule not in ("lowest", "random"):
            raise ValueError(f'schedule is {schedule!r}, expected "lowest" or "random"')
        program, parameters = self.program, self._pack(params)
        own = Memory()
        own.add(parameters, writable=False)
        launch = _Launch(
            _triple(grid, "grid"),
            _triple(block, "block"),
            parameters,
            memory.joined(own, self._module.memory),
            program.shared_bytes + shared,
            shared,
            races,
            np.random.default_rng(seed) if schedule == "random" else None,
            max_steps,
            [0] * len(program.steps),
        )
        self._check_bounds(launch)
        traffic = Traffic(launch.counts)
        blocks = np.arange(int(np.prod(launch.grid)))
        if launch.random is not None:
            launch.random.shuffle(blocks)
        together = max(1, max_lanes // (-(-launch.threads // 32) * 32))
        with np.errstate(all="ignore"):
            for first in range(0, len(blocks), together):
                Machine(program, launch, blocks[first : first + together], traffic).run()
        traffic.end()
        for step, hits in zip(program.steps, launch.hits, strict=True):
            if hits:
                launch.counts.instructions[step.category] += hits
        return launch.counts

    def _check_bounds(self, launch: _Launch) -> None:
        required = self.bounds.get(".reqntid")
        if required and tuple(required) != launch.block[: len(required)]:
            raise ValueError(f"{self.name}: block {launch.block}, required is {required}")
        most = min(1024, *[int(np.prod(self.bounds.get(".maxntid", [1024])))] * 2)
        if launch.threads > most:
            raise ValueError(f"{self.name}: {launch.threads} threads in a block, at most {most}")


class Module:
    """A PTX module: its kernels, and its variables, which live as long as it does.

    Parameters
    ----------
    text
        PTX, as nvcc or Triton emit it.

    Raises
    ------
    UnsupportedInstruction
        Something in it is not known here; the message has its line. For instructions it is raised
        where their kernel is first used.
    """

    def __init__(self, text: str) -> None:
        parser = Parser(text)
        self.functions = parser.functions
        self.memory, self.addresses = Memory(), {}
        self._arrays: dict[str, np.ndarray] = {}
        self.shared = {v.name: v for v in parser.variables.values() if v.space == "shared"}
        for variable in parser.variables.values():
            if variable.space in ("global", "const"):
                # 32 bytes more on either side, so that neighbours do not touch.
                room = np.zeros(variable.size + 96, np.uint8)
                start = -room.ctypes.data % 32 + 32
                array = room[start : start + variable.size]
                array[: len(variable.initial)] = np.frombuffer(variable.initial, np.uint8)
                self._arrays[variable.name] = array
                self.addresses[variable.name] = self.memory.add(
                    array, writable=variable.space == "global"
                )
        self.kernels = {f.name: Kernel(self, f) for f in self.functions.values() if f.entry}

    def variable(self, name: str, dtype: str | np.dtype = "u1") -> np.ndarray:
        """Return a variable in global or constant memory, as an array that shares its bytes."""
        return self._arrays[name].view(dtype)
