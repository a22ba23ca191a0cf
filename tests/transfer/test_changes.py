import numpy as np
import pytest
import torch

from advkit.transfer import amplify, gaussian, rms


def test_rms_by_numpy(images):
    changed = images + 0.1 * torch.randn_like(images)
    difference = (changed.double() - images.double()).flatten(1).numpy()
    expected = np.sqrt((difference**2).mean(1))
    np.testing.assert_allclose(rms(changed, images), expected, rtol=1e-12)


def test_unclipped_is_the_formula(images):
    x = images.double()
    changed = x + 0.01 * torch.randn_like(x)
    found = amplify(x, changed, 0.5, clip="none")
    step = (changed - x).flatten(1).numpy()
    expected = 0.5 * np.sqrt(16) * step / np.linalg.norm(step, axis=1, keepdims=True)
    np.testing.assert_allclose((found - x).flatten(1), expected, rtol=1e-12)
    np.testing.assert_allclose(rms(found, x), 0.5, rtol=1e-12)
    assert (found < 0).any()


def test_clipped_after_is_the_cut_formula(images):
    changed = images + 0.01 * torch.randn_like(images)
    free = amplify(images, changed, 0.5, clip="none")
    found = amplify(images, changed, 0.5, clip="after")
    assert torch.equal(found, free.clamp(0, 1))
    assert (rms(found, images) < 0.5).all()


@pytest.mark.parametrize("size", [1e-3, 0.05, 0.25])
def test_exact_has_the_rms_inside_the_box(images, size):
    x = images.double()
    x[:, :, 0] = 0.0  # on the boundary: half of the change is cut
    changed = (x + 0.01 * torch.randn_like(x)).clamp(-1, 1)
    found = amplify(x, changed, size)
    np.testing.assert_allclose(rms(found, x), size, rtol=1e-9)
    assert ((found >= 0) & (found <= 1)).all()
    # Where the box did not cut, the direction is the same.
    step, direction = (found - x).flatten(1), (changed - x).flatten(1)
    inside = ((found > 0) & (found < 1)).flatten(1)
    ratio = torch.where(inside, step / direction, torch.nan)
    for row in ratio:
        values = row[row.isfinite()]
        np.testing.assert_allclose(values, float(values[0]), rtol=1e-6)


def test_what_cannot_grow_meets_the_box(images):
    changed = images.clone()
    changed[:, 0, 0, 0] += 0.1  # one value of 16 can add no more than 1/4
    found = amplify(images, changed, 0.9)
    assert (found[:, 0, 0, 0] == 1).all()
    assert torch.equal(found.flatten(1)[:, 1:], images.flatten(1)[:, 1:])


def test_a_size_for_each_image(images):
    sizes = torch.linspace(0, 0.2, len(images), dtype=torch.float64)
    changed = images + 0.01
    np.testing.assert_allclose(
        rms(amplify(images.double(), changed.double(), sizes), images), sizes, atol=1e-9
    )


def test_unchanged_stays(images):
    assert torch.equal(amplify(images, images, 0.1), images)
    assert torch.equal(amplify(images, images + 0.1, 0.0), images)


@pytest.mark.parametrize("clip", ["exact", "none"])
def test_noise_has_its_size(images, clip):
    x = images.double().repeat(1, 1, 8, 8)
    found = gaussian(x, 0.2, clip=clip)
    tolerance = 1e-9 if clip == "exact" else 0.1  # 1,024 values: standard error 2 %
    np.testing.assert_allclose(rms(found, x), 0.2, rtol=tolerance)
    assert ((found >= 0) & (found <= 1)).all() == (clip == "exact")


def test_noise_follows_from_seed_and_place(images):
    whole = gaussian(images, 0.1, seed=3)
    assert torch.equal(gaussian(images[:5], 0.1, seed=3), whole[:5])
    assert not torch.equal(gaussian(images, 0.1, seed=4), whole)
    noise = (gaussian(images, 0.1, clip="none", seed=3) - images).flatten(1)
    expected = 0.1 * np.random.default_rng([3, 7]).standard_normal(16)
    np.testing.assert_allclose(noise[7], expected, atol=1e-6)


def test_refuses(images):
    with pytest.raises(ValueError, match="clip"):
        amplify(images, images, 0.1, clip="hard")
    with pytest.raises(ValueError, match="changed: expected the shape of x"):
        amplify(images, images[:3], 0.1)
    with pytest.raises(ValueError, match="size: expected finite numbers >= 0, got -1"):
        amplify(images, images, -1)
    with pytest.raises(ValueError, match=r"size: expected a number or shape \(24,\)"):
        amplify(images, images, torch.ones(3))
    for clip in ("exact", "after", "none"):
        for size in (-0.1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="size: expected finite numbers >= 0"):
                gaussian(images, size, clip=clip)
