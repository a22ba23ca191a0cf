"""The command line ``advkit``. One file for each command; `main` chooses among them."""

from .app import main as main
