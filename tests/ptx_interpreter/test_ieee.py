"""Rounding once: against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from ptx import ieee


def _random(rng, dtype, count):
    """Return numbers of many sizes, whose sums cancel, tie and underflow."""
    if dtype == np.float64:
        exponents = rng.choice([-1060, -700, -500, -30, 0, 1, 30, 500], count)
    else:
        exponents = rng.choice([-140, -70, -30, 0, 1, 2, 24, 60], count)
    digits = rng.choice([3, 12, 24 if dtype == np.float32 else 53], count)
    mantissa = np.floor(rng.random(count) * 2.0**digits) / 2.0**digits + 1
    return (np.ldexp(mantissa, exponents) * rng.choice([-1, 1], count)).astype(dtype)


def _nearest(exact, dtype):
    """Return the nearest value of a type; ties to even."""
    guess = dtype(float(exact))
    around = [np.nextafter(guess, dtype(-np.inf)), guess, np.nextafter(guess, dtype(np.inf))]
    finite = [v for v in around if np.isfinite(v)]
    raw = f"u{guess.itemsize}"
    return min(finite, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(raw)) & 1))


@pytest.mark.parametrize(
    ("function", "dtype"), [(ieee.fma32, np.float32), (ieee.fma64, np.float64)]
)
def test_fma_rounds_once(function, dtype):
    rng = np.random.default_rng(0)
    a, b = _random(rng, dtype, 2000), _random(rng, dtype, 2000)
    with np.errstate(all="ignore"):
        c = np.where(rng.random(2000) < 0.6, -a * b, _random(rng, dtype, 2000)).astype(dtype)
        # Ties: the sum lies half an ulp from a product, and a little more.
        c = np.where(rng.random(2000) < 0.3, a * b * dtype(2.0**23 + 1), c)
        result = function(a, b, c)
    for x, y, z, r in zip(a, b, c, result, strict=True):
        if np.isfinite(z) and np.isfinite(r):
            exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
            assert r == _nearest(exact, dtype), (x, y, z)


def test_fma_of_what_is_not_finite_and_of_zeros():
    inf = np.inf
    a = np.array([inf, inf, 0, -0.0, 0, 1e300, -1e300, 1e300])
    b = np.array([1, 0, inf, 1, 1, 1e300, 1e300, 1e300])
    c = np.array([-inf, 1, 1, -0.0, -0.0, 0, 0, -inf])
    expected = [np.nan, np.nan, np.nan, -0.0, 0, inf, -inf, -inf]
    with np.errstate(all="ignore"):
        result = ieee.fma64(a, b, c)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(np.signbit(result[3:5]), [True, False])


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_conversion_to_float32_in_every_rounding(mode):
    one = np.float32(1)
    up, down = np.nextafter(one, np.float32(2)), -np.nextafter(one, np.float32(2))
    value = np.array([1 + 2.0**-25, -1 - 2.0**-25, 1e300, -1e300, 1.5])
    largest = np.finfo(np.float32).max
    expected = {
        "rn": [1, -1, np.inf, -np.inf, 1.5],
        "rz": [1, -1, largest, -largest, 1.5],
        "rm": [1, down, largest, -np.inf, 1.5],
        "rp": [up, -1, np.inf, -largest, 1.5],
    }
    with np.errstate(all="ignore"):
        result = ieee.narrow(value, np.float32, mode)
    np.testing.assert_array_equal(result, np.array(expected[mode], np.float32))


def test_bfloat16_as_torch_has_it():
    torch = pytest.importorskip("torch")
    value = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    value[:4] = 0, -np.inf, np.float32(1.00390625), 1e-40
    expected = torch.from_numpy(value).bfloat16()
    raw = ieee.to_bf16(value.astype(np.float64))
    np.testing.assert_array_equal(raw, expected.view(torch.int16).numpy().view(np.uint16))
    np.testing.assert_array_equal(ieee.from_bf16(raw), expected.float().numpy())
