"""Results as JSON files: written whole or not at all, read back with a check of what they are."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from advkit._files import replacing

__all__ = ["Saved", "made"]

_VERSION = 1
_Result = TypeVar("_Result", bound="Saved")


def plain(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of JSON with what they are; nan and infinities become None."""
    return {"format": f"advkit.analysis.{kind}", "version": _VERSION, **_strict(values)}


def check(kind: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError unless the values are those of a result of this kind and version."""
    wanted = f"advkit.analysis.{kind}"
    if values.get("format") != wanted or values.get("version") != _VERSION:
        raise ValueError(
            f"not a {kind} of this advkit: expected format {wanted!r} and version {_VERSION}, got "
            f"{values.get('format')!r} and {values.get('version')!r}"
        )


@dataclass(frozen=True)
class Saved:
    """A result with its forms as JSON values and as a file; it says how to make itself of them."""

    @classmethod
    def _made(cls: type[_Result], values: Mapping[str, Any]) -> _Result:
        """Return the result that JSON values describe."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values; None for nan and infinite ones."""
        return plain(type(self).__name__, asdict(self))

    @classmethod
    def from_dict(cls: type[_Result], values: Mapping[str, Any]) -> _Result:
        """Return the result that `to_dict` described.

        Raises
        ------
        ValueError
            It is something else, or of another version of advkit.
        """
        check(cls.__name__, values)
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


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _strict(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
