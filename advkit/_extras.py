"""Optional dependencies: asked for where they are used, with a helpful error."""

from __future__ import annotations

from importlib import import_module


def require(module: str, *, extra: str, purpose: str) -> None:
    """Raise unless `module` can be imported.

    Parameters
    ----------
    module : str
        The module to try.
    extra : str
        The extra of this package that brings it.
    purpose : str
        What needs it, at the start of the error's sentence.

    Raises
    ------
    ImportError
        If `module` cannot be imported; says which command installs it.
    """
    try:
        import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{purpose} needs {module}; install it with: pip install "advkit[{extra}]"',
            name=module,
        ) from error
