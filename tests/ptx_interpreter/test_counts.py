"""What a launch did, where it is known."""

import numpy as np
import pytest
from ptx.counts import sectors_of


def _aligned(count, dtype=np.float32, align=128):
    room = np.zeros(count * np.dtype(dtype).itemsize + align, np.uint8)
    start = -room.ctypes.data % align
    return room[start : start + count * np.dtype(dtype).itemsize].view(dtype)


@pytest.mark.parametrize(("kernel", "each"), [("copy", 1), ("copy_four", 4)])
def test_a_coalesced_copy_moves_each_sector_once(cuda, kernel, each):
    n = 1024
    x, y = _aligned(n * each), _aligned(n * each)
    counts = cuda(kernel, n // 128, 128, x, y, max_lanes=512)
    sectors = n * each * 4 // 32
    for name in ("", "block_", "unique_"):
        assert getattr(counts, f"{name}sectors_read") == sectors
        assert getattr(counts, f"{name}sectors_written") == sectors
    assert counts.instructions["ld.global"] == counts.instructions["st.global"] == n


@pytest.mark.parametrize(("stride", "expected"), [(1, 4), (2, 8), (8, 32), (100, 32)])
def test_strided_reads_touch_more_sectors(cuda, stride, expected):
    x, y = _aligned(32 * stride), _aligned(32)
    counts = cuda("copy_strided", 1, 32, x, y, stride)
    assert counts.sectors_read == expected
    assert counts.sectors_written == 4


def test_what_is_read_twice_crosses_to_memory_once(cuda):
    x, y = _aligned(64), _aligned(64)
    counts = cuda("read_twice", 3, 64, x, y)
    assert counts.sectors_read == 3 * 2 * 8
    assert counts.block_sectors_read == 3 * 8
    assert counts.unique_sectors_read == 8


def test_launches_that_follow_one_another(cuda):
    x, y, z = _aligned(1024), _aligned(1024), _aligned(1024)
    first, second = (cuda("copy", 8, 128, *of) for of in ((x, y), (y, z)))
    assert sectors_of([first, second]) == 3 * 128
    assert sectors_of([second, first]) == 4 * 128
    assert sectors_of([first, first]) == 2 * 128


@pytest.mark.parametrize(
    ("kernel", "dtype", "stride", "conflicts"),
    [
        ("shared_words", "f4", 1, 0),
        ("shared_words", "f4", 0, 0),  # all to one word
        ("shared_words", "f4", 2, 1),
        ("shared_words", "f4", 32, 31),
        ("shared_words", "f4", 33, 0),
        ("shared_pairs", "f8", 1, 0),
        ("shared_pairs", "f8", 2, 2),  # of each half warp
        ("shared_pairs", "f8", 32, 30),
        ("shared_fours", "4f4", 1, 0),
        ("shared_fours", "4f4", 2, 4),  # of each quarter
    ],
)
def test_bank_conflicts(cuda, kernel, dtype, stride, conflicts):
    out = _aligned(128)
    counts = cuda(kernel, 1, 32, out, stride)
    assert counts.bank_conflicts == 2 * conflicts  # of the store and of the load


def test_instructions_of_divergent_threads(cuda):
    x, y = np.ones(100, np.float32), np.ones(100, np.float32)
    counts = cuda("saxpy", 1, 128, 100, 1.0, x, y)
    assert counts.instructions["ld.global"] == 200
    assert counts.instructions["bra"] == 28
    assert counts.total("ret") == 128
