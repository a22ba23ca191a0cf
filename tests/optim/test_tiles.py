"""A tile of slots: which problem sits where, and how many slots there are."""

from __future__ import annotations

import pytest
import torch

from advkit.ops.lbfgs_step import Status, init
from advkit.ops.lbfgs_step.state import Counter
from advkit.optim.tiles import Tile, default_tile

MIB = 1 << 20


def tile_of(slots, problems):
    return Tile(init(torch.arange(float(slots))[:, None]), problems)


def test_starts_with_the_first_problems():
    tile = tile_of(3, 5)
    assert tile.active.tolist() == tile.index.tolist() == [0, 1, 2]
    assert tile.trial().tolist() == [[0.0], [1.0], [2.0]]
    assert tile.stopped().tolist() == [False] * 3


def test_trial_is_a_copy():
    tile = tile_of(2, 2)
    tile.trial().fill_(9.0)
    assert tile.trial().tolist() == [[0.0], [1.0]]


def test_finished_slots_take_the_next_problems():
    tile = tile_of(3, 6)
    slots, index = tile.replace(torch.tensor([True, False, True]))
    assert slots.tolist() == [0, 2]
    assert index.tolist() == [3, 4]
    assert tile.active.tolist() == [0, 1, 2]
    assert tile.index.tolist() == [3, 1, 4]


def test_slots_drop_out_once_the_queue_is_empty():
    tile = tile_of(3, 4)
    slots, index = tile.replace(torch.tensor([True, True, False]))
    assert (slots.tolist(), index.tolist()) == ([0], [3])
    assert tile.active.tolist() == [0, 2]
    assert tile.index.tolist() == [3, 2]
    slots, index = tile.replace(torch.tensor([False, True]))
    assert len(slots) == len(index) == 0
    assert tile.active.tolist() == [0]
    assert tile.index.tolist() == [3]
    tile.replace(torch.tensor([True]))
    assert len(tile.active) == 0


def test_nothing_finished_changes_nothing():
    tile = tile_of(2, 4)
    slots, index = tile.replace(torch.tensor([False, False]))
    assert len(slots) == len(index) == 0
    assert tile.index.tolist() == [0, 1]


def test_stopped_reads_the_active_slots_only():
    tile = tile_of(3, 3)
    tile.replace(torch.tensor([True, False, False]))
    tile.state.counters[2, Counter.STATUS] = Status.GRADIENT
    assert tile.stopped().tolist() == [False, True]


@pytest.mark.parametrize("element_size", [4, 8])
@pytest.mark.parametrize("history", [1, 10, 50])
@pytest.mark.parametrize("n", [1, 784, 150_528])
def test_the_default_fits_its_memory(n, history, element_size):
    tile = default_tile(10**6, n, history, element_size)
    state = init(torch.zeros(1, n), history=history)
    one = sum(t.numel() for t in (state.trial, state.vectors, state.history)) * element_size
    assert 1 <= tile <= 1024
    assert tile == 1 or tile * one <= 1.1 * 256 * MIB or n == 1
    # Nor is it needlessly small.
    assert tile == 1024 or (tile + 1) * one > 0.8 * 256 * MIB


def test_the_default_is_no_more_than_there_are_problems():
    assert default_tile(7, 784, 10, 4) == 7
    assert default_tile(0, 784, 10, 4) == 1


def test_one_slot_is_the_least():
    assert default_tile(5, 10**9, 10, 8) == 1
