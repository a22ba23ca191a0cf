"""The paper's tables and figures, one function each, as ``advkit reproduce`` runs them."""

from advkit.experiments.registry import EXPERIMENTS as EXPERIMENTS
from advkit.experiments.registry import Experiment as Experiment
from advkit.experiments.setting import Outcome as Outcome
from advkit.experiments.setting import Setting as Setting

__all__ = ["EXPERIMENTS", "Experiment", "Outcome", "Setting"]
