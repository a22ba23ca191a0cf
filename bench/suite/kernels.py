"""The kernels against eager PyTorch, torch.compile, optax under vmap and SciPy's setulb.

A call of an op on B images of n values with m pairs, on data that the caches do not hold, since
1 GiB is read before; or, where a case says "cached", on data that was just written. Each turn also
times that reading, a dot product: what the kernels reach is told in parts of its speed. Answers
are compared with the reference in float64 in every turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from _kernel_cases import CASES
from _peer_kernels import OptaxStep, SetulbClock, solve_by_setulb
from torch import Tensor

from advkit import ops

EAGER, COMPILED, GRAPH = "eager PyTorch", "torch.compile", "advkit in a CUDA graph"
READ, OPTAX, SETULB = "read", "optax", "scipy setulb"
SIZES = (784, 3072, 150_528)  # MNIST, CIFAR-10, ImageNet
BATCHES = (1, 32, 256, 4096)
PAIRS = (5, 10, 20)
READ_BYTES = 1 << 30
MANY = 1 << 24  # bytes; calls of less are done several times, on other data
MOST_CALLS = 16
ROUNDS_CACHED = 20
MOST_MEMORY = 0.25  # of what is there, for the data of a case: peers make copies of it


@dataclass(frozen=True)
class Shape:
    """A case: B images of n values, m pairs."""

    op: str
    n: int
    m: int
    images: int
    cached: bool = False

    def __str__(self) -> str:
        """Return its name."""
        name = f"{self.op}-{self.n}x{self.m}-{self.images}"
        return name + "-cached" if self.cached else name


def cases(config: pytest.Config) -> list[tuple[Shape, list[str]]]:
    """Return all cases with their candidates."""
    if config.getoption("quick"):
        shapes = [Shape(op, 784, 10, images) for op in CASES for images in (1, 256)]
        shapes.append(Shape("two_loop", 784, 10, 32, cached=True))
    else:
        # All batches with 10 pairs, all numbers of pairs in one batch.
        shapes = [
            Shape(op, n, m, images)
            for op in ("two_loop", "lbfgs_step")
            for n in SIZES
            for m in PAIRS
            for images in BATCHES
            if m == 10 or images == 32
        ]
        shapes += [Shape("penalty", n, 0, 256) for n in SIZES]
        shapes += [Shape("class_loss", 784, 0, images) for images in BATCHES]
        shapes += [Shape(op, 784, 10, 32, cached=True) for op in ("two_loop", "lbfgs_step")]
    return [(shape, _candidates(shape, config.getoption("device"))) for shape in shapes]


def bench_kernel(
    benchmark: Any, request: pytest.FixtureRequest, case: Shape, turn: int, candidate: str
) -> None:
    """Time the calls of a case, one after another."""
    device = torch.device(request.config.getoption("device"))
    if candidate == SETULB:
        return _setulb(benchmark, case)
    work = _work(case, device)
    made = work.made(candidate)
    benchmark.extra_info |= _about(case, candidate) | {"calls": made.calls, "bytes": made.bytes}

    def setup() -> None:
        made.restore()
        if not case.cached and candidate != READ:
            _reading(device).run()

    benchmark.pedantic(
        made.run,
        setup=setup,
        rounds=ROUNDS_CACHED if case.cached else 1,
        warmup_rounds=1 if turn == 0 else 0,
    )
    made.restore()
    benchmark.extra_info["error"] = made.check()
    return None


def _about(case: Shape, candidate: str) -> dict[str, Any]:
    return {"case": str(case), "candidate": candidate, **asdict(case)}


@dataclass
class Made:
    """What a candidate does for a case.

    Parameters
    ----------
    run : callable
        All calls, one after another.
    calls : int
        How many these are.
    bytes : int
        That one call must move.
    check : callable
        Return the error of a first call; raise if it is too large.
    restore : callable
        Undo what calls changed of their inputs.
    """

    run: Callable[[], Any]
    calls: int
    bytes: int
    check: Callable[[], float | None]
    restore: Callable[[], Any]


class Work:
    """The data of a case, and what the candidates do with it."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        data = shape.images * 4 * shape.n * (2 * shape.m + 16)
        calls = 1 if shape.cached else min(MOST_CALLS, max(1, MANY // data))
        if 2 * calls * data > MOST_MEMORY * _free_memory(device):  # and a copy of it
            pytest.skip("more memory than there is")
        self.case = CASES[shape.op](shape.images, shape.n, shape.m, calls, device)
        self.cached, self._made = shape.cached, dict[str, Made]()

    def made(self, candidate: str) -> Made:
        """Return what a candidate does, made once."""
        if candidate not in self._made:
            self._made[candidate] = self._make(candidate)
        return self._made[candidate]

    def _make(self, candidate: str) -> Made:
        case = self.case
        if candidate == READ:
            return _reading(case.device)
        if candidate == OPTAX:
            pytest.importorskip("optax", reason="optax is not installed")
            step = OptaxStep(case.images, case.n, case.m, case.calls)
            return Made(step.run, step.calls, case.bytes, step.check, lambda: None)
        if candidate == COMPILED:
            calls = case.compiled()
            try:
                calls[0]()
            except Exception as error:  # whatever the compiler raises
                pytest.skip(f"torch.compile: {type(error).__name__}")
            finally:
                case.restore()
        elif candidate == GRAPH:
            calls = captured(case.by_backend("triton"))
        else:
            calls = case.by_backend("reference" if candidate == EAGER else _backend(candidate))
        plain = candidate in (EAGER, COMPILED)

        def check() -> float:
            returned = calls[0]()
            error = case.error(returned if candidate == COMPILED else None)
            tolerance = case.plain_tolerance if plain else case.tolerance
            assert error <= tolerance, f"{case.op} by {candidate} is wrong: {error:.2g}"
            return error

        # Again and again on the same data, where a call leaves them as they are.
        times = MOST_CALLS if self.cached and not case.changed else 1
        run = partial(_one_after_another, calls * times, case.device)
        # A graph is one call here, and holds all of them.
        return Made(run, case.calls * times, case.bytes, check, case.restore)


@lru_cache(maxsize=1)
def _work(shape: Shape, device: torch.device) -> Work:
    torch._dynamo.reset()
    return Work(shape, device)


def captured(calls: Sequence[Callable[[], Any]]) -> list[Callable[[], Any]]:
    """Capture all of the calls in one graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        calls[0]()  # what compiles must have done so before
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return [graph.replay]


def _candidates(shape: Shape, device: str) -> list[str]:
    """Return who does a case, advkit first."""
    if device == "cuda":
        there = ops.available_backends()
        names = [f"advkit {name}" for name in ("triton", "cuda") if name in there]
        if shape.op == "lbfgs_step" and "triton" in there:
            names.append(GRAPH)
        return [*names, EAGER, COMPILED, READ]
    names = ["advkit", EAGER]
    # Tens of seconds to compile for each shape, and what it gains depends little on the batch.
    if shape.op != "class_loss" and shape.m in (0, 10) and shape.images in (32, 256):
        names.append(COMPILED)
    if shape.op == "lbfgs_step":
        # As many updates as pairs come first, which few large images take minutes for.
        names += [OPTAX] if shape.images * shape.n <= 256 * 3072 else []
        names += [SETULB] if shape.images == 32 and not shape.cached else []
    return [*names, READ]


def _backend(candidate: str) -> str:
    return {"advkit": "cpu", "advkit cuda": "cuda", "advkit triton": "triton"}[candidate]


def _one_after_another(calls: Sequence[Callable[[], Any]], device: torch.device) -> None:
    for call in calls:
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()


@lru_cache(maxsize=1)
def _memory_to_read(device: torch.device) -> Tensor:
    return torch.ones(READ_BYTES // 4, device=device)


def _reading(device: torch.device) -> Made:
    """Read memory by a dot product of its two halves, which is faster than a sum."""
    halves = _memory_to_read(device).chunk(2)

    def check() -> None:
        # To float32's digits: PyTorch adds up in its own order.
        assert torch.dot(*halves).item() == pytest.approx(len(halves[0]), rel=1e-3)

    run = partial(_one_after_another, [partial(torch.dot, *halves)], device)
    return Made(run, 1, READ_BYTES, check, lambda: None)


def _free_memory(device: torch.device) -> int:
    """Return the bytes of memory that the device has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(line for line in lines if line.startswith("MemAvailable"))
    return 1024 * int(available.split()[1])


def _setulb(benchmark: Any, case: Shape) -> None:
    """Time SciPy's compiled step alone: the clock stands still outside of it."""
    clock = SetulbClock()
    benchmark._timer = clock
    with clock:
        found = benchmark.pedantic(partial(solve_by_setulb, case.n, case.m), rounds=1)
    assert found.error <= 1e-3, f"setulb ended at a projected gradient of {found.error:.2g}"
    # An iteration of one image; the case's call is one of each of its images.
    calls = found.iterations / case.images
    benchmark.extra_info |= _about(case, SETULB) | {"calls": calls, "bytes": None}
    benchmark.extra_info["error"] = found.error
