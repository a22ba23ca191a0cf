"""Let Triton's kernels cut every row into tiles, and small ones: the form that long rows take."""

from contextlib import contextmanager
from unittest import mock


@contextmanager
def every_row_is_long(tile=1024):
    """Cut rows of any length into tiles of so many bytes."""
    from advkit.ops._triton import launch

    with mock.patch.multiple(launch, ROW=0, TILE=tile):
        yield
