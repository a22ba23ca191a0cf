import pytest
import torch

from advkit.analysis import gram_bound


@pytest.mark.parametrize("shape", [(5, 7), (40, 3), (1, 1), (2, 30, 30)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.float32])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_bounds_the_norm(shape, dtype, scale):
    matrices = scale * torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    exact = torch.linalg.matrix_norm(matrices / scale, 2)
    rounding = 1e-12 if dtype != torch.float32 else 1e-4
    last = None
    for iterations in (1, 4, 10):
        bound = gram_bound(matrices, iterations) / scale
        assert (bound >= exact * (1 - rounding)).all()
        rank = min(shape[-2:])
        assert (bound <= exact * rank ** (1 / 2 ** (iterations + 1)) * (1 + rounding)).all()
        assert last is None or (bound <= last * (1 + rounding)).all()
        last = bound


def test_zeros():
    matrices = torch.zeros(2, 3, 4, dtype=torch.float64, requires_grad=True)
    bound = gram_bound(matrices)
    bound.sum().backward()
    assert bound.tolist() == [0.0, 0.0]
    assert not matrices.grad.any()


def test_gradient_is_that_of_the_singular_value():
    matrix = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    matrix.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: gram_bound(m, 3), matrix)
    (slope,) = torch.autograd.grad(gram_bound(matrix, 20), matrix)
    left, _, right = torch.linalg.svd(matrix.detach())
    torch.testing.assert_close(slope, left[:, :1] @ right[:1], rtol=1e-4, atol=1e-4)


def test_refuses():
    with pytest.raises(ValueError, match="matrices: expected shape"):
        gram_bound(torch.ones(3))
    with pytest.raises(ValueError, match="iterations: expected at least 1"):
        gram_bound(torch.ones(3, 3), 0)
