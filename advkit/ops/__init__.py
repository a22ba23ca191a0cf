"""The fused operations, each usable alone, on every backend, and as ``torch.ops.advkit.*``."""

from advkit.ops import _library as _library
from advkit.ops._dispatch import BACKENDS, available_backends, use_backend
from advkit.ops.class_loss import class_loss, class_loss_out
from advkit.ops.lbfgs_step import Options, State, Status, init, lbfgs_step
from advkit.ops.penalty import penalty, penalty_out
from advkit.ops.two_loop import two_loop, two_loop_out

__all__ = [
    "BACKENDS",
    "Options",
    "State",
    "Status",
    "available_backends",
    "class_loss",
    "class_loss_out",
    "init",
    "lbfgs_step",
    "penalty",
    "penalty_out",
    "two_loop",
    "two_loop_out",
    "use_backend",
]
