"""Which backend serves a call, and what is said when one cannot."""

import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch

from advkit import ops
from advkit.ops import _dispatch, available_backends, use_backend

needs_native = pytest.mark.skipif("cpu" not in available_backends(), reason="no compiled module")


def penalty(dtype=torch.float32, device="cpu"):
    x = torch.full((1, 3), 0.5, dtype=dtype, device=device)
    return ops.penalty(x, x, x, torch.ones(1, dtype=dtype, device=device))


@pytest.fixture
def served(monkeypatch):
    """Return the list of backends that served, in order."""
    calls = []
    for backend, module in (
        ("cpu", _dispatch.kernels("penalty", "cpu")),
        ("triton", _dispatch.kernels("penalty", "triton")),
        ("reference", ops.penalty.__globals__["reference"]),
    ):
        name = "penalty" if backend == "reference" else "penalty_out"
        run = getattr(module, name)

        def record(*args, _run=run, _backend=backend):
            calls.append(_backend)
            return _run(*args)

        monkeypatch.setattr(module, name, record)
    return calls


@pytest.fixture
def without_native(monkeypatch):
    """Make the compiled module impossible to import, as where it was not built."""
    monkeypatch.setitem(sys.modules, "advkit._native", None)
    monkeypatch.delattr("advkit._native", raising=False)
    _dispatch._load.cache_clear()
    _dispatch._say_once.cache_clear()
    yield
    monkeypatch.undo()
    _dispatch._load.cache_clear()
    _dispatch._say_once.cache_clear()


@needs_native
def test_automatic_choice(served):
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        penalty(dtype)
    assert served == ["cpu", "cpu", "reference", "reference"]


@needs_native
def test_use_backend_nests_and_restores(served):
    with use_backend("reference"):
        penalty()
        with use_backend("cpu"):
            penalty()
            with use_backend(None):  # changes nothing
                penalty()
        with use_backend("triton"):
            penalty()
        penalty()
    penalty()
    assert served == ["reference", "cpu", "cpu", "triton", "reference", "cpu"]


def test_use_backend_restores_after_an_error(served):
    with pytest.raises(ZeroDivisionError), use_backend("reference"):
        raise ZeroDivisionError
    penalty()
    assert served == ["cpu" if "cpu" in available_backends() else "reference"]


@needs_native
def test_use_backend_holds_for_its_own_thread(served):
    with use_backend("reference"):
        other = threading.Thread(target=penalty)
        other.start()
        other.join()
        penalty()
    assert served == ["cpu", "reference"]


def test_unknown_backend():
    with (
        pytest.raises(ValueError, match=r"backend must be one of cpu, triton, .* or None.*'metal'"),
        use_backend("metal"),
    ):
        pass


@needs_native
def test_forced_cpu_refuses_other_dtypes():
    with (
        use_backend("cpu"),
        pytest.raises(RuntimeError, match=r"takes float32 and float64, got torch\.float16"),
    ):
        penalty(torch.float16)


@needs_native
def test_forced_cpu_refuses_other_devices():
    x, c = torch.zeros(1, 3, device="meta"), torch.zeros(1, device="meta")
    out = {"value": c.clone(), "gradient": x.clone(), "free": x.bool()}
    with use_backend("cpu"), pytest.raises(RuntimeError, match="the tensors are on meta"):
        ops.penalty_out(x, x, x, c, **out)


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_a_backend_for_gpus_says_why_it_cannot_serve(backend, monkeypatch):
    """Without a GPU, and without its package."""
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    module = {"triton": "triton", "cuda": "advkit._cuda"}[backend]
    ask = {"triton": _dispatch._why_no_triton, "cuda": _dispatch._why_no_cuda}[backend]
    try:
        ask.cache_clear()
        with pytest.raises(RuntimeError, match=f"{backend}' is not available: "):
            use_backend(backend).__enter__()
        monkeypatch.setitem(sys.modules, module, None)
        ask.cache_clear()
        with pytest.raises(RuntimeError, match=r"cannot be imported .* `pip install "):
            use_backend(backend).__enter__()
    finally:
        monkeypatch.undo()
        ask.cache_clear()


@pytest.mark.parametrize(("version", "old"), [("3.3.1", True), ("3.4.0", False), ("4.0", False)])
def test_a_triton_that_is_too_old_is_not_used(version, old, monkeypatch):
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton, "__version__", version)
    _dispatch._why_no_triton.cache_clear()
    try:
        why = _dispatch._why_no_triton()
    finally:
        _dispatch._why_no_triton.cache_clear()
    assert why == (f"Triton {version} is too old; install 3.4 or newer" if old else "")


class OnGPU:
    """As much of a tensor on a GPU as the choice looks at."""

    device = torch.device("cuda", 0)
    dtype = torch.float32


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (("triton", "cuda"), "triton"),
        (("triton",), "triton"),
        (("cuda",), "cuda"),
        ((), "reference"),
    ],
)
def test_automatic_choice_on_a_gpu(there, wanted, monkeypatch):
    monkeypatch.setattr(_dispatch, "_why_not", lambda name: "" if name in there else "not here")
    _dispatch._say_once.cache_clear()
    if wanted == "reference":
        with pytest.warns(RuntimeWarning, match="slow reference backend: .*not here"):
            assert _dispatch.choose(OnGPU()) == wanted
    else:
        assert _dispatch.choose(OnGPU()) == wanted


@pytest.mark.usefixtures("without_native")
def test_missing_backend_that_was_asked_for():
    assert available_backends() == ("triton", "reference")
    with pytest.raises(RuntimeError, match=r"backend 'cpu' is not available.*advkit\._native"):
        use_backend("cpu").__enter__()


@pytest.mark.usefixtures("without_native")
def test_automatic_choice_falls_back_and_says_so_once():
    with pytest.warns(RuntimeWarning, match=r"slow reference backend.*install advkit") as said:
        value, _, _ = penalty()
    assert len(said) == 1
    assert value.item() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        penalty(torch.float64)
        ops.class_loss(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))


@pytest.mark.usefixtures("without_native")
def test_nothing_is_said_of_what_only_the_reference_runs():
    with warnings.catch_warnings(), use_backend("reference"):
        warnings.simplefilter("error")
        penalty()
        penalty(torch.float16)


@needs_native
def test_the_module_names_instruction_sets_it_cannot_run():
    with pytest.raises(ValueError, match="'avx-1024' is not available here; there are: "):
        _dispatch.native().select_isa("avx-1024")


REPORT = """
import advkit, torch
from advkit import ops
x = torch.arange(100.0).reshape(2, 50) / 100
print(advkit.show_config()["isa"], ops.penalty(x, x.flip(0), x, torch.ones(2))[0].tolist())
"""


def run_with(isa):
    return subprocess.run(
        [sys.executable, "-c", REPORT],
        env={**os.environ, "ADVKIT_ISA": isa},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_environment_chooses_the_instruction_set(isa):
    done = run_with(isa)
    assert done.stdout.split()[0] == isa, done.stderr


@needs_native
def test_environment_names_an_unknown_instruction_set():
    done = run_with("nonsense")
    assert done.returncode != 0
    known = ", ".join(_dispatch.native().available_isas())
    wanted = f"ADVKIT_ISA is 'nonsense', which is not available here; choose one of {known}"
    assert wanted in done.stderr.splitlines()[-1]
