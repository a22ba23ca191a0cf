"""One call of each op as an attack makes it: rings full, the values in a box."""

import torch
from rounds import full_round

OPS = ("penalty", "class_loss", "two_loop", "lbfgs_step")
ROWS = 2


def prepared(op, kernels, n, m, classes=10, dtype=torch.float32):
    """Return a function that calls an op of a backend's kernels on two images of n values."""
    if op == "lbfgs_step":
        state, loss, gradient = full_round(n, m, "l2", ROWS, dtype)
        return lambda: kernels.lbfgs_step(state, loss, gradient, torch.arange(ROWS))
    if op == "class_loss":
        logits, labels = torch.randn(ROWS, classes, dtype=dtype), torch.arange(ROWS)
        out = logits.new_empty(ROWS), torch.empty_like(logits)
        return lambda: kernels.class_loss_out(logits, labels, "margin", False, 0.0, 1.0, *out)
    x, x0, g = torch.rand(3, ROWS, n, dtype=dtype)
    if op == "penalty":
        bounds = x.new_zeros(1, 1), x.new_ones(1, 1)
        out = x.new_empty(ROWS), torch.empty_like(x), torch.empty(x.shape, dtype=torch.bool)
        return lambda: kernels.penalty_out(x, x0, g, x.new_ones(ROWS), *bounds, "l2", *out)
    S = torch.rand(ROWS, m, n, dtype=dtype)
    ring = torch.zeros(ROWS, dtype=torch.int64), torch.full((ROWS,), m)
    return lambda: kernels.two_loop_out(g, S, S + 1, *ring, g < 0.8, torch.empty_like(g))
