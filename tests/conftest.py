"""What all tests share: implementations to run, a seed, and memory that shows when nobody wrote it.

Set ADVKIT_REQUIRE_NATIVE=1 where the compiled module has to be there: its absence then fails a test
instead of leaving the native cases out.
"""

import os
import sys
from contextlib import contextmanager

# Before Triton is imported: its kernels then run without a GPU. Set it to 0 where there is one.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch
from split_rows import every_row_is_long

from advkit.ops import _dispatch, use_backend

_native = _dispatch.native() if "cpu" in _dispatch.available_backends() else None
_ISAS = _native.available_isas() if _native else []


@contextmanager
def _running(name):
    if name in ("reference", "triton"):
        with use_backend(name):
            yield
        return
    if name == "triton-split":
        with every_row_is_long(), use_backend("triton"):
            yield
        return
    before = _native.isa()
    _native.select_isa(name)
    try:
        with use_backend("cpu"):
            yield
    finally:
        _native.select_isa(before)


_TRITON = ["triton", "triton-split"] if "triton" in _dispatch.available_backends() else []


@pytest.fixture(params=["reference", *_TRITON, *_ISAS])
def implementation(request):
    """Run the test on the reference, on Triton's interpreter and on each instruction set here.

    Triton's kernels have two forms, of which "triton-split" is that of long rows.
    """
    with _running(request.param):
        yield request.param


@pytest.fixture(params=["reference", *_ISAS])
def fast_implementation(request):
    """Leave out Triton's interpreter, which takes 0.1 s for a row of lbfgs_step."""
    with _running(request.param):
        yield request.param


@pytest.fixture(params=_ISAS)
def isa(request):
    """Run the test on the kernels of each instruction set of this machine."""
    with _running(request.param):
        yield request.param


@pytest.fixture(params=["triton", "triton-split"])
def triton(request):
    """Run the test on Triton's interpreter."""
    if not _TRITON:
        pytest.skip("Triton is not installed")
    with _running(request.param):
        yield request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def threads():
    """Return a context manager that sets the number of threads."""

    @contextmanager
    def use(count):
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    return use


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    """Fill what advkit allocates without writing it: NaN, the least integer, or random bits."""
    bits = torch.Generator().manual_seed(0)

    def poisoned(allocate):
        def call(*args, **kwargs):
            out = allocate(*args, **kwargs)
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.partition(".")[0] != "advkit" or type(out) is not torch.Tensor or out.is_meta:
                return out
            if out.is_floating_point():
                return out.fill_(torch.nan)
            if out.dtype == torch.bool:
                return out.copy_(torch.randint(2, out.shape, generator=bits))
            return out.fill_(torch.iinfo(out.dtype).min)

        return call

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))
