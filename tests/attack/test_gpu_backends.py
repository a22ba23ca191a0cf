"""A whole attack by the kernels for GPUs as compiled, without a GPU."""

from contextlib import contextmanager
from functools import cache
from unittest import mock

import pytest
import torch

from advkit import attack
from advkit.attack import legs
from advkit.ops import _dispatch, use_backend

pytestmark = pytest.mark.slow


@cache
def scene():
    """Return a small network, images and their labels."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(40, 20), torch.nn.Tanh(), torch.nn.Linear(20, 4))
    network.requires_grad_(False)
    x = torch.rand(8, 40)
    return network, x, network(x).argmax(1)


def attacked():
    network, x, labels = scene()
    return attack.lbfgs(network, x, labels, max_evaluations=20)


@contextmanager
def triton_on_ptx():
    pytest.importorskip("triton")
    from triton_on_ptx import interpreted

    with use_backend("triton"), interpreted() as launched:
        yield
    assert {name for name, _ in launched} == {"lbfgs_step_kernel"}


@contextmanager
def triton_split_on_ptx():
    """By the form that long rows take."""
    pytest.importorskip("triton")
    from split_rows import every_row_is_long
    from triton_on_ptx import interpreted

    with use_backend("triton"), every_row_is_long(tile=4096), interpreted() as launched:
        yield
    assert len({name for name, _ in launched}) == 8


@contextmanager
def cuda_on_ptx():
    pytest.importorskip("advkit._cuda", exc_type=ImportError)
    from ptx.compile import find_nvcc

    if find_nvcc() is None:
        pytest.skip("there is no nvcc")
    from cuda_on_ptx import interpreted

    chosen = mock.patch.object(_dispatch, "choose", return_value="cuda")
    rounds = mock.patch.object(legs, "choose", return_value="cuda")
    with chosen, rounds, interpreted() as launched:
        yield
    assert {name.split("_f32")[0] for name, _ in launched} == {"advkit_lbfgs_step"}


@pytest.mark.parametrize("backend", [triton_on_ptx, triton_split_on_ptx, cuda_on_ptx])
def test_same_success_and_distortion_as_the_reference(backend):
    with use_backend("reference"):
        expected = attacked()
    with backend():
        result = attacked()
    assert torch.equal(result.success, expected.success)
    assert expected.success.all()
    assert result.rms.mean().item() == pytest.approx(expected.rms.mean().item(), rel=0.01)
