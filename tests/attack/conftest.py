"""One thread, unless a test is about threads: two OpenMP runtimes on few cores slow each other."""

from functools import partial

import pytest
import torch

from advkit.attack import lbfgs
from advkit.attack.lbfgs import METHODS


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[(m, n) for m, row in METHODS.items() for n in row[0]], ids="-".join)
def attack(request):
    """Return the attack by each method and in each of its norms."""
    method, norm = request.param
    return partial(lbfgs, method=method, norm=norm)


@pytest.fixture(
    params=[("augmented", "l2"), ("augmented", "linf"), ("penalty", "l2sq")], ids="-".join
)
def some_attack(request):
    """Return one attack for each of the searches, for what does not depend on the norm."""
    method, norm = request.param
    return partial(lbfgs, method=method, norm=norm)


@pytest.fixture(params=METHODS)
def method(request):
    return request.param
