"""The directions of restarts: normal, and another one for each image, leg and seed."""

import pytest
import torch

from advkit.attack.noise import Noise

B, N = 40, 784
UNRELATED = 6 / N**0.5  # six deviations of the product of two directions


def images(dtype=torch.float32):
    """Return images of few grey levels, whose last bits are zeros."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randint(0, 5, (B, N), generator=generator) / 4).to(dtype)


def drawn(x, leg, seed=0):
    noise = Noise(x, seed)
    return noise.directions(noise.keys(x), torch.full((len(x),), leg))


def alike(rows):
    """Return how far the closest two of some rows are from orthogonal."""
    rows = rows.double()
    return float((rows @ rows.T - torch.eye(len(rows)).double()).abs().max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_length_and_dtype(dtype):
    rows = drawn(images(dtype), 3)
    assert rows.dtype == dtype
    assert rows.shape == (B, N)
    bound = 4 * torch.finfo(dtype).eps
    assert torch.allclose(rows.double().norm(dim=1), torch.ones(B).double(), rtol=bound, atol=bound)


def test_they_are_normal():
    values = drawn(images(), 5).double() * N**0.5
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.square().mean()) - 1) < 1e-6
    assert abs(float(values.pow(4).mean()) - 3) < 0.15


def test_another_direction_for_each_leg():
    x = images()[:1]
    rows = torch.cat([drawn(x, leg) for leg in range(200)])
    assert alike(rows) < UNRELATED


def test_another_direction_for_each_image_though_they_differ_in_one_bit():
    x = images()
    bits = x.view(torch.int32)
    bits[:] = bits[0]
    bits[torch.arange(1, B), torch.arange(1, B)] ^= 1 << (torch.arange(1, B) % 31).int()
    assert alike(drawn(x, 4)) < UNRELATED


def test_another_direction_for_each_seed():
    x = images()
    assert alike(torch.cat((drawn(x, 4, seed=0), drawn(x, 4, seed=1)))) < UNRELATED
    assert drawn(x, 4, seed=2**63 + 1).isfinite().all()


def test_the_same_in_any_batch():
    x = images()
    noise = Noise(x, 0)
    legs = torch.arange(B)
    rows = noise.directions(noise.keys(x), legs)
    for b in (0, 7, B - 1):
        alone = Noise(x[b : b + 1], 0)
        again = alone.directions(alone.keys(x[b : b + 1]), legs[b : b + 1])
        assert torch.equal(rows[b : b + 1], again)
