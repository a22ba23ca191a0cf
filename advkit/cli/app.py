"""The entry point of the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import advkit
from advkit.cli import attack, bench, info, reproduce
from advkit.cli._common import CommandError, HelpFormatter, Parser

_EXAMPLES = """\
examples:
  advkit info                              what is installed and in use
  advkit attack --out digits               fool a network on 200 digits, with a figure
  advkit attack --help                     every option of the attack
  advkit reproduce table2 --quick --out t2  a table of the paper, in two minutes
  advkit bench --quick --out times         time it and its peers, in a clone
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments. Default: those of the process.

    Returns
    -------
    int
        The exit code: 0 if all went well, 2 for something the user can put right, told in one
        line on stderr, 130 after an interrupt from the keyboard.
    """
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
        return int(arguments.run(arguments))
    except SystemExit as stop:  # argparse: --help, --version and errors in the arguments
        return stop.code if isinstance(stop.code, int) else 0
    except CommandError as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted", file=sys.stderr)
        return 130


def _parser() -> Parser:
    """Return the parser with all commands."""
    parser = Parser(
        prog="advkit",
        description="Adversarial examples by box-constrained L-BFGS, many images at once.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"advkit {advkit.__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for command in (attack, reproduce, bench, info):
        command.add_parser(commands)
    return parser
