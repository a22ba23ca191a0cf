"""Results as JSON files: written whole or not at all, read back with a check of what they are."""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from advkit._files import replacing

__all__ = ["Saved", "made", "strict"]

_VERSION = 1
_Result = TypeVar("_Result", bound="Saved")


@dataclass(frozen=True)
class Saved(ABC):
    """A result with its forms as JSON values and as a file; it says how to make itself of them."""

    @classmethod
    @abstractmethod
    def _made(cls: type[_Result], values: Mapping[str, Any]) -> _Result:
        """Return the result that JSON values describe."""

    @classmethod
    def _format(cls) -> str:
        """Name the kind of result, by its package and class."""
        return f"advkit.{cls.__module__.split('.')[1]}.{cls.__name__}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values; None for nan and infinite ones."""
        return {"format": self._format(), "version": _VERSION, **strict(asdict(self))}

    @classmethod
    def from_dict(cls: type[_Result], values: Mapping[str, Any]) -> _Result:
        """Return the result that `to_dict` described.

        Raises
        ------
        ValueError
            It is something else, or of another version of advkit.
        """
        if values.get("format") != cls._format() or values.get("version") != _VERSION:
            raise ValueError(
                f"not a {cls.__name__} of this advkit: expected format {cls._format()!r} and "
                f"version {_VERSION}, got {values.get('format')!r} and {values.get('version')!r}"
            )
        try:
            return cls._made(values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a whole {cls.__name__}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to a JSON file, which appears whole or not at all."""
        with replacing(path) as temporary:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls: type[_Result], path: str | os.PathLike[str]) -> _Result:
        """Read a result that `save` wrote.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is not a saved result of this kind.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("expected a JSON object")
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} is not a saved {cls.__name__}: {error}") from error


def made(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Return a frozen record whose lists are tuples again."""
    return kind(**{field.name: _tuples(values[field.name]) for field in fields(kind)})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


def strict(value: Any) -> Any:
    """Return values with nan and infinities, which JSON does not have, replaced by None."""
    if isinstance(value, Mapping):
        return {name: strict(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
