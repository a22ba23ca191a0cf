"""What the commands share: one-line errors, argument types, threads and devices."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch


class CommandError(Exception):
    """Something the user can put right; shown as one line, exit code 2."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print `message` and leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults where there is one, and keeps the line breaks of the examples."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        """Return the help of one option; a switch that is off has no default worth telling."""
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what the library raises for bad input into a `CommandError`.

    Used around calls whose input comes straight from the command line. Anywhere else these
    exceptions are defects and keep their traceback.
    """
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        raise CommandError(str(error)) from error


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch, and with it our kernels, use `count` CPU threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_named(name: str) -> torch.device:
    """Return the device, after trying it.

    Raises
    ------
    CommandError
        If there is no such device.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CommandError(f"--device {name} cannot be used: {reason}") from error


def prepare_folder(folder: Path, names: Sequence[str], *, force: bool) -> None:
    """Make the folder, before any work is done, or say why it cannot be used.

    Raises
    ------
    CommandError
        If it holds one of the files `names` and `force` is False, or cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--out {folder} is a file; give a folder")
    present = [name for name in names if (folder / name).exists()]
    if present and not force:
        raise CommandError(
            f"--out {folder} already holds {', '.join(present)}; "
            "give another folder, or --force to replace them"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"--out {folder} cannot be written to")


def integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Return an argument type: an integer in a range."""

    def parse(text: str) -> int:
        limits = f"from {minimum}" + ("" if maximum is None else f" to {maximum}")
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected an integer, got {text!r}") from None
        if value < minimum or (maximum is not None and value > maximum):
            raise argparse.ArgumentTypeError(f"expected an integer {limits}, got {value}")
        return value

    return parse


def non_negative(text: str) -> float:
    """Argument type: a finite number that is not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value
