"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a temporary path that becomes `path` when the block ends without an error.

    The temporary file lies in the same folder, so the final rename is atomic, and it keeps the
    suffix, so writers that choose a format by suffix work. If the block raises, an older file
    at `path` is left as it was.

    Parameters
    ----------
    path : str or os.PathLike
        Where the finished file belongs. The folder must exist.

    Yields
    ------
    pathlib.Path
        Where to write.
    """
    final = Path(path)
    # Not tempfile: its files are readable by the owner alone, and the rename would keep that.
    temporary = final.with_name(f".{final.stem}-{uuid.uuid4().hex[:12]}{final.suffix}")
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
