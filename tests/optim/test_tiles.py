"""A tile of slots: which problem sits where, and how many slots there are."""

from __future__ import annotations

import pytest
import torch

from advkit.ops.lbfgs_step import Status, init
from advkit.ops.lbfgs_step.state import Counter
from advkit.optim.tiles import Tile, default_tile

MIB = 1 << 20


def tile_of(slots, problems, **options):
    return Tile(init(torch.arange(float(slots))[:, None]), problems, 100, **options)


def replace(tile, finished):
    tile.finished = torch.tensor(finished)
    return tile.replace()


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
    slots, index = replace(tile, [True, False, True])
    assert slots.tolist() == [0, 2]
    assert index.tolist() == [3, 4]
    assert tile.active.tolist() == [0, 1, 2]
    assert tile.index.tolist() == [3, 1, 4]


def test_slots_drop_out_once_the_queue_is_empty():
    tile = tile_of(3, 4)
    slots, index = replace(tile, [True, True, False])
    assert (slots.tolist(), index.tolist()) == ([0], [3])
    assert tile.active.tolist() == [0, 2]
    assert tile.index.tolist() == [3, 2]
    slots, index = replace(tile, [False, True])
    assert len(slots) == len(index) == 0
    assert tile.active.tolist() == [0]
    assert tile.index.tolist() == [3]
    replace(tile, [True])
    assert len(tile.active) == 0


def test_nothing_finished_changes_nothing():
    tile = tile_of(2, 4)
    slots, index = replace(tile, [False, False])
    assert len(slots) == len(index) == 0
    assert tile.index.tolist() == [0, 1]


def test_stopped_reads_the_active_slots_only():
    tile = tile_of(3, 3)
    replace(tile, [True, False, False])
    tile.state.counters[2, Counter.STATUS] = Status.GRADIENT
    assert tile.stopped().tolist() == [False, True]


def test_fresh_rows_are_those_not_evaluated_yet():
    tile = tile_of(4, 6)
    assert tile.fresh.tolist() == [0, 1, 2, 3]
    tile.counts()
    assert len(tile.fresh) == 0
    replace(tile, [True, False, False, True])
    assert tile.fresh.tolist() == [0, 3]
    tile.counts()
    replace(tile, [False, True, False, False])
    assert len(tile.fresh) == 0
    tile = tile_of(4, 5)
    replace(tile, [False, True, True, False])  # row 1 takes the problem, row 2 drops out
    assert tile.fresh.tolist() == [1]
    assert tile.index.tolist() == [0, 4, 3]


def test_the_host_looks_after_every_round_on_a_cpu():
    tile = tile_of(2, 2)
    assert all(tile.counts() or tile.replace() for _ in range(5))


def test_else_seldom_and_whenever_the_evaluations_of_a_problem_are_spent():
    tile = Tile(init(torch.zeros(2, 1)), 4, 10, every=4)
    looks = []
    for number in range(1, 19):
        if tile.counts():
            looks.append(number)
            replace(tile, [number == 4, number == 10])
    # The first row's new problem has spent its evaluations at 14, but is kept.
    assert looks[:3] == [4, 8, 10]
    assert looks[3:] == list(range(14, 19))


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


@pytest.mark.parametrize("n", [1, 784, 3072, 150_528])
def test_a_cached_tile_fits_the_cache(n):
    tile = default_tile(10**6, n, 6, 4, cached=True)
    one = n * 20 * 4
    assert tile * one <= 16 * MIB or tile in (32, default_tile(10**6, n, 6, 4))
    assert tile >= min(32, default_tile(10**6, n, 6, 4))


@pytest.mark.parametrize("problems", [0, 1, 250, 1000, 1001])
def test_cached_tiles_are_of_about_the_same_size(problems):
    tile = default_tile(problems, 784, 6, 4, cached=True)
    tiles = -(-problems // tile)
    most = default_tile(10**6, 784, 6, 4, cached=True)
    assert 1 <= tile <= most
    assert tiles == -(-problems // most)
    assert tile * tiles - problems < max(tiles, 1) or problems == 0


def test_one_slot_is_the_least():
    assert default_tile(5, 10**9, 10, 8) == 1
