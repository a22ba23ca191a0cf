"""Attacks: each a function of a network, images and labels that returns an `AttackResult`."""

from advkit.attack.lbfgs import lbfgs
from advkit.attack.result import AttackResult, AttackStatus
from advkit.attack.targets import correctly_classified, random_targets

__all__ = ["AttackResult", "AttackStatus", "correctly_classified", "lbfgs", "random_targets"]
