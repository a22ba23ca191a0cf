"""PTX types as NumPy types, and literals."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Type:
    """A PTX type: its name, its kind, the NumPy type of a part, and how many parts are packed."""

    name: str
    kind: str  # "int", "float", "bf16" (kept as bits) or "pred"
    dtype: np.dtype
    packed: int = 1

    @property
    def size(self) -> int:
        """Bytes of a value."""
        return self.dtype.itemsize * self.packed

    @property
    def signed(self) -> bool:
        return self.dtype.kind == "i"


TYPES = {"pred": Type("pred", "pred", np.dtype(bool))}
for _bits in (8, 16, 32, 64):
    TYPES[f"u{_bits}"] = Type(f"u{_bits}", "int", np.dtype(f"u{_bits // 8}"))
    TYPES[f"b{_bits}"] = Type(f"b{_bits}", "int", np.dtype(f"u{_bits // 8}"))
    TYPES[f"s{_bits}"] = Type(f"s{_bits}", "int", np.dtype(f"i{_bits // 8}"))
for _bits in (16, 32, 64):
    TYPES[f"f{_bits}"] = Type(f"f{_bits}", "float", np.dtype(f"f{_bits // 8}"))
TYPES["bf16"] = Type("bf16", "bf16", np.dtype("u2"))
TYPES["f16x2"] = Type("f16x2", "float", np.dtype("f2"), 2)
TYPES["bf16x2"] = Type("bf16x2", "bf16", np.dtype("u2"), 2)
TYPES["f32x2"] = Type("f32x2", "float", np.dtype("f4"), 2)


def bits(size: int) -> Type:
    """Return the type of untyped bits of this many bytes."""
    return TYPES[f"b{8 * size}"]


_HEX_FLOAT = re.compile(r"(-?)0([fFdD])([0-9a-fA-F]+)$")


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    digits = digits.rstrip("uU")
    octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
    return sign * int(digits, 8 if octal else 0)


def literal(text: str, kind: Type) -> np.ndarray:
    """Return a literal as an array of shape (), or (2,) where the type packs two values."""
    match = _HEX_FLOAT.match(text)
    if match and len(match[3]) == (8 if match[2] in "fF" else 16):
        exact = np.array(int(match[3], 16), f"u{len(match[3]) // 2}")
        number = exact.view(f"f{exact.itemsize}")
        if match[1]:
            number = -number
        if kind.kind == "float" and kind.packed == 1:
            return number.astype(kind.dtype)
        value = int(number.view(exact.dtype))
    elif kind.kind == "float" and kind.packed == 1:
        return np.array(float(text), kind.dtype)
    elif kind.kind == "pred":
        return np.array(bool(_integer(text)))
    else:
        value = _integer(text)
    raw = np.array([value % (1 << 8 * kind.size)], f"u{kind.size}").view(kind.dtype)
    return raw if kind.packed > 1 else raw[0]
