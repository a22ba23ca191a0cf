"""Time the kernels, on a GPU or on the CPU, against eager PyTorch and torch.compile.

Every op on images of MNIST's, CIFAR-10's and ImageNet's size, in batches from 1, float32. Each call
of a sample takes data that the caches do not hold any more (--warm: that they still hold, as far as
they can); the candidates take turns, so that all of them see the same clock. Shown are the median
and the spread of a call, the bytes that one pass has to move over that time, and what part it is of
the bandwidth measured in the same run: on a GPU that of a copy, on the CPU that of a sum, which
only reads. Before it is timed, every candidate's answer is compared with the reference in float64;
one that is wrong ends the run. On a GPU lbfgs_step is also captured in a CUDA graph, of which a
launch costs the host less.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from _common import Row, as_settings, geometric_mean, parser, write_results
from _kernel_cases import CASES, Case

import advkit

SIZES = (784, 3072, 150_528)  # MNIST, CIFAR-10, ImageNet
BATCHES = (1, 32, 256, 4096)
COMPILED, GRAPH = "torch.compile", "graph of "
MEASURED = 1 << 30  # bytes, of the bandwidth
CACHE = 64 << 20  # bytes, where the system does not say


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


def bandwidth(repeats: int, device: torch.device) -> float:
    """Return the bytes moved in a second: on a GPU by a copy, on the CPU by a sum."""
    source = torch.ones(MEASURED // 4, device=device)
    if device.type == "cpu":
        times = [seconds([source.sum], device) for _ in range(repeats + 1)]
        return MEASURED / statistics.median(times[1:])
    target = torch.empty_like(source)
    times = [seconds([lambda: target.copy_(source)], device) for _ in range(repeats + 1)]
    return 2 * MEASURED / statistics.median(times[1:])


def machine_of(device: torch.device) -> tuple[Row, int, int]:
    """Describe the device; return its cache and its memory, too, in bytes."""
    if device.type == "cpu":
        found = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
        sizes = [1024 * int(file.read_text().strip().removesuffix("K")) for file in found]
        cache = max(sizes, default=CACHE)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return {"device": "cpu", "cache, bytes": cache}, cache, memory
    about = torch.cuda.get_device_properties(device)
    machine: Row = {"device": about.name, "CUDA or HIP": torch.version.cuda or torch.version.hip}
    machine |= {"multiprocessors": about.multi_processor_count, "cache, bytes": about.L2_cache_size}
    return machine, about.L2_cache_size, about.total_memory


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
    plain = name in ("reference", COMPILED)
    if not case_error <= (case.plain_tolerance if plain else case.tolerance):
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
    options = parser("kernels", __doc__)
    options.add_argument("--device", choices=["cuda", "cpu"], help="by default a GPU, if any")
    options.add_argument("--ops", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--values", type=int, nargs="+", default=list(SIZES), help="of an image")
    options.add_argument("--images", type=int, nargs="+", default=list(BATCHES))
    options.add_argument("--history", type=int, nargs="+", default=[5, 10, 20], help="pairs")
    options.add_argument("--warm", action="store_true", help="take two calls' data again and again")
    options.add_argument("--repeats", type=int, default=15)
    options.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    given = options.parse_args(arguments)
    if given.device is None:
        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    if given.device == "cuda" and not torch.cuda.is_available():
        options.exit(2, "kernels.py: --device cuda needs a GPU that torch can use\n")
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    there = advkit.ops.available_backends()
    mine = ("cpu",) if given.device == "cpu" else ("triton", "cuda")
    names = [name for name in mine if name in there]
    names += ["reference"] if given.no_compile else ["reference", COMPILED]
    machine, cache, memory = machine_of(device)
    cache = 0 if given.warm else cache
    moved = bandwidth(given.repeats, device)
    machine["bandwidth, GB/s"] = moved / 1e9
    print(machine, flush=True)
    rows: list[Row] = []
    left_out: list[str] = []
    refused: set[str] = set()
    for op in given.ops:
        pairs = given.history if op in ("two_loop", "lbfgs_step") else [0]
        sizes = given.values[:1] if op == "class_loss" else given.values
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
                rows.append(row | {"of bandwidth": 1e9 * row["GB/s"] / moved} | machine)
                print({key: rows[-1][key] for key in ("op", "candidate", "n", "m", "images", "us")})
    write_results(
        given.out,
        f"The kernels on a {'GPU' if given.device == 'cuda' else 'CPU'}",
        settings=as_settings(given) | machine,
        summary=ratios(rows, names),
        rows=rows,
        notes=[
            "times: how many times longer the other takes for a call, geometric mean over batches "
            "and pairs; reference is eager PyTorch.",
            "GB/s: bytes of one pass over every input and output, over the median time. of "
            "bandwidth: over what a copy of 1 GiB reads and writes, on the CPU what a sum reads.",
            f"Left out, for memory: {'; '.join(left_out) or 'nothing'}.",
            "torch.compile was left out."
            if given.no_compile
            else f"What torch.compile does not compile: {'; '.join(sorted(refused)) or 'nothing'}.",
        ],
    )


if __name__ == "__main__":
    main()
