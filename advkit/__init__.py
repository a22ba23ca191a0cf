"""Smallest-perturbation adversarial examples by batched L-BFGS (Szegedy et al. 2013)."""

from importlib.metadata import version as _version

from advkit import analysis, attack, data, models, ops, optim, training, transfer
from advkit._config import show_config

__version__ = _version("advkit")

__all__ = [
    "__version__",
    "analysis",
    "attack",
    "data",
    "models",
    "ops",
    "optim",
    "show_config",
    "training",
    "transfer",
]
