"""Show that the kernels' threads and PyTorch's do not slow each other down.

Both the compiled kernels and PyTorch run their own pool of OpenMP threads when each brings a
runtime of its own, and a pool that keeps spinning after its work takes processors from the other.
This times a matrix product of PyTorch, the two-loop kernel, and both in turns, as an attack
interleaves them. Alternating should cost the sum of the two, a ratio of about 1, with any number
of threads; a clash shows as a ratio well over 1. The kernel's result is compared between numbers of
threads, too: it must be the same to the bit.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from _common import Row, as_settings, parser, write_results
from torch import Tensor

from advkit.ops import two_loop_out, use_backend


def make_work(
    images: int, n: int, history: int, size: int
) -> tuple[Callable[[], None], Callable[[], None], Tensor]:
    """Return a product of PyTorch, a call of the kernel, and where the kernel writes."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    left, right, product = normal(size, n), normal(n, size), torch.empty(size, size)
    gradient, steps = normal(images, n), normal(images, history, n)
    # Curvature as of a diagonal Hessian, so that every pair takes part.
    changes = steps * (0.5 + torch.rand(n, generator=random))
    head = torch.zeros(images, dtype=torch.int64)
    count = torch.full((images,), history)
    free = torch.rand((images, n), generator=random) < 0.8
    direction = torch.empty_like(gradient)

    def multiply() -> None:
        torch.mm(left, right, out=product)

    def kernel() -> None:
        two_loop_out(gradient, steps, changes, head, count, free, direction=direction)

    return multiply, kernel, direction


def seconds_per_call(functions: Sequence[Callable[[], None]], calls: int) -> float:
    """Time `calls` rounds of the functions in turns; return the seconds of one round."""
    start = time.perf_counter()
    for _ in range(calls):
        for function in functions:
            function()
    return (time.perf_counter() - start) / calls


def measure(images: int, n: int, *, history: int, size: int, calls: int, repeats: int) -> Row:
    """Time one size with the current number of threads; medians over `repeats`, in turns."""
    multiply, kernel, _ = make_work(images, n, history, size)
    cases = {"mm": [multiply], "kernel": [kernel], "both": [multiply, kernel]}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for functions in cases.values():
        seconds_per_call(functions, max(1, calls // 10))
    ratios = []
    for _ in range(repeats):
        for name, functions in cases.items():
            times[name].append(seconds_per_call(functions, calls))
        ratios.append(times["both"][-1] / (times["mm"][-1] + times["kernel"][-1]))
    return {
        "threads": torch.get_num_threads(),
        "images": images,
        "n": n,
        **{f"{name} us": 1e6 * statistics.median(values) for name, values in times.items()},
        "both / sum": statistics.median(ratios),
        "both / sum, smallest": min(ratios),
        "both / sum, largest": max(ratios),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all sizes with each number of threads, and write the tables."""
    options = parser("threads", __doc__)
    options.add_argument("--images", type=int, nargs="+", default=[8, 64, 512])
    options.add_argument("--n", type=int, default=784, help="values per image")
    options.add_argument("--history", type=int, default=10, help="pairs")
    options.add_argument("--size", type=int, default=100, help="rows and columns of the product")
    options.add_argument("--calls", type=int, default=300, help="rounds in one timing")
    options.add_argument("--repeats", type=int, default=9)
    given = options.parse_args(arguments)
    rows: list[Row] = []
    answers: dict[int, Tensor] = {}
    with use_backend("cpu"):
        for images in given.images:
            for threads in range(1, given.threads + 1):
                torch.set_num_threads(threads)
                rows.append(
                    measure(
                        images,
                        given.n,
                        history=given.history,
                        size=given.size,
                        calls=given.calls,
                        repeats=given.repeats,
                    )
                )
                print(rows[-1])
                _, kernel, direction = make_work(images, given.n, given.history, given.size)
                kernel()
                expected = answers.setdefault(images, direction)
                if not torch.equal(direction, expected):
                    raise AssertionError(f"{images} images: other bits with {threads} threads")
    write_results(
        given.out,
        "Two OpenMP runtimes in one process",
        settings=as_settings(given),
        summary=rows,
        rows=rows,
        notes=[
            "both / sum: time of a product and a kernel call in turns over the sum of the times "
            "that each takes when repeated alone; 1 is no interference. It may be a little over "
            "1 because the two evict each other's data from the cache, with one thread, too.",
            "The kernel's result has the same bits with any number of threads.",
        ],
    )


if __name__ == "__main__":
    main()
