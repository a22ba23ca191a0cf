"""How close is close enough: one table, with the reason beside each number."""

import numpy as np
import torch

EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)}

# Relative error in the 2-norm of a row where the problem itself amplifies no rounding. Some ten
# vectors of rounded products and sums: 20 to 40 eps in float32, where adding up runs of values in
# float32 costs most, and 450 eps in float64, so that an order of additions may still be chosen
# freely; a float32 intermediate or a lost digit in a constant is 1e4 times more.
WELL_CONDITIONED = {torch.float32: 5e-6, torch.float64: 1e-13}

# Where the problem does amplify rounding, plain torch in the same precision says by how much. Twice
# that leaves room for another order of the additions, not for another algorithm.
TIMES_REFERENCE = 2.0

# An element that is a handful of correctly rounded operations, in units of eps of its largest term.
FEW_ROUNDINGS = 8

# One round of lbfgs_step against the reference from the same state, relative to the size of each
# quantity. Most are a sum and a few products: 100 to 1000 eps.
ONE_STEP = {torch.float32: 1e-4, torch.float64: 1e-11}

# The new direction and what follows from it: the pairs of a run may be so poorly conditioned that
# their two-loop recursion loses 1e5 eps.
DIRECTION = {torch.float32: 5e-2, torch.float64: 1e-11}

# The step length alone: the cubic's minimiser is a quotient of differences of nearly equal slopes.
CUBIC = {torch.float32: 5e-2, torch.float64: 1e-9}


def exact(tensor):
    """Return a tensor as a longdouble array: 64 bits of mantissa on x86, 113 on Arm Linux."""
    return tensor.detach().double().numpy().astype(np.longdouble)


def relative_error(actual, expected):
    """Return |actual - expected|_2 / |expected|_2 of each row; 0 where both are zero.

    Parameters
    ----------
    actual : Tensor (B, n)
        What an implementation gave.
    expected : array (B, n) of longdouble
        What it should have given.
    """
    wrong = np.sqrt(((exact(actual) - expected) ** 2).sum(1))
    size = np.sqrt((expected**2).sum(1))
    ratio = wrong / np.where(size == 0, 1, size)
    return ratio.astype(np.float64)
