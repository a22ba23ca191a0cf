"""Training on adversarial examples, and what it is worth."""

from advkit.training.pools import Pools as Pools
from advkit.training.robustness import Robustness as Robustness
from advkit.training.robustness import robustness as robustness
from advkit.training.train import train_with_pools as train_with_pools

__all__ = ["Pools", "Robustness", "robustness", "train_with_pools"]
