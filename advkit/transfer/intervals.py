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
    both: int, first: int, second: int, trials: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the difference of two proportions of the same trials.

    Wilson's intervals of both, put together with regard to how far the two go together (Newcombe
    1998, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", method 10).

    Parameters
    ----------
    both : int
        Trials in which both happened.
    first, second : int
        Trials in which the one and the other happened, `both` included.
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
    neither = trials - first - second + both
    if not 0 <= both <= min(first, second) or neither < 0:
        raise ValueError(
            f"both: expected at least first + second - trials and at most first and second, got "
            f"{both} of {first} and {second} in {trials} trials"
        )
    low_1, high_1 = wilson_interval(first, trials, confidence=confidence)
    low_2, high_2 = wilson_interval(second, trials, confidence=confidence)
    p_1, p_2 = first / trials, second / trials
    product = first * (trials - first) * second * (trials - second)
    # Correlation of the two, brought nearer to 0 by a continuity correction where it is positive.
    excess: float = both * neither - (first - both) * (second - both)
    excess = max(excess - trials / 2, 0.0) if excess > 0 else excess
    phi = excess / math.sqrt(product) if product else 0.0

    def together(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    difference = p_1 - p_2
    return (
        difference - together(p_1 - low_1, high_2 - p_2),
        difference + together(high_1 - p_1, p_2 - low_2),
    )
