"""Batched, box-constrained minimisation, free of networks and attacks."""

from advkit.ops.lbfgs_step import Status
from advkit.optim.minimize import minimize
from advkit.optim.result import MinimizeResult, Round

__all__ = ["MinimizeResult", "Round", "Status", "minimize"]
