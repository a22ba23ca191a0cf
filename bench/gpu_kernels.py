"""Time the kernels on a GPU: Triton's and CUDA's against eager PyTorch and torch.compile.

Every op on images of MNIST's, CIFAR-10's and ImageNet's size, in batches from 1, float32. The calls
of a sample are timed by events, each on data that the caches do not hold any more; the candidates
take turns, so that all of them see the same clock. Shown are the median and the spread of a call,
the bytes that one pass has to move over that time, and what part it is of the bandwidth at which
this GPU copies, measured in the same run. Before it is timed, every candidate's answer is compared
with the reference in float64; one that is wrong ends the run. lbfgs_step is also captured in a CUDA
graph, of which a launch costs the host less.

--dry-run goes the same way on the CPU, with small images and the backends that are there. Its times
mean nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo
from _common import Row, as_settings, geometric_mean, parser, write_results
from _gpu_cases import CASES, Case

import advkit

SHAPES = {"mnist": 784, "cifar": 3072, "imagenet": 150_528}
BATCHES = (1, 32, 256, 4096)
COMPILED, GRAPH = "torch.compile", "graph of "
COPY = 1 << 30  # bytes


def seconds(calls: Sequence[Callable[[], Any]], device: torch.device) -> float:
    """Return the seconds that the calls took, one after another."""
    if device.type != "cuda":
        start = time.perf_counter()
        for call in calls:
            call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for call in calls:
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def copy_bandwidth(size: int, repeats: int, device: torch.device) -> float:
    """Return the bytes read and written in a second by a copy of so many bytes."""
    source = torch.empty(size, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    times = [seconds([lambda: target.copy_(source)], device) for _ in range(repeats + 1)]
    return 2 * size / statistics.median(times[1:])


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


def candidates(case: Case, names: Sequence[str]) -> dict[str, list[Callable[[], Any]]]:
    """Return the calls by each backend and by the compiled reference."""
    made = {}
    for name in names:
        made[name] = case.compiled() if name == COMPILED else case.by_backend(name)
        if case.op == "lbfgs_step" and case.device.type == "cuda" and name in ("triton", "cuda"):
            made[GRAPH + name] = captured(made[name])
    return made


def check(case: Case, name: str, calls: Sequence[Callable[[], Any]]) -> float:
    """Return the error of a candidate; raise if it is too large."""
    case.restore()
    returned = calls[0]()
    case_error = case.error(returned if name == COMPILED else None)
    if not case_error <= case.tolerance:
        raise AssertionError(f"{case.op} by {name} is wrong: relative error {case_error:.2g}")
    return case_error


def measure(case: Case, names: Sequence[str], repeats: int) -> tuple[list[Row], set[str]]:
    """Return a row for each candidate, timed in turns, and what torch.compile cannot do."""
    calls, errors, refused = candidates(case, names), {}, set()
    for name in list(calls):
        try:
            errors[name] = check(case, name, calls[name])
        except torch._dynamo.exc.TorchDynamoException as error:
            refused.add(f"{case.op}, {type(error).__name__}")
            del calls[name]
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, each in calls.items():
            case.restore()
            times[name].append(seconds(each, case.device) / case.calls)
    rows = [
        {
            "op": case.op,
            "candidate": name,
            "n": case.n,
            "m": case.m,
            "images": case.images,
            "us": 1e6 * statistics.median(values),
            "us, least": 1e6 * min(values),
            "us, most": 1e6 * max(values),
            "GB/s": case.bytes / statistics.median(values) / 1e9,
            "error": errors[name],
        }
        for name, values in times.items()
    ]
    return rows, refused


def ratios(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return, for each op and size, how many times faster each backend is than the others."""
    found = []
    for op, n in dict.fromkeys((row["op"], row["n"]) for row in rows):
        times = {
            (row["candidate"], row["m"], row["images"]): row["us"]
            for row in rows
            if (row["op"], row["n"]) == (op, n)
        }
        for mine in (name for name in names if name not in ("reference", COMPILED)):
            line: Row = {"op": op, "n": n, "backend": mine}
            for peer in ("reference", COMPILED):
                pairs = [
                    times[(peer, *rest)] / value
                    for (name, *rest), value in times.items()
                    if name == mine and (peer, *rest) in times
                ]
                line[f"times {peer}"] = geometric_mean(pairs) if pairs else None
            found.append(line)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Time every case and write the tables."""
    options = parser("gpu_kernels", __doc__)
    options.add_argument("--ops", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    options.add_argument("--images", type=int, nargs="+", default=list(BATCHES))
    options.add_argument("--history", type=int, nargs="+", default=[5, 10, 20], help="pairs")
    options.add_argument("--repeats", type=int, default=15)
    options.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options.add_argument("--dry-run", action="store_true", help="on the CPU, with images of 63")
    given = options.parse_args(arguments)
    if not given.dry_run and not torch.cuda.is_available():
        options.exit(2, "gpu_kernels.py needs a GPU; --dry-run shows on the CPU that it runs\n")
    device = torch.device("cpu" if given.dry_run else "cuda")
    there = advkit.ops.available_backends()
    names = [name for name in (("cpu",) if given.dry_run else ("triton", "cuda")) if name in there]
    names += ["reference"] if given.no_compile else ["reference", COMPILED]
    machine: Row = {"device": "none, a dry run"}
    cache, memory, copied = 1 << 16, 1 << 30, 1 << 20
    if not given.dry_run:
        about = torch.cuda.get_device_properties(device)
        cache, memory, copied = about.L2_cache_size, about.total_memory, COPY
        machine = {"device": about.name, "CUDA or HIP": torch.version.cuda or torch.version.hip}
        machine |= {"multiprocessors": about.multi_processor_count, "L2, bytes": cache}
    bandwidth = copy_bandwidth(copied, given.repeats, device)
    machine["copy, GB/s"] = bandwidth / 1e9
    print(machine, flush=True)
    rows: list[Row] = []
    left_out: list[str] = []
    refused: set[str] = set()
    shapes = {"dry": 63} if given.dry_run else {shape: SHAPES[shape] for shape in given.shapes}
    for op in given.ops:
        pairs = given.history if op in ("two_loop", "lbfgs_step") else [0]
        sizes = list(shapes.values())[:1] if op == "class_loss" else shapes.values()
        for n, m, images in (
            (n, m, images) for n in sizes for m in pairs for images in given.images
        ):
            # Two copies of two calls' data, or of what is twice the cache.
            if 4 * max(images * 4 * n * (2 * m + 16), cache) > 0.8 * memory:
                left_out.append(f"{op}, {n} values, {m} pairs, {images} images")
                continue
            case = CASES[op](images, n, m, cache, device)
            timed, cannot = measure(case, names, given.repeats)
            refused |= cannot
            for row in timed:
                rows.append(row | {"of copy": 1e9 * row["GB/s"] / bandwidth} | machine)
                print({key: rows[-1][key] for key in ("op", "candidate", "n", "m", "images", "us")})
    write_results(
        given.out,
        "The kernels on a GPU",
        settings=as_settings(given) | machine,
        summary=ratios(rows, names),
        rows=rows,
        notes=[
            "times: how many times longer the other takes for a call, geometric mean over batches "
            "and pairs; reference is eager PyTorch.",
            "GB/s: bytes of one pass over every input and output, over the median time. of copy: "
            "over the bytes that a copy of 1 GiB reads and writes in its time.",
            f"Left out, for memory: {'; '.join(left_out) or 'nothing'}.",
            f"What torch.compile does not compile: {'; '.join(sorted(refused)) or 'nothing'}.",
        ],
    )


if __name__ == "__main__":
    main()
