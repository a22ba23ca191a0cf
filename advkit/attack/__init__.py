"""Attacks: each a function of a network, images and labels that returns an `AttackResult`."""

from advkit.attack.lbfgs import lbfgs
from advkit.attack.result import AttackResult, AttackStatus, Trajectory
from advkit.attack.targets import correctly_classified, random_targets

__all__ = [
    "AttackResult",
    "AttackStatus",
    "Trajectory",
    "correctly_classified",
    "lbfgs",
    "random_targets",
]
