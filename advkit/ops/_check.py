"""The one gate between users' tensors and kernels that take addresses, with all its messages."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = [
    "as_bound",
    "as_rows",
    "check_choice",
    "check_count",
    "check_history_dtype",
    "check_tensor",
    "check_vector",
    "row_stride",
    "stored_dtype",
    "suffix",
]

# Of stored pairs beside values of float32.
STORED = (torch.bfloat16, torch.float16)
SUFFIXES = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
}


def check_tensor(
    name: str,
    value: object,
    *,
    shape: tuple[int | None, ...],
    like: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return `value` if it is a tensor a kernel can take, else raise an error that names it.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : object
        What was given.
    shape : tuple of int or None
        The sizes expected; None for any.
    like : Tensor, optional
        Whose device (and, unless `dtype` is given, dtype) it must have.
    dtype : torch.dtype, optional
        The dtype expected; without it and `like`, any floating dtype.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.shape != shape and not _has_shape(value, shape):
        wanted = "(" + ", ".join("any" if s is None else str(s) for s in shape) + ")"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(value.shape)}")
    expected = dtype or (like.dtype if like is not None else None)
    if expected is None and not value.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype, got {value.dtype}; use {name}.float()")
    if expected is not None and value.dtype != expected:
        raise TypeError(
            f"{name} must have dtype {expected}, got {value.dtype}; use {name}.to({expected})"
        )
    if like is not None and value.device != like.device:
        raise ValueError(
            f"{name} must be on {like.device}, got {value.device}; "
            f"use {name}.to({str(like.device)!r})"
        )
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")
    if not torch.compiler.is_compiling():  # which knows of neither
        if value.is_neg():
            raise ValueError(
                f"{name} must hold its values, not a lazy negation; use {name}.resolve_neg()"
            )
        if not _in_memory(value):
            raise ValueError(f"{name} must have its memory; its storage was resized or given back")
    # A silent copy here would hide a cost that the caller can avoid, and an out argument would not
    # be written.
    if not value.is_contiguous() and value.shape[-1] > 1 and value.stride(-1) != 1:
        raise ValueError(
            f"{name} must be contiguous in its last dimension; use {name}.contiguous()"
        )
    return value


def _has_shape(value: Tensor, shape: tuple[int | None, ...]) -> bool:
    return value.dim() == len(shape) and all(
        s is None or s == v for s, v in zip(shape, value.shape, strict=True)
    )


def _in_memory(value: Tensor) -> bool:
    """Return whether the storage of a tensor still reaches to its last element."""
    reach = value.nbytes
    if reach == 0 or value.is_meta:
        return True
    if not value.is_contiguous():
        steps = zip(value.shape, value.stride(), strict=True)
        reach = (1 + sum((size - 1) * step for size, step in steps)) * value.element_size()
    start = value.storage_offset() * value.element_size()
    return start + reach <= value.untyped_storage().nbytes()


def check_vector(
    name: str, value: object, *, size: int, like: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """Check a tensor (size,) that must be contiguous."""
    return check_tensor(name, value, shape=(size,), like=like, dtype=dtype)


def check_choice(name: str, value: object, choices: Iterable[str], of: str = "") -> None:
    """Raise an error that lists the choices, `of` after them, unless `value` is one of them."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(
            f"{name} must be one of {', '.join(known)}{of and ' ' + of}, got {value!r}"
        )


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Raise unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_history_dtype(history_dtype: object, values: torch.dtype) -> None:
    """Raise unless pairs can be stored in this dtype, None for that of the values."""
    if history_dtype is None:
        return
    if history_dtype not in STORED:
        raise ValueError(
            f"history_dtype must be None, torch.bfloat16 or torch.float16, got {history_dtype!r}"
        )
    if values != torch.float32:
        raise ValueError(
            f"history_dtype={history_dtype} needs values of torch.float32, got {values}"
        )


def stored_dtype(pairs: object, like: Tensor) -> torch.dtype:
    """Return the dtype to expect of stored pairs: its own if that goes with `like`, else like's."""
    if isinstance(pairs, Tensor) and pairs.dtype in STORED and like.dtype == torch.float32:
        return pairs.dtype
    return like.dtype


def as_rows(name: str, value: Tensor, x: Tensor, x_name: str) -> Tensor:
    """Bring a tensor that broadcasts to x (B, *shape) to rows (1 or B, n)."""
    try:
        full = value.detach().expand(x.shape)
    except RuntimeError:
        raise ValueError(
            f"{name} must broadcast to {x_name}'s shape {tuple(x.shape)}, got {tuple(value.shape)}"
        ) from None
    shared = value.dim() < x.dim() or value.shape[0] == 1
    rows = full[:1] if shared else full
    return rows.reshape(len(rows), x.shape[1:].numel()).contiguous()


def as_bound(name: str, value: float | Tensor, like: Tensor) -> Tensor:
    """Return a bound on rows `like` (B, n) as a tensor (1 or B, 1 or n), without expanding it.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : float or Tensor
        A number, or a tensor that broadcasts to (B, n).
    like : Tensor (B, n)
        Gives shape, dtype and device.
    """
    if not isinstance(value, Tensor):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise TypeError(f"{name} must be a number or a tensor, got {value!r}")
        return torch.full((1, 1), float(value), dtype=like.dtype, device=like.device)
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")
    if value.dim() > 2:
        raise ValueError(
            f"{name} must broadcast to {tuple(like.shape)}, got shape {tuple(value.shape)}"
        )
    bound = value.reshape((1,) * (2 - value.dim()) + tuple(value.shape))
    rows, n = bound.shape
    if rows not in (1, like.shape[0]) or n not in (1, like.shape[1]):
        raise ValueError(
            f"{name} must broadcast to {tuple(like.shape)}, got shape {tuple(value.shape)}"
        )
    return check_tensor(name, bound, shape=(rows, n), like=like)


def row_stride(tensor: Tensor) -> int:
    """Stride between rows as the kernels count it: 0 for a single row, which serves all."""
    return tensor.stride(0) if tensor.shape[0] > 1 else 0


def suffix(values: Tensor, pairs: Tensor | None = None) -> str:
    """Name the types of an op as its functions do: of the values, and of the pairs if another."""
    name = SUFFIXES[values.dtype]
    return (
        name if pairs is None or pairs.dtype == values.dtype else f"{name}_{SUFFIXES[pairs.dtype]}"
    )
