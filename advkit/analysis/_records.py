"""Results as JSON files: written whole or not at all, read back with a check of what they are."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from advkit._files import replacing

__all__ = ["check", "plain", "read", "write"]

_VERSION = 1
_Result = TypeVar("_Result")


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


def write(values: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write values to a JSON file."""
    with replacing(path) as temporary:
        text = json.dumps(values, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read(
    path: str | os.PathLike[str], make: Callable[[Mapping[str, Any]], _Result], kind: str
) -> _Result:
    """Return what `make` builds from a JSON file; ValueError names the file and the reason."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("expected a JSON object")
        return make(values)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not a saved {kind}: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)} is not a whole {kind}: {error}") from error


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _strict(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
