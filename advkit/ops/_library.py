"""Registration of the ops with torch: ``torch.ops.advkit.*``, with fakes and derivatives.

``define`` and ``impl`` rather than ``custom_op``: half the cost of a call.
"""

from __future__ import annotations

import torch

from advkit.ops import class_loss, lbfgs_step, penalty, two_loop

__all__ = ["library"]

library = torch.library.Library("advkit", "DEF")

_SCHEMAS = {
    "penalty": (
        "(Tensor x, Tensor x0, Tensor g_loss, Tensor c, Tensor lower, Tensor upper, str norm)"
        " -> (Tensor value, Tensor gradient, Tensor free)"
    ),
    "class_loss": (
        "(Tensor logits, Tensor labels, str kind, bool targeted, float kappa, float sharpness)"
        " -> (Tensor loss, Tensor dlogits)"
    ),
    "two_loop": "(Tensor g, Tensor S, Tensor Y, Tensor head, Tensor count, Tensor free) -> Tensor",
    "lbfgs_step": (
        "(Tensor loss, Tensor g_loss, Tensor slots, Tensor(a!) trial, Tensor(b!) vectors,"
        " Tensor(c!) history, Tensor(d!) scalars, Tensor(e!) counters, Tensor x0, Tensor lower,"
        " Tensor upper, str norm, float[] tolerances, int stagnation_window, int max_evaluations)"
        " -> ()"
    ),
}

for _name, _op in (
    ("penalty", penalty),
    ("class_loss", class_loss),
    ("two_loop", two_loop),
    ("lbfgs_step", lbfgs_step),
):
    library.define(_name + _SCHEMAS[_name])
    library.impl(_name, _op.compute, "CompositeExplicitAutograd")

for _name, _fake in (
    ("penalty", penalty.fake),
    ("class_loss", class_loss.fake),
    ("two_loop", two_loop.fake),
    ("lbfgs_step", lambda *args: None),
):
    torch.library.register_fake(f"advkit::{_name}", _fake, lib=library)

for _name, _op in (("penalty", penalty), ("class_loss", class_loss)):
    torch.library.register_autograd(
        f"advkit::{_name}", _op.backward, setup_context=_op.setup_context, lib=library
    )
