"""Sums of rows: exact enough, and the same bits in any batch, on any threads, from any memory."""

import numpy as np
import pytest
import torch
from tolerances import WELL_CONDITIONED, exact

from advkit.attack.row_sums import row_norm, row_sum

pytestmark = pytest.mark.usefixtures("fast_implementation")

SIZES = [1, 63, 784, 1024, 1025, 3072, 70_000]
FUNCTIONS = {
    "sum": row_sum,
    "l1": lambda values: row_norm(values, 1),
    "l2": row_norm,
    "linf": lambda values: row_norm(values, torch.inf),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
every_size = pytest.mark.parametrize("n", SIZES)


@every_size
@every_function
def test_value(name, n, dtype):
    values = torch.randn(5, n, dtype=dtype)
    every = exact(values)
    size = np.abs(every).sum(1)  # what the rounding of a sum is relative to
    wanted = {
        "sum": every.sum(1),
        "l1": size,
        "l2": np.sqrt((every**2).sum(1)),
        "linf": np.abs(every).max(1),
    }[name]
    got = FUNCTIONS[name](values)
    assert got.dtype == (dtype if name == "sum" else torch.float64)
    relative_to = size if name == "sum" else wanted
    bound = WELL_CONDITIONED[dtype if name == "sum" else torch.float64]
    assert (np.abs(exact(got) - wanted) <= bound * relative_to).all()


@every_size
@every_function
def test_same_bits(name, n, dtype, threads):
    run, values = FUNCTIONS[name], torch.randn(34, n, dtype=dtype)
    wanted = run(values)
    frame = torch.full((34, n + 5), torch.nan, dtype=dtype)
    for count in (1, 2):
        with threads(count):
            assert torch.equal(run(values), wanted)
            assert torch.equal(torch.cat([run(row[None]) for row in values]), wanted)
            assert torch.equal(torch.cat([run(some) for some in values.split(7)]), wanted)
            assert torch.equal(run(frame[:, 2 : n + 2].copy_(values)), wanted)


@every_function
def test_nan_and_no_rows(name):
    values = torch.ones(3, 2000)
    values[1, 1500] = torch.nan
    assert FUNCTIONS[name](values).isnan().tolist() == [False, True, False]
    assert FUNCTIONS[name](values[:0]).shape == (0,)


@pytest.mark.parametrize("order", [1, 2, torch.inf])
def test_infinite_values_and_columns(order):
    values = torch.tensor([[1.0, -torch.inf, 2.0], [3.0, -4.0, 0.0]])
    wanted = {1: 7.0, 2: 5.0, torch.inf: 4.0}[order]
    assert row_norm(values, order).tolist() == [torch.inf, wanted]
    assert row_norm(values.t().contiguous().t(), order).tolist() == [torch.inf, wanted]
