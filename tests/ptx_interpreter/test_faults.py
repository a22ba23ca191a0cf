"""Every kernel that does what it must not is told so, with the line and the thread."""

import numpy as np
import pytest
from ptx import Fault, Memory, Module, UnsupportedInstruction


def _ints(count=64):
    return np.zeros(count, np.int32)


def test_store_beyond_a_buffer(cuda):
    x = np.zeros(100, np.float32)
    cuda("fill", 1, 128, x, 100)
    # Lines of the text are lines of the file that nvcc wrote.
    expected = (
        r"in no buffer \(4 bytes\) \(block \(0, 0, 0\), thread \(100, 0, 0\)\), at line \d+: st"
    )
    with pytest.raises(Fault, match=expected):
        cuda("fill", 1, 128, x, 101)


def test_address_of_nothing(cuda):
    with pytest.raises(Fault, match="address 0x0 is in no buffer"):
        cuda("fill", 1, 32, 0, 1)


def test_store_to_a_read_only_buffer(cuda):
    x = np.zeros(8, np.float32)
    with pytest.raises(Fault, match=r"write to read-only memory .* st\.global"):
        cuda("fill", 1, 32, x, 8, read_only=[x])


def test_misaligned_store(cuda):
    with pytest.raises(Fault, match=r"not aligned to 4 bytes \(block \(0, 0, 0\), thread \(0, 0"):
        cuda("fill_misaligned", 1, 8, np.zeros(64, np.uint8))


def test_shared_memory_beyond_its_end(cuda):
    x = np.zeros(64, np.float32)
    cuda("read_beyond_shared", 1, 64, x, 0, shared=256)
    with pytest.raises(Fault, match=r"shared address 0x100 is outside of 256 bytes .*\(63, 0, 0\)"):
        cuda("read_beyond_shared", 1, 64, x, 1, shared=256)


@pytest.mark.parametrize("schedule", ["lowest", "random"])
def test_read_of_shared_memory_that_nobody_wrote(cuda, schedule):
    with pytest.raises(Fault, match=r"nobody wrote, at 0xa0 .*thread \(40, 0, 0\)"):
        cuda("read_unwritten_shared", 1, 64, np.zeros(64, np.float32), schedule=schedule)


def test_copy_that_nobody_waited_for(cuda):
    x = np.zeros((2, 256), np.float32)
    with pytest.raises(Fault, match="shared memory that nobody wrote"):
        cuda("copy_not_waited_for", 1, 64, x[0], x[1])


@pytest.mark.parametrize("schedule", ["lowest", "random"])
@pytest.mark.parametrize("kernel", ["divergent_barrier", "two_barriers"])
def test_barrier_that_some_threads_never_reach(cuda, kernel, schedule):
    with pytest.raises(Fault, match=r"divergent barrier.*: bar"):
        cuda(kernel, 1, 64, _ints(), schedule=schedule)


@pytest.mark.parametrize("schedule", ["lowest", "random"])
def test_shuffle_with_lanes_that_have_ended(cuda, schedule):
    with pytest.raises(Fault, match=r"lanes 0xfff00000 of its warp never came.* shfl"):
        cuda("shuffle_after_exit", 1, 32, _ints(), schedule=schedule)


def test_shuffle_that_half_of_the_lanes_never_reach(cuda):
    with pytest.raises(Fault, match=r"deadlock: .*16 wait at line .*, 16 wait at line .* shfl"):
        cuda("shuffle_in_a_branch", 1, 32, _ints())


def test_shuffle_by_a_lane_that_is_not_in_its_mask(cuda):
    with pytest.raises(Fault, match=r"not in its own member mask 0xffff .*thread \(16, 0, 0\)"):
        cuda("shuffle_outside_of_the_mask", 1, 32, _ints())


def test_a_random_order_of_warps_shows_a_missing_barrier(cuda):
    """The usual order hides it: all warps write before any reads."""
    cuda("missing_barrier", 1, 64, _ints())
    with pytest.raises(Fault, match="nobody wrote"):
        cuda("missing_barrier", 1, 64, _ints(), schedule="random")


def test_results_of_a_race_depend_on_the_seed(cuda):
    results = set()
    for seed in range(8):
        x = _ints()
        cuda("missing_second_barrier", 1, 64, x, schedule="random", seed=seed)
        results.add(x.tobytes())
    assert len(results) == 2


@pytest.mark.parametrize("schedule", ["lowest", "random"])
@pytest.mark.parametrize("kernel", ["missing_barrier", "missing_second_barrier"])
def test_races(cuda, kernel, schedule):
    with pytest.raises(Fault, match=r"race: two warps use shared byte|nobody wrote"):
        cuda(kernel, 1, 64, _ints(), schedule=schedule, races=True)


@pytest.mark.parametrize("schedule", ["lowest", "random"])
def test_warps_that_write_the_same_value(cuda, schedule):
    cuda("copies_write", 1, 64, _ints(), 0, schedule=schedule, races="differing")
    for races, differ in ((True, 0), ("differing", 1)):
        with pytest.raises(Fault, match="race"):
            cuda("copies_write", 1, 64, _ints(), differ, schedule=schedule, races=races)


def test_a_kernel_that_never_ends(cuda):
    with pytest.raises(Fault, match="not ended after 1000 instructions"):
        cuda("spin", 1, 32, _ints(), max_steps=1000)


def test_trap(cuda):
    with pytest.raises(Fault, match=r"trap \(block \(0, 0, 0\), thread \(9, 0, 0\)\)"):
        cuda("trap", 1, 32, np.arange(-3, 61, dtype=np.int32))


_TEXT = """.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 a, .param .u32 b)
{
 .reg .b32 %r<3>;
 INSTRUCTION;
 ret;
}
"""


@pytest.mark.parametrize(
    "instruction",
    ["wgmma.fence.sync.aligned", "add.strange.s32 %r1, %r1, %r2", "mov.b32 %r1, nothing"],
)
def test_what_is_not_known_is_named(instruction):
    kernel = Module(_TEXT.replace("INSTRUCTION", instruction)).kernels["k"]
    with pytest.raises(UnsupportedInstruction, match=f"{instruction.split()[0]}|nothing"):
        kernel.launch(1, 32, [0, 0], memory=Memory())


def test_parameters_must_fit():
    kernel = Module(_TEXT.replace("INSTRUCTION", "mov.b32 %r1, 0")).kernels["k"]
    assert [(p.name, p.offset, p.size) for p in kernel.parameters] == [("a", 0, 8), ("b", 8, 4)]
    kernel.launch(1, 32, bytes(12), memory=Memory())
    for wrong in ([1], [1, 2, 3], [np.float32(1), 2], bytes(16)):
        with pytest.raises(ValueError, match="expected"):
            kernel.launch(1, 32, wrong, memory=Memory())


def test_buffers_of_different_rights_must_not_overlap():
    memory, x = Memory(), np.zeros(8)
    memory.add(x[:4])
    memory.add(x[2:])
    with pytest.raises(ValueError, match="overlaps"):
        memory.add(x[5:], writable=False)
