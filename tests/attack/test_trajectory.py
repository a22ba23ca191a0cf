"""What an attack records of its evaluations."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from problems import sigmoid_network

from advkit.attack import AttackResult
from advkit.attack.result import Trajectory

N, B = 30, 6
NETWORK = sigmoid_network(N, 16, 5)
X = torch.rand(B, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = NETWORK(X).argmax(1)
COLUMNS = [field.name for field in fields(Trajectory)]


def recorded(attack, **options):
    given = {"max_evaluations": 40, "trajectory": True} | options
    return attack(NETWORK, X, LABELS, **given)


def test_every_evaluation_is_one_entry(attack):
    result = recorded(attack)
    seen = result.trajectory
    assert torch.equal(torch.bincount(seen.image, minlength=B), result.backwards)
    assert seen.image.dtype == seen.propagations.dtype == torch.int64
    for name in ("distance", "margin", "c"):
        assert getattr(seen, name).dtype == torch.float64
        assert getattr(seen, name).shape == seen.image.shape


def test_entries_are_in_order_and_count_all_passes(some_attack):
    result = recorded(some_attack, tile=4)
    seen = result.trajectory
    for b in range(B):
        passes = seen.propagations[seen.image == b]
        assert passes[0] == 2
        assert (passes.diff() >= 2).all()
        assert passes[-1] <= result.forwards[b] + result.backwards[b]


def test_it_tells_what_the_points_were(attack):
    points, order = [], []

    def watched(v):
        if torch.is_grad_enabled():
            points.append(v.detach().clone())
        return NETWORK(v)

    x, labels = X[:1], LABELS[:1]
    seen = attack(watched, x, labels, max_evaluations=30, trajectory=True).trajectory
    points = torch.cat(points)
    p = {"l1": 1, "linf": torch.inf}.get(attack.keywords["norm"], 2)
    assert len(points) == len(seen.image)
    assert torch.allclose(seen.distance, (points - x).norm(p, dim=1), rtol=1e-9, atol=1e-15)
    logits = NETWORK(points)
    own = logits[:, labels[0]]
    rival = logits.scatter(1, labels.expand(len(points))[:, None], -torch.inf).amax(1)
    assert torch.allclose(seen.margin, rival - own, rtol=1e-9, atol=1e-12)
    assert not order


def test_the_answer_is_no_farther_than_the_best_entry(some_attack):
    result = recorded(some_attack)
    seen = result.trajectory
    assert result.success.any()
    for b in range(B):
        hits = seen.distance[(seen.image == b) & (seen.margin > 1e-9)]
        assert len(hits) == 0 or hits.min() >= result.distance[b] * (1 - 1e-9)
        assert result.success[b] or len(hits) == 0


def test_recording_changes_nothing(some_attack):
    without = some_attack(NETWORK, X, LABELS, max_evaluations=40)
    assert without.trajectory is None
    result = recorded(some_attack)
    assert torch.equal(result.adversarial, without.adversarial)
    assert torch.equal(result.forwards, without.forwards)


def test_an_image_that_is_adversarial_has_one_entry(some_attack):
    labels = LABELS.clone()
    labels[2] = (labels[2] + 1) % 5
    seen = some_attack(NETWORK, X, labels, max_evaluations=10, trajectory=True).trajectory
    assert (seen.image == 2).sum() == 1
    assert seen.distance[seen.image == 2] == 0
    assert seen.margin[seen.image == 2] > 0


def test_with_levels_the_search_is_recorded(some_attack):
    result = recorded(some_attack, levels=64)
    counts = torch.bincount(result.trajectory.image, minlength=B)
    assert torch.equal(counts, result.backwards)


def test_nothing_to_record(some_attack):
    seen = some_attack(NETWORK, X[:0], LABELS[:0], trajectory=True).trajectory
    for name in COLUMNS:
        assert getattr(seen, name).shape == (0,)


@pytest.mark.parametrize("trajectory", [False, True])
def test_it_survives_a_file(tmp_path, trajectory, some_attack):
    result = recorded(some_attack, trajectory=trajectory, max_evaluations=15)
    result.save(tmp_path / "result.npz")
    loaded = AttackResult.load(tmp_path / "result.npz")
    assert (loaded.trajectory is None) == (not trajectory)
    for name in COLUMNS if trajectory else ():
        mine, theirs = (getattr(r.trajectory, name) for r in (result, loaded))
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("trajectory", [False, True])
def test_it_moves_with_the_result(trajectory, some_attack):
    result = recorded(some_attack, trajectory=trajectory, max_evaluations=5)
    moved = result.to("meta")
    assert (moved.trajectory is None) == (not trajectory)
    for name in COLUMNS if trajectory else ():
        assert getattr(moved.trajectory, name).device.type == "meta"
        assert getattr(result.trajectory, name).device.type == "cpu"
