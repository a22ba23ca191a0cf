"""Show what the kernels for GPUs take of a GPU, without one, and the time that this allows.

For every op, by Triton and by nvcc, in float32: the registers and spilled bytes of a thread, the
shared memory and threads of a block, and how many blocks a multiprocessor then holds, from the
machine code for each architecture. And what an image costs, from a run of the same kernels' PTX in
the interpreter of tests/ptx: instructions, sectors of 32 bytes, shuffles, barriers. The rings are
full and the round of lbfgs_step accepts a point.

From the costs follow three times of an H100, each as if nothing else took any: the bytes that
differ over the memory's bandwidth, the bytes that a block asks of L2, and the instructions over
what the schedulers issue. The largest is the least time that the kernel can take with many images;
it knows nothing of latencies, barriers or clocks that fall under load. None of it was measured on a
GPU. The roofline is the bytes of one pass, every input read once and every output written once,
over the memory's bandwidth.

Triton takes a quarter of a minute for each kernel that it has not kept from an earlier run.
results.csv has the figures of every architecture.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import torch
from _common import Row, as_settings, parser, use_tests, write_results
from _roofline import CLASSES, one_pass

from advkit.ops import _dispatch

use_tests()
from gpu_calls import OPS, ROWS, prepared  # noqa: E402
from ptx.resources import find_cuobjdump  # noqa: E402

# An H100 SXM5.
MEMORY = 3.35e12  # bytes/s; NVIDIA's data sheet
MULTIPROCESSORS = 132  # NVIDIA H100 architecture white paper
SCHEDULERS = 4  # of a multiprocessor, each issues an instruction of a warp a clock; white paper
CLOCK = 1.755e9  # Hz, boost; measured by chipsandcheese.com, "Nvidia's H100", 2023
# bytes/s; A100's bytes a clock (its white paper), no figure for the H100 is public.
L2 = 5120 * CLOCK
ARCHITECTURE_OF_MODEL = 90


def costs(backend: Any, call: Any, op: str, n: int, m: int) -> Row:
    """Run a call's PTX; return what it cost for each image, and the times that follow."""
    with backend.interpreted(ARCHITECTURE_OF_MODEL) as launched:
        call()
    totals = [counts for _, counts in launched]

    def each(count: Any) -> float:
        return sum(map(count, totals)) / ROWS

    instructions = each(lambda c: c.instructions.total()) / 32
    distinct = each(lambda c: c.unique_sectors_read + c.unique_sectors_written)
    of_blocks = each(lambda c: c.block_sectors_read + c.block_sectors_written)
    times = {
        "memory": 32 * distinct / MEMORY,
        "L2": 32 * of_blocks / L2,
        "issue": instructions / (MULTIPROCESSORS * SCHEDULERS * CLOCK),
    }
    roofline = one_pass(op, n, m) / MEMORY
    return {
        "warp instructions": instructions,
        "sectors read, distinct": each(lambda c: c.unique_sectors_read),
        "sectors read, all": each(lambda c: c.sectors_read),
        "sectors written, distinct": each(lambda c: c.unique_sectors_written),
        "sectors written, all": each(lambda c: c.sectors_written),
        "warp shuffles": each(lambda c: c.shuffles) / 32,
        "warp barriers": each(lambda c: c.barriers) / 32,
        **{f"{name} ns": 1e9 * time for name, time in times.items()},
        "least ns": 1e9 * max(times.values()),
        "roofline ns": 1e9 * roofline,
        "least / roofline": max(times.values()) / roofline,
    }


def measure(name: str, op: str, n: int, m: int, architectures: Sequence[int]) -> list[Row]:
    """Return a row for each architecture; the costs are those of the model's."""
    backend = importlib.import_module(f"{name}_on_ptx")
    torch.manual_seed(0)
    call = prepared(op, _dispatch.kernels(op, name), n, m, CLASSES)
    cost = costs(backend, call, op, n, m)
    rows = []
    for arch in architectures:
        with backend.assembled(arch) as launched:
            call()
        for each in launched:
            rows.append(
                {
                    "op": op,
                    "backend": name,
                    "sm": arch,
                    "n": CLASSES if op == "class_loss" else n,
                    "m": m if op in ("two_loop", "lbfgs_step") else None,
                    "kernel": each.name,
                    "registers": each.takes.registers,
                    "spilled bytes": each.takes.spilled,
                    "threads": each.threads,
                    "shared bytes": each.takes.shared + each.dynamic,
                    "blocks per SM": each.takes.blocks(arch, each.threads, each.dynamic),
                    **(cost if arch == ARCHITECTURE_OF_MODEL else dict.fromkeys(cost)),
                }
            )
            print({key: value for key, value in rows[-1].items() if value is not None}, flush=True)
    return rows


def cases(backends: Sequence[str], largest: int) -> list[tuple[str, str, int, int]]:
    """Return backend, op, values and pairs of every case."""
    found = []
    for name in backends:
        for op in OPS:
            shapes = [(n, 10) for n in (784, 3072, 4096, 8192, 12_288, 16_384, 20_000)]
            if op in ("two_loop", "lbfgs_step"):
                shapes += [(784, 5), (784, 20)]
            if op == "class_loss":
                shapes = shapes[:1]
            found += [(name, op, n, m) for n, m in shapes if n <= largest]
    return found


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each case, of the model's architecture: the worst of its kernels."""
    by_case: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["sm"] == ARCHITECTURE_OF_MODEL:
            case = tuple(row[key] for key in ("op", "backend", "n", "m"))
            by_case.setdefault(case, []).append(row)
    times = ("memory ns", "L2 ns", "issue ns", "least ns", "roofline ns", "least / roofline")
    return [
        {
            **{key: kernels[0][key] for key in ("op", "backend", "n", "m")},
            "launches": len(kernels),
            "registers": max(row["registers"] for row in kernels),
            "spilled bytes": max(row["spilled bytes"] for row in kernels),
            "threads": max(row["threads"] for row in kernels),
            "blocks per SM": min(row["blocks per SM"] for row in kernels),
            **{key: kernels[0][key] for key in times},
        }
        for kernels in by_case.values()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and write the tables."""
    options = parser("kernel_resources", __doc__)
    options.add_argument("--backends", nargs="+", default=["triton", "cuda"])
    options.add_argument("--architectures", type=int, nargs="+", default=[80, 90, 100, 120])
    options.add_argument("--largest", type=int, default=20_000, help="values of an image, at most")
    given = options.parse_args(arguments)
    # Before Triton is imported, for CPU tensors. Not above, which the compiling process runs, too.
    os.environ["TRITON_INTERPRET"] = "1"
    if find_cuobjdump() is None:
        raise SystemExit("cuobjdump is needed: Triton brings it, and the CUDA toolkit does")
    if ARCHITECTURE_OF_MODEL not in given.architectures:
        raise SystemExit(f"--architectures must name {ARCHITECTURE_OF_MODEL}, the model's")
    rows: list[Row] = []
    for case in cases(given.backends, given.largest):
        rows += measure(*case, given.architectures)
    write_results(
        given.out,
        "What the kernels for GPUs take, and the time that this allows",
        settings=as_settings(given)
        | {"memory, bytes/s": MEMORY, "L2, bytes/s": L2, "clock, Hz": CLOCK}
        | {"multiprocessors": MULTIPROCESSORS, "schedulers of each": SCHEDULERS},
        summary=summary(rows),
        rows=rows,
        notes=[
            "Nothing here was measured on a GPU: resources are those of the machine code, costs "
            "those of PTX in an interpreter, times what an H100 SXM5's data sheet allows.",
            "ns: for an image, with enough of them to fill the GPU. least: the largest of memory, "
            "L2 and issue, without latencies. Sectors have 32 bytes; distinct ones are counted "
            "once, all once for each instruction of a warp.",
            "roofline: one pass over every input and output. class_loss has 10 classes. Of several "
            "launches, which cut the image into tiles, resources are the worst, times sums; what "
            "one leaves for the next counts as bytes of memory.",
        ],
    )


if __name__ == "__main__":
    main()
