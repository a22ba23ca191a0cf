"""Every bad argument is refused with an error that names it, before any kernel sees an address.

Tensors that claim to be what they are not have more memory behind them than they need, so that a
missing check fails a test instead of ending the process.
"""

import dataclasses
import subprocess
import sys
from operator import attrgetter

import pytest
import torch

from advkit import ops
from advkit.ops import Options
from advkit.ops.lbfgs_step.state import Counter, Scalar

B, N, M, K = 3, 8, 2, 5


def penalty_inputs():
    x, x0, g_loss = torch.rand(3, B, N)
    box = {"lower": torch.zeros(B, N), "upper": torch.ones(B, N)}
    return {"x": x, "x0": x0, "g_loss": g_loss, "c": torch.ones(B), **box}


def class_loss_inputs():
    return {"logits": torch.rand(B, K), "labels": torch.arange(B)}


def two_loop_inputs():
    g, S, Y = torch.rand(B, N), torch.rand(B, M, N), torch.rand(B, M, N)
    ring = {"head": torch.zeros(B, dtype=torch.int64), "count": torch.full((B,), M)}
    return {"g": g, "S": S, "Y": Y, **ring, "free": torch.rand(B, N) < 0.5}


def step_inputs():
    state = ops.init(torch.rand(B, N), lower=torch.zeros(N), upper=1.0, history=M)
    return {"state": state, "loss": torch.rand(B), "g_loss": torch.rand(B, N)}


OUTPUTS = {
    ops.penalty_out: lambda: {
        **{"value": torch.zeros(B), "gradient": torch.zeros(B, N)},
        "free": torch.zeros(B, N, dtype=torch.bool),
    },
    ops.class_loss_out: lambda: {"loss": torch.zeros(B), "dlogits": torch.zeros(B, K)},
    ops.two_loop_out: lambda: {"direction": torch.zeros(B, N)},
}
INPUTS = {
    ops.penalty: penalty_inputs,
    ops.class_loss: class_loss_inputs,
    ops.two_loop: two_loop_inputs,
    ops.lbfgs_step: lambda: {**step_inputs(), "slots": torch.arange(B)},
    ops.penalty_out: penalty_inputs,
    ops.class_loss_out: class_loss_inputs,
    ops.two_loop_out: two_loop_inputs,
}

SPOILED = {
    "a list": lambda t: t.tolist(),
    "another dtype": lambda t: t.double() if t.is_floating_point() else t.to(torch.int32),
    "longer": lambda t: torch.cat((t, t), -1),
    "of one more dimension": lambda t: t[None],
    "on another device": lambda t: t.to("meta"),
    "with gaps": lambda t: torch.stack((t, t), -1)[..., 0],
    "sparse": lambda t: t.to_sparse(),
}
# What x, g and logits are is what the other arguments are measured by.
MEASURES = {(name, how) for name in ("x", "g", "logits") for how in ("another dtype", "longer")}
MEASURES |= {(name, "on another device") for name in ("x", "g", "logits")} | {("slots", "longer")}
TENSORS = [
    *((op, name) for op in list(INPUTS)[:3] for name in INPUTS[op]()),
    *((ops.lbfgs_step, name) for name in ("loss", "g_loss", "slots")),
    *((op, name) for op in OUTPUTS for name in OUTPUTS[op]()),
]
BAD_TENSORS = [
    (*each, how) for each in TENSORS for how in SPOILED if (each[1], how) not in MEASURES
]


@pytest.mark.parametrize(
    ("op", "name", "how"),
    BAD_TENSORS,
    ids=[f"{op.__name__}-{n}-{how}" for op, n, how in BAD_TENSORS],
)
def test_bad_tensor(op, name, how):
    given = INPUTS[op]() | (OUTPUTS[op]() if op in OUTPUTS else {})
    given[name] = SPOILED[how](given[name])
    with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
        op(**given)


@pytest.mark.parametrize("op", OUTPUTS, ids=attrgetter("__name__"))
def test_outputs_must_be_contiguous(op):
    """Rows with a distance between them, which inputs may have."""
    for name, each in OUTPUTS[op]().items():
        if each.dim() == 2:
            given = INPUTS[op]() | OUTPUTS[op]() | {name: torch.cat((each, each))[::2]}
            with pytest.raises(ValueError, match=f"^{name} must be contiguous"):
                op(**given)


@pytest.mark.parametrize(
    ("op", "change", "words"),
    [
        (ops.penalty, {"norm": "l3"}, "norm must be one of none, l2sq, l2, l1, got 'l3'"),
        (ops.penalty, {"lower": float("nan")}, "lower must be a number or a tensor, got nan"),
        (ops.penalty, {"upper": "1"}, "upper must be a number or a tensor, got '1'"),
        (ops.penalty, {"upper": True}, "upper must be a number or a tensor, got True"),
        (ops.penalty, {"x": torch.zeros(B, N).int()}, "x must have a floating dtype"),
        (ops.class_loss, {"kind": "hinge"}, "kind must be one of cross_entropy, margin, smooth_m"),
        (ops.class_loss, {"kappa": -1.0}, "kappa must be finite and at least 0, got -1.0"),
        (ops.class_loss, {"kappa": float("inf")}, "kappa must be finite"),
        (ops.class_loss, {"sharpness": 0.0}, "sharpness must be finite and positive, got 0.0"),
        (ops.class_loss, {"logits": torch.zeros(B, 1)}, "logits must have at least 2 classes"),
        (ops.two_loop, {"S": torch.zeros(B, 0, N)}, "S must have room for at least one pair"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_bad_option(op, change, words, implementation):
    with pytest.raises((TypeError, ValueError), match=f"^{words}"):
        op(**INPUTS[op]() | change)


@pytest.mark.parametrize("value", [-1, M, 2**40])
def test_head_out_of_range(value, dtype, implementation):
    given = two_loop_inputs() | {"head": torch.tensor([0, value, 1])}
    given |= {name: given[name].to(dtype) for name in ("g", "S", "Y")}
    with pytest.raises(ValueError, match=r"^head must lie in 0 \.\.\. m - 1 = 1"):
        ops.two_loop(**given)


@pytest.mark.parametrize("value", [-1, M + 1, 2**40])
def test_count_out_of_range(value, dtype, implementation):
    given = two_loop_inputs() | {"count": torch.tensor([0, value, 1])}
    given |= {name: given[name].to(dtype) for name in ("g", "S", "Y")}
    with pytest.raises(ValueError, match=r"^count must lie in 0 \.\.\. m = 2"):
        ops.two_loop(**given)


@pytest.mark.parametrize("value", [-1, B, 2**40])
def test_slots_out_of_range(value, implementation):
    with pytest.raises(ValueError, match=r"^slots must lie in 0 \.\.\. 2"):
        ops.lbfgs_step(**step_inputs(), slots=torch.tensor([0, value, 1]))


@pytest.mark.parametrize(("column", "value"), [("HEAD", -1), ("HEAD", M), ("COUNT", M + 1)])
def test_damaged_counters(column, value, isa):
    """The kernels index with them."""
    given = step_inputs()
    given["state"].counters[1, Counter[column]] = value
    with pytest.raises(ValueError, match="counters"):
        ops.lbfgs_step(**given)


def backed(*shape, dtype=torch.float32):
    """Return a contiguous tensor with much more memory behind it."""
    size = torch.Size(shape).numel()
    return torch.zeros(16 * size + 4096, dtype=dtype)[:size].view(shape)


DAMAGED = {
    "trial shorter": {"trial": backed(B, N - 1)},
    "trial of fewer slots": {"trial": backed(B - 1, N)},
    "vectors of fewer slots": {"vectors": backed(B - 1, 6, 16)},
    "vectors without a row": {"vectors": backed(B, 5, 16)},
    "vectors in float16": {"vectors": backed(B, 6, 16, dtype=torch.float16)},
    "vectors transposed": {"vectors": backed(6, B, 16).transpose(0, 1)},
    "history without padding": {"history": backed(B, M, 2, N)},
    "history in float64": {"history": backed(B, M, 2, 16, dtype=torch.float64)},
    "history without room": {"history": backed(B, 0, 2, 16)},
    "scalars in float32": {"scalars": backed(B, len(Scalar))},
    "scalars without a column": {"scalars": backed(B, len(Scalar) - 1, dtype=torch.float64)},
    "counters in int64": {"counters": backed(B, 8, dtype=torch.int64)},
    "counters in int16": {"counters": backed(B, 8, dtype=torch.int16)},
    "x0 where there is no penalty": {"x0": backed(B, N)},
    "x0 missing": {"norm": "l2sq"},
    "x0 in float16": {"norm": "l2sq", "x0": backed(B, N, dtype=torch.float16)},
    "lower shorter": {"lower": backed(1, N - 1)},
    "lower of fewer slots": {"lower": backed(B - 1, N)},
    "upper in float64": {"upper": backed(1, 1, dtype=torch.float64)},
    "upper with gaps": {"upper": backed(1, 2 * N)[:, ::2]},
}


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_state(how, isa):
    """Tensors of a state that were resized or replaced; named, or what they no longer fit."""
    given = step_inputs()
    given["state"] = dataclasses.replace(given["state"], **DAMAGED[how])
    name = "loss|g_loss|state.history" if how.startswith("trial") else f"state.{how.split()[0]}"
    with pytest.raises((TypeError, ValueError), match=f"^({name}|state.vectors) must "):
        ops.lbfgs_step(**given)


RAW = {
    "x0 shorter": ("penalty", "x0", lambda: backed(B, N - 1)),
    "x0 in float64": ("penalty", "x0", lambda: backed(B, N, dtype=torch.float64)),
    "g_loss with gaps": ("penalty", "g_loss", lambda: backed(B, 2 * N)[:, ::2]),
    "c shorter": ("penalty", "c", lambda: backed(B - 1)),
    "lower shorter": ("penalty", "lower", lambda: backed(1, N - 1)),
    "labels in int32": ("class_loss", "labels", lambda: backed(B, dtype=torch.int32)),
    "labels shorter": ("class_loss", "labels", lambda: backed(B - 1, dtype=torch.int64)),
    "Y of fewer pairs": ("two_loop", "Y", lambda: backed(B, M - 1, N)),
    "Y in another dtype than S": ("two_loop", "Y", lambda: backed(B, M, N, dtype=torch.half)),
    "S in int16": ("two_loop", "S", lambda: backed(B, M, N, dtype=torch.int16)),
    "head in int32": ("two_loop", "head", lambda: backed(B, dtype=torch.int32)),
    "free shorter": ("two_loop", "free", lambda: backed(B, N - 1, dtype=torch.bool)),
    "free in float32": ("two_loop", "free", lambda: backed(B, N)),
}
TAILS = {"penalty": ("l2sq",), "class_loss": ("margin", False, 0.0, 1.0), "two_loop": ()}


@pytest.mark.parametrize("how", RAW)
def test_registered_ops_check_too(how, isa):
    """torch.ops.advkit.* is public, and a compiler may hand it tensors laid out in other ways."""
    op, name, make = RAW[how]
    given = INPUTS[getattr(ops, op)]() | {name: make()}
    with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
        getattr(torch.ops.advkit, op)(*given.values(), *TAILS[op])


FREED = """
import torch
from advkit import ops
x = torch.rand(4, 100_000)
x0 = x.clone()
x0.untyped_storage().resize_(0)
try:
    ops.penalty(x, x0, x, torch.ones(4))
except (ValueError, RuntimeError) as error:
    print(error)
"""


def test_memory_that_was_given_back():
    """Sharded training frees parameters so. The address is null: reading it ends the process."""
    done = subprocess.run(
        [sys.executable, "-c", FREED], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"ended by signal {-done.returncode}"
    assert done.stdout.startswith("x0 ")


def test_memory_that_ends_within_rows_far_apart():
    """As many values as the storage still holds, but the last of them lies behind its end."""
    x = torch.rand(8, 100)
    x0 = x.clone()[::2]
    behind = x.clone()[4:]  # starts where its storage will end
    for each in x0, behind:
        each.untyped_storage().resize_(4 * 500)
    with pytest.raises(ValueError, match=r"^x0 must have its memory"):
        ops.penalty(x[:4], behind, x[:4], torch.ones(4))
    with pytest.raises(ValueError, match=r"^x0 must have its memory"):
        ops.penalty(x[::2], x0, x[::2], torch.ones(4))


def test_negated_views(implementation):
    """The imaginary part of a conjugate is a lazy negation: the memory holds the other sign."""
    x = torch.complex(torch.zeros(3, 1), torch.ones(3, 1)).conj().imag
    assert x.is_neg()
    zero = torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"^x must "):
        ops.penalty(x, zero, zero, torch.ones(3), lower=-9.0, upper=9.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": torch.zeros(N)}, r"start must have shape \(any, any\), got \(8,\)"),
        ({"start": torch.zeros(B, N).int()}, "start must have a floating dtype"),
        ({"history": 0}, "history must be an integer of at least 1, got 0"),
        ({"history": 2.0}, "history must be an integer of at least 1, got 2.0"),
        ({"history": True}, "history must be an integer of at least 1, got True"),
        ({"history_dtype": torch.float64}, "history_dtype must be None, torch.bfloat16 or torch."),
        ({"history_dtype": "float16"}, "history_dtype must be .* got 'float16'"),
        (
            {"start": torch.zeros(B, N).double(), "history_dtype": torch.float16},
            "history_dtype=torch.float16 needs values of torch.float32, got torch.float64",
        ),
        ({"norm": "l3"}, "norm must be one of"),
        ({"norm": "l1"}, "x0 must be given with norm='l1'"),
        ({"norm": "l1", "x0": torch.zeros(B, N - 1)}, r"x0 must have shape \(3, 8\), got \(3, 7\)"),
        ({"norm": "l1", "x0": torch.zeros(B, N).double()}, "x0 must have dtype torch.float32"),
        ({"c": 1.0}, "c must be a torch.Tensor, got float"),
        ({"c": torch.ones(B - 1)}, r"c must have shape \(3,?\), got \(2,\)"),
        ({"lower": torch.zeros(N - 1)}, r"lower must broadcast to \(3, 8\), got shape \(7,\)"),
        ({"upper": torch.ones(N).double()}, "upper must have dtype torch.float32"),
        ({"upper": "high"}, "upper must be a number or a tensor, got 'high'"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_bad_start(change, words):
    with pytest.raises((TypeError, ValueError), match=f"^{words}"):
        ops.init(**{"start": torch.zeros(B, N), **change})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gradient_tolerance", float("nan")),
        ("relative_tolerance", "small"),
        ("stagnation_window", 0),
        ("stagnation_window", 2.0),
        ("max_evaluations", True),
        ("max_evaluations", 2**31),
    ],
)
def test_bad_options(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .* got {value!r}"):
        Options(**{name: value})
