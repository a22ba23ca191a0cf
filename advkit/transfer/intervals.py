"""Confidence intervals of proportions, in closed form."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["difference_interval", "wilson_interval"]


def wilson_interval(
    successes: int, trials: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of a binomial proportion by Wilson's score.

    The p for which ``|k / n - p| <= z sqrt(p (1 - p) / n)``, without continuity correction. It
    stays inside [0, 1] and keeps its coverage near 0 and 1, where most entries of a transfer table
    are (Brown, Cai & DasGupta 2001, "Interval estimation for a binomial proportion", section 4).

    Parameters
    ----------
    successes, trials : int
        k of n; n at least 1.
    confidence : float
        Of the interval, in (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper end, in [0, 1].

    Raises
    ------
    ValueError
        An argument is out of range.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"successes and trials: expected 0 <= successes <= trials and trials >= 1, "
            f"got {successes} and {trials}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number in (0, 1), got {confidence}")
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    p = successes / trials
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (p * (1 - p) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    # At 0 and n the ends are exactly 0 and 1; only rounding says otherwise.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == trials else min(1.0, centre + half)


def difference_interval(
    first: int, second: int, trials: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the difference of two proportions, each out of `trials`.

    Newcombe's square-and-add of two Wilson intervals (Newcombe 1998, "Interval estimation for the
    difference between independent proportions", method 10). For errors on the same images it is
    wider than needed, since those go together.

    Parameters
    ----------
    first, second : int
        How many of `trials` each.
    trials : int
        n, at least 1.
    confidence : float
        Of the interval, in (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper end of ``first / trials - second / trials``, in [-1, 1].

    Raises
    ------
    ValueError
        An argument is out of range.
    """
    low_1, high_1 = wilson_interval(first, trials, confidence=confidence)
    low_2, high_2 = wilson_interval(second, trials, confidence=confidence)
    p_1, p_2 = first / trials, second / trials
    difference = p_1 - p_2
    return (
        difference - math.hypot(p_1 - low_1, high_2 - p_2),
        difference + math.hypot(high_1 - p_1, p_2 - low_2),
    )
