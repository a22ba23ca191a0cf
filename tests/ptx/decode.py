"""Turns the instructions of a kernel and of the functions it calls into steps: closures over slots.

A slot is an array with a value for each lane (thread): a register seen as some type, a constant, a
special register. Registers seen as a narrower type are strided views, so that every source is read
the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .errors import UnsupportedInstruction
from .syntax import Function, Instruction, Operand, Register, Variable
from .types import TYPES, Type, literal

SHARED_WINDOW, LOCAL_WINDOW = 1 << 56, 1 << 57  # generic addresses of these memories


@dataclass
class Step:
    """An instruction that is ready to run.

    `run(machine)` does it for the lanes `machine.at`. Where `control` is set it returns the program
    counter of all these lanes, or None where it has set each lane's own.
    """

    instruction: Instruction
    run: Callable
    control: bool = False
    guard: int | None = None
    negated: bool = False
    category: str = ""


OPERATIONS: dict[str, tuple[Callable, set[str], bool]] = {}


def operation(opcodes: str, accepts: str = "", control: bool = False) -> Callable:
    """Register what builds the closure of these opcodes, and the modifiers it understands."""

    def register(build: Callable) -> Callable:
        for opcode in opcodes.split():
            OPERATIONS[opcode] = build, set(accepts.split()), control
        return build

    return register


@dataclass
class Slots:
    """Which arrays a program needs; `instantiate` makes them for a number of lanes."""

    registers: dict[Register, int] = field(default_factory=dict)
    sources: list[tuple] = field(default_factory=list)
    _known: dict[tuple, int] = field(default_factory=dict)

    def _slot(self, *source) -> int:
        if source not in self._known:
            self._known[source] = len(self.sources)
            self.sources.append(source)
        return self._known[source]

    def register(self, register: Register, kind: Type) -> int:
        number = self.registers.setdefault(register, len(self.registers))
        return self._slot("register", number, kind.dtype, kind.packed)

    def constant(self, value: np.ndarray) -> int:
        return self._slot("constant", value.tobytes(), value.dtype, value.shape)

    def special(self, name: str, kind: Type) -> int:
        return self._slot("special", name, kind.dtype)

    def parameter(self, offset: int, kind: Type) -> int:
        """Bytes of the kernel's parameters; at offset -1 the address of all of them."""
        return self._slot("parameter", offset, kind.dtype)

    def instantiate(self, lanes: int, parameters: np.ndarray) -> list[np.ndarray | None]:
        """Return the arrays; those of special registers are left to the caller."""
        storage = [
            np.zeros(lanes, f"u{r.type.size}" if r.type.name != "pred" else bool)
            for r in self.registers
        ]
        arrays: list[np.ndarray | None] = []
        for what, *source in self.sources:
            if what == "register":
                number, dtype, packed = source
                array = storage[number].view(dtype)
                parts = array.reshape(lanes, -1)
                array = parts[:, :packed] if packed > 1 else parts[:, 0]
            elif what == "constant":
                raw, dtype, shape = source
                array = np.broadcast_to(np.frombuffer(raw, dtype).reshape(shape), (lanes, *shape))
            elif what == "parameter":
                offset, dtype = source
                if offset < 0:
                    value = np.array(parameters.ctypes.data, dtype)
                else:
                    value = parameters[offset : offset + dtype.itemsize].copy().view(dtype)[0]
                array = np.broadcast_to(value, lanes)
            else:
                array = None
            arrays.append(array)
        return arrays


def _aligned(offset: int, align: int) -> int:
    return -(-offset // align) * align


def place(variables: list[Variable]) -> tuple[dict[str, int], int]:
    """Return the offsets of variables that lie one after the other, and the bytes they take."""
    offsets, end = {}, 0
    for variable in variables:
        offsets[variable.name] = end = _aligned(end, variable.align)
        end += variable.size
    return offsets, end


class Program:
    """A kernel with the functions it calls, in one list of steps: callees come first.

    Parameters
    ----------
    kernel
        The kernel.
    functions
        All functions of the module.
    addresses
        Address of each variable of the module in global or constant memory.
    shared
        The module's variables in shared memory.
    """

    def __init__(
        self,
        kernel: Function,
        functions: dict[str, Function],
        addresses: dict[str, int],
        shared: dict[str, Variable],
    ) -> None:
        self.kernel, self.slots, self.steps = kernel, Slots(), []
        # Each thread's own memory: bytes for its variables, and for the arguments of calls.
        self.frames = {"local": 0, "argument": 0}
        self.local: dict[tuple[str, str], tuple[str, int]] = {}
        self.returns: dict[str, int] = {}  # each function's register for where to go back to
        self.entries: dict[str, int] = {}
        self.epilogues: dict[int, list] = {}  # what to copy when the call at a step returns
        self.functions, self._addresses = functions, addresses
        self.parameters, self.parameter_bytes = place(kernel.parameters)
        self._place_shared(shared)
        for function in self._linked(kernel, []):
            self._place_local(function)
            self.entries[function.name] = len(self.steps)
            self.returns[function.name] = self.scratch(TYPES["s32"])
            for instruction in function.body:
                self.function = function
                self.steps.append(self._step(instruction))
            if not function.body or function.body[-1].opcode not in ("ret", "exit", "bra", "trap"):
                end = Instruction(0, "end of the body", "ret", (), [], None, ())
                self.steps.append(self._step(end))
        self.start = self.entries[kernel.name]

    def _linked(self, function: Function, done: list[Function]) -> list[Function]:
        for instruction in function.body:
            if instruction.opcode != "call":
                continue
            callee = self.functions.get(self.callee(instruction))
            if callee is not None and callee.defined and callee not in done:
                if callee is function:
                    raise instruction.unsupported("recursion")
                self._linked(callee, done)
        if function not in done:
            done.append(function)
        return done

    @staticmethod
    def callee(call: Instruction) -> str:
        names = [operand.symbol for operand in call.operands if operand.symbol]
        if len(names) != 1:
            raise call.unsupported("indirect call")
        return names[0]

    def _place_shared(self, module: dict[str, Variable]) -> None:
        inside = {v.name: v for v in self.kernel.variables.values() if v.space == "shared"}
        self.shared: dict[str, int] = {}
        self.shared_bytes = 0
        for name, variable in {**module, **inside}.items():
            if not variable.external:
                self.shared_bytes = _aligned(self.shared_bytes, variable.align)
                self.shared[name] = self.shared_bytes
                self.shared_bytes += variable.size
        dynamic = [v for v in module.values() if v.external]
        for variable in dynamic:  # all of them begin where the others end
            self.shared_bytes = _aligned(self.shared_bytes, variable.align)
        for variable in dynamic:
            self.shared[variable.name] = self.shared_bytes

    def _place_local(self, function: Function) -> None:
        places = [v for v in function.variables.values() if v.space in ("local", "param")]
        if not function.entry:
            places += function.parameters + function.returns
        for variable in places:
            space = "local" if variable.space == "local" else "argument"
            offset = _aligned(self.frames[space], max(variable.align, 16))
            self.local[function.name, variable.name] = space, offset
            self.frames[space] = offset + variable.size

    def _step(self, instruction: Instruction) -> Step:
        if instruction.opcode not in OPERATIONS:
            raise instruction.unsupported("unsupported instruction")
        build, accepts, control = OPERATIONS[instruction.opcode]
        for modifier in instruction.modifiers:
            if modifier not in TYPES and modifier not in accepts:
                raise instruction.unsupported(f"unsupported modifier .{modifier}")
        try:
            step = Step(instruction, build(self, instruction), control)
        except (IndexError, KeyError, TypeError, AttributeError) as error:
            raise instruction.unsupported(f"unsupported form ({error!r})") from error
        if instruction.guard is not None:
            step.guard = self.source(instruction.guard, TYPES["pred"])
            step.negated = instruction.guard.negated
        types = [m for m in instruction.modifiers if m in TYPES]
        space = instruction.pick("global shared shared::cta local param const")
        if instruction.opcode in ("ld", "st", "atom", "red"):
            step.category = f"{instruction.opcode}.{space or 'generic'}"
        elif instruction.opcode in ("cvt", "set"):
            step.category = instruction.opcode
        elif instruction.has("warp", "async"):  # bar.warp.sync, cp.async....
            step.category = ".".join([instruction.opcode, *instruction.modifiers[:2]])
        else:
            step.category = ".".join([instruction.opcode, *types[:1]])
        return step

    # What the builders of steps use

    def target(self, instruction: Instruction, name: str) -> int:
        """Return the program counter of a label."""
        place = self.function.find(self.function.labels, instruction.scope, name)
        if place is None:
            raise instruction.unsupported("unknown label")
        return self.entries[self.function.name] + place

    def scratch(self, kind: Type) -> int:
        """Return a slot that no instruction of the text uses."""
        return self.slots.register(Register("scratch", kind), kind)

    def symbol(self, name: str) -> tuple[str, int]:
        """Return the memory a variable is in and its address there."""
        if (self.function.name, name) in self.local:
            return self.local[self.function.name, name]
        if name in self.parameters:
            return "parameter", self.parameters[name]
        if name in self.shared:
            return "shared", self.shared[name]
        if name in self._addresses:
            return "global", self._addresses[name]
        raise UnsupportedInstruction(f"unknown name {name} in {self.function.name}")

    def source(self, operand: Operand, kind: Type) -> int:
        """Return the slot that has an operand's value as this type."""
        if operand.register is not None:
            return self.slots.register(operand.register, kind)
        if operand.literal is not None:
            return self.slots.constant(literal(operand.literal, kind))
        if operand.special is not None:
            return self.slots.special(operand.special, kind)
        if operand.symbol == "_":
            return self.slots.constant(np.zeros((), kind.dtype))
        if operand.symbol == "WARP_SZ":
            return self.slots.constant(np.array(32, kind.dtype))
        space, address = self.symbol(operand.symbol)
        if space == "parameter":
            raise UnsupportedInstruction(f"the address of {operand.symbol} as a value")
        return self.slots.constant(np.array(address + operand.offset, kind.dtype))

    def destination(self, operand: Operand, kind: Type) -> int:
        """Return the slot to assign a value of this type to; a wider register extends it."""
        if operand.register is None:
            if operand.symbol != "_" and operand.special is None:
                raise UnsupportedInstruction(f"destination {operand}")
            return self.scratch(kind)
        size = operand.register.type.size
        if size > kind.size and kind.kind == "int":
            kind = TYPES[f"{'s' if kind.signed else 'u'}{8 * size}"]
        return self.slots.register(operand.register, kind)

    def value(self, instruction: Instruction, function: Callable, out: Type, *kinds: Type):
        """Return the closure of `destination = function(sources)`, sources of these types."""
        first, *others = instruction.operands
        target = self.destination(first, out)
        sources = [self.source(o, k) for o, k in zip(others, kinds, strict=False)]
        if len(sources) < len(kinds):
            raise instruction.unsupported("too few operands")
        return assign(target, function, sources)


def assign(target: int, function: Callable, sources: list[int]) -> Callable:
    """Return the closure that computes slots from slots for the active lanes."""
    if len(sources) == 1:
        (a,) = sources

        def run(m):
            slots, at = m.slots, m.at
            slots[target][at] = function(slots[a][at])

    elif len(sources) == 2:
        a, b = sources

        def run(m):
            slots, at = m.slots, m.at
            slots[target][at] = function(slots[a][at], slots[b][at])

    else:

        def run(m):
            slots, at = m.slots, m.at
            slots[target][at] = function(*[slots[s][at] for s in sources])

    return run
