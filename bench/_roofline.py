"""The bytes that an op has to move: every input read once, every output written once."""

from __future__ import annotations

CLASSES = 10


def one_pass(op: str, n: int, m: int, size: int = 4) -> int:
    """Return the bytes of one image of n values of `size` bytes, scalars left out."""
    if op == "class_loss":
        return size * 2 * CLASSES
    if op == "penalty":
        return size * 4 * n + n  # x, x0, both gradients; the free set
    if op == "two_loop":
        return size * n * (2 * m + 2) + n  # pairs, gradient, direction; the free set
    return size * n * (2 * m + 7 + 2)  # pairs, seven vectors, the new pair
