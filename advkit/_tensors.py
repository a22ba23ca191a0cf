"""Hashes of tensors, and files of them with a checksum: safetensors itself has none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from advkit._files import replacing


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    kind: str,
) -> None:
    """Write tensors to a safetensors file, which is replaced only when all is written.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Its folder must exist.
    tensors : dict of str to Tensor
        On the CPU.
    metadata : dict of str to str
        Words beside them.
    kind : str
        What sort of file this is, which `read_tensors` asks for.
    """
    from safetensors.torch import save

    held = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    words = {**metadata, "format": kind}
    words["sha256"] = _checksum(held, words)
    content = save(held, words)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(
    path: str | os.PathLike[str], *, kind: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata that `write_tensors` wrote.

    Raises
    ------
    ValueError
        The file is not there, is damaged, or is of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="pt", device="cpu") as file:
            words = dict(file.metadata() or {})
            # Copies: the file is mapped into memory, and may be replaced while they live.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"not readable as safetensors: {error}") from error
    if words.get("format") != kind:
        raise ValueError(f"expected the format {kind!r}, got {words.get('format')!r}")
    if words.pop("sha256", None) != _checksum(tensors, words):
        raise ValueError("its checksum is wrong")
    return tensors, words


def _checksum(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> str:
    """Return the SHA-256 of all else in the file."""
    digest = hashlib.sha256()
    for key in sorted(words):
        digest.update(f"{key}={words[key]}\n".encode())
    for key in sorted(tensors):
        digest.update(f"{key}: {tensors[key].dtype} {tuple(tensors[key].shape)}\n".encode())
        digest.update(_bytes(tensors[key]))
    return digest.hexdigest()


def digest_of(tensors: Iterable[Tensor], words: str = "") -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of words and tensors."""
    digest = hashlib.sha256(words.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> memoryview:
    """Return what a tensor holds, of any dtype."""
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data
