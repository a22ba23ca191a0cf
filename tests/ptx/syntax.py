"""Reads PTX text: functions, variables, and instructions whose registers are resolved."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from .errors import UnsupportedInstruction
from .types import TYPES, Type, literal


@dataclass(eq=False)
class Register:
    """A declared register; each declaration is one object."""

    name: str
    type: Type


@dataclass(frozen=True)
class Operand:
    """An operand: a register, a special register, a literal, a symbol, or several in braces.

    `address` marks brackets. `offset` belongs to an address or a symbol. `second` is what follows a
    bar, as in `%r1|%p1`.
    """

    register: Register | None = None
    special: str | None = None
    literal: str | None = None
    symbol: str | None = None
    parts: tuple[Operand, ...] | None = None
    offset: int = 0
    negated: bool = False
    address: bool = False
    second: Operand | None = None


@dataclass
class Instruction:
    """One instruction: `@guard opcode.modifiers operands`."""

    line: int
    text: str
    opcode: str
    modifiers: tuple[str, ...]
    operands: list[Operand]
    guard: Operand | None
    scope: tuple[int, ...]

    @property
    def types(self) -> list[Type]:
        """Types among the modifiers, in their order."""
        return [TYPES[m] for m in self.modifiers if m in TYPES]

    def has(self, *names: str) -> bool:
        return any(name in self.modifiers for name in names)

    def pick(self, names: str) -> str | None:
        """Return the first of these modifiers (a blank between two) that the instruction has."""
        return next((m for m in self.modifiers if m in names.split()), None)

    def unsupported(self, what: str) -> UnsupportedInstruction:
        return UnsupportedInstruction(f"line {self.line}: {what}: {self.text}")


@dataclass
class Variable:
    """A variable or parameter: where it is, bytes, and its initial bytes if it has any."""

    name: str
    space: str
    size: int
    align: int
    initial: bytes = b""
    external: bool = False
    type: Type = TYPES["b8"]


@dataclass
class Function:
    """A function or kernel (`entry`). Labels and branch tables are keyed by scope and name."""

    name: str
    entry: bool
    returns: list[Variable] = field(default_factory=list)
    parameters: list[Variable] = field(default_factory=list)
    variables: dict[str, Variable] = field(default_factory=dict)
    body: list[Instruction] = field(default_factory=list)
    labels: dict[tuple[tuple[int, ...], str], int] = field(default_factory=dict)
    tables: dict[tuple[tuple[int, ...], str], list[str]] = field(default_factory=dict)
    bounds: dict[str, list[int]] = field(default_factory=dict)
    defined: bool = False

    def find(self, where: dict, scope: tuple[int, ...], name: str):
        """Look a label or table up, from the inner scope outwards."""
        for depth in range(len(scope), -1, -1):
            if (scope[:depth], name) in where:
                return where[scope[:depth], name]
        return None


_TOKEN = re.compile(r'"[^"]*"|[.\w$%]+(?:::[\w.]+)*|\S')
_NOISE = re.compile(
    r"//[^\n]*|/\*.*?\*/|\.section[^{]*\{[^}]*\}|^[ \t]*\.(?:loc|file)\b[^\n]*", re.S | re.M
)
_SPACES = {".reg", ".local", ".shared", ".param", ".global", ".const"}


class Parser:
    """Reads a module: `functions` and `variables` by name."""

    def __init__(self, text: str) -> None:
        text = _NOISE.sub(lambda noise: "\n" * noise[0].count("\n"), text)
        starts = [match.start() for match in re.finditer("\n", text)]
        found = list(_TOKEN.finditer(text))
        self._tokens = [match[0] for match in found]
        self._lines = [bisect_right(starts, match.start()) + 1 for match in found]
        self._at = 0
        self.functions: dict[str, Function] = {}
        self.variables: dict[str, Variable] = {}
        while self._at < len(self._tokens):
            self._item()

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, token: str) -> bool:
        if self._peek() == token:
            self._at += 1
            return True
        return False

    def _fail(self, what: str) -> UnsupportedInstruction:
        line = self._lines[min(self._at, len(self._lines) - 1)]
        return UnsupportedInstruction(f"line {line}: {what}: {self._peek()}")

    # Module scope

    def _item(self) -> None:
        token = self._next()
        if token in (".version", ".target", ".address_size"):
            self._next()
            while self._accept(","):
                self._next()
        elif token in (".visible", ".extern", ".weak", ".common", ";"):
            pass
        elif token in (".entry", ".func"):
            self._function(token == ".entry")
        elif token in _SPACES:
            external = self._tokens[self._at - 2] == ".extern"
            variable = self._variable(token[1:])
            variable.external = external
            self.variables[variable.name] = variable
            self._accept(";")
        elif token == ".pragma":
            while not self._accept(";"):
                self._next()
        else:
            self._at -= 1
            raise self._fail("unknown directive")

    def _variable(self, space: str) -> Variable:
        """Read a declaration after its space: `.align 8 .b8 name[4][2] = {...}`."""
        align, kind, count = 0, TYPES["b8"], 1
        while self._peek().startswith("."):
            token = self._next()[1:]
            if token == "align":
                align = int(self._next())
            elif token == "ptr":  # what a pointer points to: its space and alignment
                while self._peek().startswith("."):
                    if self._next() == ".align":
                        self._next()
            elif token in TYPES:
                kind = TYPES[token]
            elif token in ("v2", "v4"):
                count *= int(token[1])
        name, open_ended = self._next(), False
        while self._accept("["):
            if self._accept("]"):
                open_ended = True
                continue
            count *= int(self._next(), 0)
            self._next()
        initial = b""
        if self._accept("="):
            initial = self._initial(kind)
        size = 0 if open_ended else kind.size * count
        return Variable(name, space, size, align or kind.size, initial, type=kind)

    def _initial(self, kind: Type) -> bytes:
        values, depth = b"", 0
        while True:
            token = self._next()
            depth += {"{": 1, "}": -1}.get(token, 0)
            if token not in "{},":
                token += self._next() if token == "-" else ""
                if not re.match(r"-?\d", token):
                    raise self._fail("initial value that is a symbol")
                values += literal(token, kind).tobytes()
            if depth == 0:
                return values

    def _parameters(self) -> list[Variable]:
        found = []
        while not self._accept(")"):
            if self._next() == ".param":
                found.append(self._variable("param"))
        return found

    def _function(self, entry: bool) -> None:
        returns = self._parameters() if self._accept("(") else []
        function = Function(self._next(), entry, returns)
        if self._accept("("):
            function.parameters = self._parameters()
        while self._peek() not in ("{", ";"):
            name = self._next()
            sizes = function.bounds.setdefault(name, [])
            while self._peek().isdigit() or self._peek() == ",":
                token = self._next()
                if token != ",":
                    sizes.append(int(token))
        if self._next() == "{":
            function.defined = True
            _Body(self, function).read()
        if function.defined or function.name not in self.functions:
            self.functions[function.name] = function


class _Body:
    """Reads the body of a function, whose scopes are numbered."""

    def __init__(self, parser: Parser, function: Function) -> None:
        self._parser, self._function = parser, function
        self._scope: tuple[int, ...] = ()
        self._scopes = 0
        self._names: list[dict[str, str | Register]] = [{}]
        self._ranges: list[dict[str, tuple[Type, int]]] = [{}]

    def read(self) -> None:
        p = self._parser
        while True:
            token = p._peek()
            if token == "{":
                p._next()
                self._scopes += 1
                self._scope += (self._scopes,)
                self._names.append({})
                self._ranges.append({})
            elif token == "}":
                p._next()
                self._names.pop()
                self._ranges.pop()
                if not self._scope:
                    return
                self._scope = self._scope[:-1]
            elif token == ";":
                p._next()
            elif p._tokens[p._at + 1] == ":":
                self._label()
            elif token.startswith("."):
                self._directive()
            else:
                self._instruction()

    def _label(self) -> None:
        p, function = self._parser, self._function
        name = p._next()
        p._next()
        if p._accept(".branchtargets"):
            targets = []
            while not p._accept(";"):
                targets += [p._next()]
            function.tables[self._scope, name] = [t for t in targets if t != ","]
        else:
            function.labels[self._scope, name] = len(function.body)

    def _directive(self) -> None:
        p = self._parser
        token = p._next()
        if token == ".reg":
            self._registers()
        elif token in _SPACES:
            variable = p._variable(token[1:])
            # A name of an inner scope may come twice; the number of the scope keeps them apart.
            name = variable.name
            variable.name = f"{name}@{self._scope[-1]}" if self._scope else name
            self._names[-1][name] = variable.name
            self._function.variables[variable.name] = variable
        elif token != ".pragma":
            p._at -= 1
            raise p._fail("unknown directive")
        while not p._accept(";"):
            p._next()

    def _registers(self) -> None:
        p = self._parser
        kind = TYPES.get(p._next()[1:])
        if kind is None:
            p._at -= 1
            raise p._fail("registers of this type")
        while p._peek() != ";":
            name = p._next()
            if p._accept("<"):
                self._ranges[-1][name] = kind, int(p._next())
                p._next()
            else:
                self._names[-1][name] = Register(name, kind)
            p._accept(",")

    def _resolve(self, name: str) -> str | Register | None:
        """Return the register, or the variable's full name, that a name means here."""
        number = re.match(r"(.*?)(0|[1-9]\d*)$", name)
        for names, ranges in zip(reversed(self._names), reversed(self._ranges), strict=True):
            if name in names:
                return names[name]
            # %r1<20> makes %r10 ..., so that every split into prefix and number may be meant.
            for cut in range(number.start(2), len(name)) if number else ():
                kind, count = ranges.get(name[:cut], (None, 0))
                if kind is not None and int(name[cut:]) < count:
                    return names.setdefault(name, Register(name, kind))
        return None

    def _instruction(self) -> None:
        p = self._parser
        start, guard = p._at, None
        line = p._lines[start]
        if p._accept("@"):
            guard = self._operand()
        opcode, *modifiers = p._next().split(".")
        operands = []
        while not p._accept(";"):
            operands.append(self._operand())
            p._accept(",")
        text = " ".join(p._tokens[start : p._at - 1])
        self._function.body.append(
            Instruction(line, text, opcode, tuple(modifiers), operands, guard, self._scope)
        )

    def _operand(self) -> Operand:
        p = self._parser
        token = p._next()
        if token in ("{", "("):
            close, parts = {"{": "}", "(": ")"}[token], []
            while not p._accept(close):
                parts.append(self._operand())
                p._accept(",")
            return Operand(parts=tuple(parts))
        if token == "[":
            inside = self._operand()
            # [address, ...] with more inside belongs to tensor instructions.
            if not p._accept("]"):
                raise p._fail("address")
            return Operand(**{**inside.__dict__, "address": True})
        negated = token == "!"
        if negated:
            token = p._next()
        if token == "-":
            return Operand(literal="-" + p._next())
        if token[0].isdigit():
            return Operand(literal=token)
        meaning = self._resolve(token)
        known: dict = {"negated": negated, "offset": self._offset()}
        if isinstance(meaning, Register):
            known["register"] = meaning
        elif meaning is None and token.startswith("%"):
            known["special"] = token
        else:
            known["symbol"] = meaning or token
        if p._accept("|"):
            known["second"] = self._operand()
        return Operand(**known)

    def _offset(self) -> int:
        p, total = self._parser, 0
        while p._peek() in ("+", "-"):
            sign = 1 if p._next() == "+" else -1
            while p._peek() in ("+", "-"):
                sign *= 1 if p._next() == "+" else -1
            total += sign * int(p._next(), 0)
        return total
