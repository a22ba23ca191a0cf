"""What `minimize` says to wrong arguments, one by one, and what it makes of empty batches."""

from __future__ import annotations

import math

import pytest
import torch

from advkit.ops import use_backend
from advkit.optim import minimize

X0 = torch.ones(3, 4)


def bowl(x):
    return x.square().flatten(1).sum(1), 2 * x


BAD = {
    "x0-list": ([[1.0]], {}, TypeError, "x0 must be a torch.Tensor, got list"),
    "x0-0-d": (torch.tensor(1.0), {}, ValueError, "x0 must have a batch dimension"),
    "x0-integer": (torch.ones(3, 4).long(), {}, TypeError, "x0.*torch.int64"),
    "x0-complex": (torch.ones(3, 4).cfloat(), {}, TypeError, "x0.*torch.complex64"),
    "x0-nan": (torch.tensor([[1.0, math.nan]]), {}, ValueError, "x0 must be finite"),
    "x0-inf": (torch.tensor([[1.0, math.inf]]), {}, ValueError, "x0 must be finite"),
    "x0-without-values": (torch.ones(3, 0), {}, ValueError, "x0"),
    "lower-nan": (X0, {"lower": math.nan}, (TypeError, ValueError), "lower"),
    "upper-nan": (X0, {"upper": torch.tensor(math.nan)}, ValueError, "nan"),
    "upper-nan-in-places": (X0, {"upper": torch.tensor([1, 1, math.nan, 1])}, ValueError, "nan"),
    "lower-text": (X0, {"lower": "0"}, TypeError, "lower must be a number or a tensor, got '0'"),
    "lower-flag": (X0, {"lower": True}, TypeError, "lower must be a number or a tensor, got True"),
    "lower-none": (X0, {"lower": None}, TypeError, "lower must be a number or a tensor, got None"),
    "lower-inf": (X0, {"lower": math.inf}, ValueError, "lower"),
    "upper-minus-inf": (X0, {"upper": -math.inf}, ValueError, "upper"),
    "lower-dtype": (X0, {"lower": torch.zeros(4).double()}, TypeError, "lower.*torch.float64"),
    "upper-dtype": (X0, {"upper": torch.ones(4).long()}, TypeError, "upper.*torch.int64"),
    "lower-shape": (X0, {"lower": torch.zeros(3)}, ValueError, r"lower.*\(3, 4\).*\(3,\)"),
    "upper-shape": (X0, {"upper": torch.ones(2, 4)}, ValueError, r"upper.*\(3, 4\).*\(2, 4\)"),
    "lower-dimensions": (X0, {"lower": torch.zeros(1, 3, 4)}, ValueError, "lower"),
    "lower-device": (X0, {"lower": torch.zeros(4, device="meta")}, ValueError, "lower.*meta"),
    "crossed": (X0, {"lower": 1.0, "upper": 0.0}, ValueError, "lower must be at most upper"),
    "crossed-in-one-place": (
        X0,
        {"lower": 0.0, "upper": torch.tensor([1.0, 1, -1, 1])},
        ValueError,
        "lower must be at most upper",
    ),
    "history-0": (X0, {"history": 0}, ValueError, "history.*at least 1, got 0"),
    "history-float": (X0, {"history": 2.0}, ValueError, "history.*got 2.0"),
    "history-flag": (X0, {"history": True}, ValueError, "history.*got True"),
    "pairs-double": (
        X0,
        {"history_dtype": torch.float64},
        ValueError,
        "history_dtype must be None",
    ),
    "pairs-text": (X0, {"history_dtype": "float16"}, ValueError, "history_dtype.*got 'float16'"),
    "pairs-of-double": (
        X0.double(),
        {"history_dtype": torch.float16},
        ValueError,
        "history_dtype=torch.float16 needs values of torch.float32, got torch.float64",
    ),
    "budget-0": (X0, {"max_evaluations": 0}, ValueError, "max_evaluations.*at least 1, got 0"),
    "budget-negative": (X0, {"max_evaluations": -5}, ValueError, "max_evaluations.*got -5"),
    "budget-float": (X0, {"max_evaluations": 10.0}, ValueError, "max_evaluations.*got 10.0"),
    "budget-huge": (X0, {"max_evaluations": 2**31}, ValueError, "max_evaluations"),
    "window-0": (X0, {"stagnation_window": 0}, ValueError, "stagnation_window.*got 0"),
    "gradient-nan": (X0, {"gradient_tolerance": math.nan}, ValueError, "gradient_tolerance"),
    "gradient-text": (X0, {"gradient_tolerance": "small"}, ValueError, "gradient_tolerance"),
    "relative-nan": (X0, {"relative_tolerance": math.nan}, ValueError, "relative_tolerance"),
    "stagnation-nan": (X0, {"stagnation_tolerance": math.nan}, ValueError, "stagnation_tolerance"),
    "history-text": (X0, {"history": "a"}, ValueError, "history must be an integer.*got 'a'"),
    "tile-0": (X0, {"tile": 0}, ValueError, "tile must be an integer of at least 1, got 0"),
    "tile-float": (X0, {"tile": 2.0}, ValueError, "tile.*got 2.0"),
    "tile-flag": (X0, {"tile": True}, ValueError, "tile.*got True"),
    "backend": (X0, {"backend": "cuda9"}, ValueError, "backend must be one of .*got 'cuda9'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_argument(name):
    x0, options, error, message = BAD[name]
    calls = []

    def spied(x):
        calls.append(x)
        return bowl(x)

    with pytest.raises(error, match=message):
        minimize(spied, x0, **options)
    assert calls == []


def test_arguments_after_the_bounds_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        minimize(bowl, X0, 0.0, 1.0, 10)


@pytest.mark.parametrize("function", [None, "bowl", 3])
def test_a_function_that_is_none(function):
    with pytest.raises(TypeError, match="callable"):
        minimize(function, X0)


ANSWERS = {
    "list": (lambda v, g: [v, g], TypeError, "tuple"),
    "value-alone": (lambda v, g: v, TypeError, "tuple"),
    "three": (lambda v, g: (v, g, g), TypeError, "tuple"),
    "none": (lambda v, g: None, TypeError, "tuple"),
    "value-float": (lambda v, g: (1.0, g), TypeError, "value.*torch.Tensor, got float"),
    "value-shape": (lambda v, g: (v[:, None], g), ValueError, r"value.*shape \(3\).*\(3, 1\)"),
    "value-sum": (lambda v, g: (v.sum(), g), ValueError, "value.*shape"),
    "value-rows": (lambda v, g: (v[:2], g), ValueError, "value.*shape"),
    "value-dtype": (lambda v, g: (v.double(), g), TypeError, "value.*float32, got torch.float64"),
    "value-integer": (lambda v, g: (v.long(), g), TypeError, "value.*torch.int64"),
    "value-device": (lambda v, g: (v.to("meta"), g), ValueError, "value.*meta"),
    "gradient-none": (lambda v, g: (v, None), ValueError, "gradient.*NoneType"),
    "gradient-shape": (lambda v, g: (v, g.T), ValueError, r"gradient.*\(3, 4\), got \(4, 3\)"),
    "gradient-flat": (lambda v, g: (v, g.flatten()), ValueError, r"gradient.*\(12,\)"),
    "gradient-rows": (lambda v, g: (v, g[:2]), ValueError, r"gradient.*\(2, 4\)"),
    "gradient-dtype": (lambda v, g: (v, g.double()), TypeError, "gradient.*got torch.float64"),
    "gradient-device": (lambda v, g: (v, g.to("meta")), ValueError, "gradient.*meta"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_bad_answer_of_the_function(name):
    change, error, message = ANSWERS[name]
    with pytest.raises(error, match=f"value_and_grad.*{message}"):
        minimize(lambda x: change(*bowl(x)), X0)


@pytest.mark.parametrize("shape", [(0, 4), (0, 1, 2, 3)], ids=str)
def test_an_empty_batch_has_an_empty_result(shape, dtype):
    def never(x):
        raise AssertionError("nothing to evaluate")

    x0 = torch.ones(shape, dtype=dtype)
    lower = torch.zeros(shape[1:], dtype=dtype)
    result = minimize(never, x0, lower, 1.0, progress=False, tile=3)
    assert result.x.shape == shape
    assert result.x.dtype == dtype
    for name in ("value", "gradient_norm", "status", "evaluations", "iterations"):
        assert getattr(result, name).shape == (0,)


def test_a_block_that_chooses_a_backend_reaches_into_minimize(monkeypatch):
    from advkit.ops.lbfgs_step import kernel_native

    def fail(*args):
        raise AssertionError("the compiled kernel runs")

    monkeypatch.setattr(kernel_native, "lbfgs_step", fail)
    with use_backend("reference"):
        minimize(bowl, X0)
    minimize(bowl, X0, backend="reference")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_function_that_differentiates_works_in_every_mode_of_the_caller(mode):
    def half_distance_to_two(x):
        x = x.requires_grad_()
        value = (x - 2).square().sum(1) / 2
        return value, torch.autograd.grad(value.sum(), x)[0]

    with mode():
        result = minimize(half_distance_to_two, torch.zeros(3, 4), 0.0, 1.0)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert not result.x.is_inference()
    assert (result.x == 1).all()
