"""What the attack says to wrong arguments and to networks that answer wrongly, one by one."""

from __future__ import annotations

import math

import pytest
import torch
from problems import LinearSoftmax

from advkit.attack import lbfgs

N, CLASSES = 6, 3
NETWORK = LinearSoftmax.random(CLASSES, N).module()
X = torch.rand(4, N, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0])


def changed(x, image, value):
    """Return images of which one has another value in one place."""
    x = x.clone()
    x[image, 2] = value
    return x


BAD = {
    "x-list": ({"x": X.tolist()}, TypeError, "x must be a torch.Tensor.*got list"),
    "x-integer": ({"x": X.long()}, TypeError, "x must be float32 or float64, got torch.int64"),
    "x-bytes": ({"x": X.byte()}, TypeError, "x must be float32 or float64, got torch.uint8"),
    "x-half": ({"x": X.half()}, TypeError, "x must be.*got torch.float16"),
    "x-one-image": ({"x": X[0], "labels": LABELS[:1]}, ValueError, r"x must be a batch.*\(6,\)"),
    "x-number": ({"x": torch.tensor(0.5)}, ValueError, "x must be a batch"),
    "x-without-values": ({"x": X[:, :0]}, ValueError, r"x has images without any values.*\(4, 0\)"),
    "x-empty-without-values": ({"x": X[:0, :0], "labels": LABELS[:0]}, ValueError, "any values"),
    "x-nan": ({"x": changed(X, 2, math.nan)}, ValueError, "x must be finite, but image 2"),
    "x-inf": ({"x": changed(X, 3, math.inf)}, ValueError, "x must be finite, but image 3"),
    "x-above": ({"x": changed(X, 1, 1.5)}, ValueError, r"box \[0, 1\], but image 1.*to 1.5"),
    "x-below": ({"x": changed(X, 2, -0.5)}, ValueError, r"box \[0, 1\], but image 2.*-0.5"),
    "x-just-above": (
        {"x": changed(X, 3, math.nextafter(1.0, 2.0) + 2e-7)},
        ValueError,
        "but image 3",
    ),
    "x-in-bytes-scale": ({"x": X * 255}, ValueError, r"box \[0, 1\].*scale x, or give lower"),
    "labels-list": ({"labels": LABELS.tolist()}, TypeError, "labels must be.*got list"),
    "labels-number": ({"labels": 1}, TypeError, "labels must be a torch.Tensor.*got int"),
    "labels-float": ({"labels": LABELS.float()}, TypeError, "labels.*int64, got torch.float32"),
    "labels-int32": ({"labels": LABELS.int()}, TypeError, "labels.*int64, got torch.int32"),
    "labels-few": ({"labels": LABELS[:3]}, ValueError, r"labels must have shape \(4,\).*\(3,\)"),
    "labels-one-hot": ({"labels": torch.eye(4).long()}, ValueError, r"labels.*\(4,\).*\(4, 4\)"),
    "labels-negative": ({"labels": LABELS - 1}, ValueError, "labels.*got -1"),
    "labels-device": ({"labels": LABELS.to("meta")}, ValueError, "labels must be on cpu.*meta"),
    "model-none": ({"model": None}, TypeError, "model must be callable, got NoneType"),
    "model-text": ({"model": "resnet"}, TypeError, "model must be callable, got str"),
    "norm": ({"norm": "l2sq"}, ValueError, "norm must be.*l2, l1, linf with.*augmented.*'l2sq'"),
    "norm-penalty": (
        {"norm": "linf", "method": "penalty"},
        ValueError,
        "norm must be one of l2sq, l2, l1 with.*penalty.*got 'linf'",
    ),
    "norm-text": ({"norm": "none"}, ValueError, "norm must be one of.*got 'none'"),
    "norm-number": ({"norm": 2}, ValueError, "norm must be one of.*got 2"),
    "norm-empty": ({"norm": ""}, ValueError, "norm must be one of.*got ''"),
    "norm-zero": ({"norm": 0}, ValueError, "norm must be one of.*got 0"),
    "loss": (
        {"loss": "cross_entropy"},
        ValueError,
        "loss must be one of margin, dlr with.*augmented.*'cross_entropy'",
    ),
    "loss-penalty": (
        {"loss": "hinge", "method": "penalty"},
        ValueError,
        "loss must be one of cross_entropy.*smooth_margin, dlr.*'hinge'",
    ),
    "loss-not-callable": ({"loss": 3.0}, ValueError, "loss must be one of.*got 3.0"),
    "loss-empty": ({"loss": ""}, ValueError, "loss must be one of.*got ''"),
    "method": ({"method": "guess"}, ValueError, "method must be one of augmented, penalty.*guess"),
    "method-none": ({"method": None}, ValueError, "method must be one of.*got None"),
    "kappa-negative": ({"kappa": -1.0}, ValueError, "kappa.*at least 0, got -1"),
    "kappa-nan": ({"kappa": math.nan}, ValueError, "kappa must be finite.*nan"),
    "kappa-inf": ({"kappa": math.inf}, ValueError, "kappa must be finite.*inf"),
    "kappa-text": ({"kappa": "high"}, (TypeError, ValueError), "kappa"),
    "budget-0": ({"max_evaluations": 0}, ValueError, "max_evaluations.*at least 2, got 0"),
    "budget-1": ({"max_evaluations": 1}, ValueError, "max_evaluations.*at least 2, got 1"),
    "budget-float": ({"max_evaluations": 1e3}, ValueError, "max_evaluations.*got 1000.0"),
    "budget-none": ({"max_evaluations": None}, (TypeError, ValueError), "max_evaluations"),
    "history-0": ({"history": 0}, ValueError, "history.*at least 1, got 0"),
    "history-text": ({"history": "6"}, (TypeError, ValueError), "history"),
    "pairs-double": ({"history_dtype": torch.double}, ValueError, "history_dtype must be None"),
    "pairs-text": ({"history_dtype": "half"}, ValueError, "history_dtype must be.*got 'half'"),
    "tile-0": ({"tile": 0}, ValueError, "tile.*at least 1, got 0"),
    "tile-float": ({"tile": 2.5}, ValueError, "tile.*got 2.5"),
    "lower-nan": ({"lower": math.nan}, ValueError, "lower must be a finite number.*got nan"),
    "upper-inf": ({"upper": math.inf}, ValueError, "upper must be a finite number.*got inf"),
    "upper-text": ({"upper": "1"}, ValueError, "upper must be a finite number.*got '1'"),
    "upper-list": ({"upper": [1.0] * N}, ValueError, "upper must be a finite number or a tensor"),
    "upper-shape": ({"upper": torch.ones(N + 1)}, ValueError, r"upper must broadcast.*\(7,\)"),
    "upper-images": ({"upper": torch.ones(3, N)}, ValueError, r"upper must broadcast.*\(3, 6\)"),
    "upper-double": ({"upper": torch.ones(N).double()}, TypeError, "upper must have x's dtype"),
    "upper-integer": ({"upper": torch.ones(N).long()}, TypeError, "upper must have x's dtype"),
    "upper-bool": ({"upper": torch.ones(N).bool()}, TypeError, "upper must have.*got torch.bool"),
    "upper-bool-linf": (
        {"upper": torch.ones(N).bool(), "norm": "linf"},
        TypeError,
        "upper must have.*got torch.bool",
    ),
    "upper-device": ({"upper": torch.ones(N, device="meta")}, ValueError, "upper must be on cpu"),
    "upper-tensor-nan": ({"upper": changed(X, 1, math.nan)}, ValueError, "upper must be finite"),
    "lower-tensor-inf": ({"lower": changed(X, 1, -math.inf)}, ValueError, "lower must be finite"),
    "crossed-tensors": ({"upper": torch.full((N,), -0.1)}, ValueError, "lower must be at most"),
    "x-above-tensor": ({"upper": changed(X, 3, X[3, 2] / 2)}, ValueError, "x must.*image 3"),
    "mask-float": ({"mask": torch.ones(N)}, TypeError, "mask must be.*bool, got torch.float32"),
    "mask-list": ({"mask": [True] * N}, TypeError, "mask must be.*bool, got list"),
    "mask-shape": ({"mask": torch.ones(5).bool()}, ValueError, r"mask must broadcast.*\(5,\)"),
    "mask-device": ({"mask": torch.ones(N, device="meta").bool()}, ValueError, "mask must be on"),
    "starts-list": ({"starting_points": X.tolist()}, ValueError, "starting_points must be a"),
    "starts-shape": ({"starting_points": X[:1]}, ValueError, r"starting_points.*got \(1, 6\)"),
    "starts-double": ({"starting_points": X.double()}, ValueError, "starting_points.*float64"),
    "starts-nan": ({"starting_points": X * math.nan}, ValueError, "starting_points must be finite"),
    "starts-device": ({"starting_points": X.to("meta")}, ValueError, "starting_points must be.*on"),
    "starts-penalty": (
        {"starting_points": X, "method": "penalty"},
        ValueError,
        'starting_points need method="augmented"',
    ),
    "stop-negative": ({"stop_distance": -0.1}, ValueError, "stop_distance.*at least 0, got -0.1"),
    "stop-nan": ({"stop_distance": math.nan}, ValueError, "stop_distance.*nan"),
    "stop-text": ({"stop_distance": "near"}, ValueError, "stop_distance.*near"),
    "stop-shape": ({"stop_distance": torch.ones(3)}, ValueError, r"stop_distance.*\(4,\).*\(3,\)"),
    "stop-one": ({"stop_distance": torch.tensor(1.0)}, ValueError, r"stop_distance.*got \(\)"),
    "stop-integers": ({"stop_distance": LABELS}, ValueError, "stop_distance.*got.*int64"),
    "stop-tensor-nan": ({"stop_distance": torch.full((4,), math.nan)}, ValueError, "stop_distance"),
    "stop-device": ({"stop_distance": torch.ones(4).to("meta")}, ValueError, "stop_distance.*on"),
    "levels-1": ({"levels": 1}, ValueError, "levels must be an integer of at least 2, got 1"),
    "levels-float": ({"levels": 256.0}, ValueError, "levels must be an integer.*got 256.0"),
    "levels-budget": ({"levels": 256, "max_evaluations": 5}, ValueError, "max_evaluations.*got 5"),
    "trajectory": ({"trajectory": 1}, TypeError, "trajectory must be True or False, got 1"),
    "seed-negative": ({"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
    "seed-none": ({"seed": None}, ValueError, "seed must be.*got None"),
    "crossed": ({"lower": 1.0, "upper": 0.0}, ValueError, "lower must be less than upper"),
    "no-box": ({"lower": 0.5, "upper": 0.5}, ValueError, "lower must be less than upper"),
    "backend": ({"backend": "gpu"}, ValueError, "backend must be one of.*got 'gpu'"),
    "targeted-text": ({"targeted": "yes"}, TypeError, "targeted must be"),
    "targeted-tensor": ({"targeted": LABELS}, TypeError, "targeted must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_argument(name):
    changes, error, message = BAD[name]
    calls = []

    def spied(x):
        calls.append(len(x))
        return NETWORK(x)

    arguments = {"model": spied, "x": X, "labels": LABELS} | changes
    with pytest.raises(error, match=message):
        lbfgs(**arguments)
    assert calls == []


def test_arguments_after_targeted_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        lbfgs(NETWORK, X, LABELS, False, "l1")


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("label", [CLASSES, 100])
def test_a_label_beyond_the_networks_classes(label, targeted, method):
    labels = LABELS.clone()
    labels[2] = label
    with pytest.raises(ValueError, match=rf"labels must be 0 ... {CLASSES - 1} .*got {label}"):
        lbfgs(NETWORK, X, labels, targeted, method=method)


@pytest.mark.parametrize("values", [(0.0, 1.0), (1.0, 0.0)])
def test_images_on_the_bounds_are_inside(values, attack):
    x = torch.tensor([values * 3])
    result = attack(NETWORK, x, NETWORK(x).argmax(1), max_evaluations=40)
    assert ((result.adversarial >= 0) & (result.adversarial <= 1)).all()


def test_integers_serve_as_bounds():
    result = lbfgs(NETWORK, X, NETWORK(X).argmax(1), lower=0, upper=1, max_evaluations=10)
    assert result.settings["lower"] == 0.0


ANSWERS = {
    "none": (lambda z: None, TypeError, "tensor of logits.*NoneType"),
    "tuple": (lambda z: (z, z), TypeError, "tensor of logits.*got tuple"),
    "dict": (lambda z: {"logits": z}, TypeError, "tensor of logits.*got dict"),
    "vector": (lambda z: z[:, 0], ValueError, r"\(4, K\).*got \(4,\)"),
    "scalar": (lambda z: z.sum(), ValueError, r"\(4, K\).*got \(\)"),
    "maps": (lambda z: z[:, :, None, None], ValueError, r"\(4, K\).*got \(4, 3, 1, 1\)"),
    "one-class": (lambda z: z[:, :1], ValueError, r"K >= 2.*got \(4, 1\)"),
    "no-class": (lambda z: z[:, :0], ValueError, r"K >= 2.*got \(4, 0\)"),
    "few-rows": (lambda z: z[:2], ValueError, r"\(4, K\).*got \(2, 3\)"),
    "transposed": (lambda z: z.T, ValueError, r"\(4, K\).*got \(3, 4\)"),
    "integers": (lambda z: z.long(), TypeError, "floating logits, got torch.int64"),
    "classes": (lambda z: z.argmax(1, keepdim=True).expand(-1, 3), TypeError, "torch.int64"),
    "complex": (lambda z: z.cfloat(), TypeError, "torch.complex64"),
    "detached": (lambda z: z.detach(), ValueError, "differentiable"),
    "numpy": (lambda z: torch.from_numpy(z.detach().numpy()), ValueError, "differentiable"),
    "device": (lambda z: z.to("meta"), ValueError, "logits on cpu.*got meta"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_bad_answer_of_the_network(name, method):
    change, error, message = ANSWERS[name]
    with pytest.raises(error, match=f"model must.*{message}"):
        lbfgs(lambda x: change(NETWORK(x)), X, LABELS, method=method)


def test_a_network_that_ignores_its_input():
    with pytest.raises(ValueError, match=r"model must be differentiable.*x"):
        lbfgs(lambda x: NETWORK(torch.zeros_like(x)), X, LABELS)


def test_a_network_without_autograd():
    def switched_off(x):
        with torch.no_grad():
            return NETWORK(x)

    with pytest.raises(ValueError, match="model must be differentiable"):
        lbfgs(switched_off, X, LABELS)


@pytest.mark.parametrize("shape", [(0, N), (0, 1, 2, 3)], ids=str)
def test_an_empty_batch_has_an_empty_result(shape, dtype, attack):
    def never(x):
        raise AssertionError("nothing to attack")

    x = torch.ones(shape, dtype=dtype)
    result = attack(never, x, LABELS[:0], progress=False)
    assert result.adversarial.shape == shape
    assert result.adversarial.dtype == dtype
    assert len(result) == 0
    for name in ("success", "distance", "rms", "c", "forwards", "backwards", "status"):
        assert getattr(result, name).shape == (0,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_labels_on_another_device():
    with pytest.raises(ValueError, match="labels must be on cuda"):
        lbfgs(NETWORK, X.cuda(), LABELS)


@pytest.mark.parametrize("row", [0, 1023, 1024, 1500])
def test_the_bad_image_is_named_among_many(row):
    x, labels = torch.full((1501, 3), 0.5), torch.zeros(1501, dtype=torch.int64)
    high = torch.ones(1501, 1)
    for value, message in ((torch.nan, f"image {row} holds nan"), (1.5, f"image {row} does not")):
        bad = x.clone()
        bad[row, 2] = value
        for upper in (1.0, high):
            with pytest.raises(ValueError, match=message):
                lbfgs(torch.nn.Linear(3, 2), bad, labels, upper=upper)
    bad = x.clone()
    bad[row] = 0.8
    high[row] = 0.7  # its own bound, not its neighbour's
    with pytest.raises(ValueError, match=f"image {row} does not"):
        lbfgs(torch.nn.Linear(3, 2), bad, labels, upper=high)
