"""What goes wrong in a kernel, or in reading one."""

from __future__ import annotations


class PtxError(Exception):
    """Base of the errors below."""


class UnsupportedInstruction(PtxError):
    """The text has an instruction, modifier or directive that the interpreter does not know."""


class Fault(PtxError):
    """A kernel did what it must not: the message names the line, and the lane where there is one.

    Parameters
    ----------
    message
        What went wrong.
    lane
        Number of the lane in its batch, or None where the fault is not one thread's.
    """

    def __init__(self, message: str, lane: int | None = None) -> None:
        super().__init__(message)
        self.lane = lane
