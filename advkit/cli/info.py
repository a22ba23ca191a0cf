"""``advkit info``: what is installed and in use."""

from __future__ import annotations

import argparse
import json
from typing import Any

import advkit
from advkit.cli._common import HelpFormatter, user_errors

_EXAMPLES = """\
examples:
  advkit info                              for reading
  advkit info --json | jq .backends        for programs
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "info",
        help="show versions, backends, instruction set and threads",
        description="Show versions, backends, instruction set and threads.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print `advkit.show_config`."""
    with user_errors():  # ADVKIT_ISA may ask for what is not there
        config = advkit.show_config()
    if arguments.json:
        print(json.dumps(config, indent=2))
    else:
        print("\n".join(_lines(config)))
    return 0


def _lines(config: dict[str, Any], indent: str = "") -> list[str]:
    """Return the configuration as aligned lines, nested dicts indented below their name."""
    width = max((len(name) for name in config), default=0)
    lines = []
    for name, value in config.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        else:
            listed = isinstance(value, (list, tuple))
            text = (", ".join(map(str, value)) or "none") if listed else str(value)
            lines.append(f"{indent}{name:<{width}}  {text}")
    return lines
