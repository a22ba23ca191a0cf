"""class_loss against the losses' definitions with probabilities, in many digits."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from tolerances import EPS, FEW_ROUNDINGS, exact

from advkit import ops
from advkit.losses import LOSSES

# kind, targeted, kappa, sharpness: every loss both ways, every parameter that it has twice.
SETTINGS = [
    ("cross_entropy", 0.0, 10.0),
    ("margin", 0.0, 10.0),
    ("margin", 1.5, 10.0),
    ("smooth_margin", 0.0, 10.0),
    ("smooth_margin", 1.5, 3.0),
]
SETTINGS = [(kind, t, *rest) for kind, *rest in SETTINGS for t in (False, True)]
IDS = [f"{k}-{'to' if t else 'from'}-kappa{kappa:g}" for k, t, kappa, _ in SETTINGS]

every_loss = pytest.mark.parametrize(("kind", "targeted", "kappa", "sharpness"), SETTINGS, ids=IDS)


@pytest.fixture
def implementation(implementation):
    """Leave out what differs by the length of rows alone."""
    if implementation == "triton-split":
        pytest.skip("class_loss has one form")
    return implementation


def of_one_row(z, y, kind, targeted, kappa, sharpness):
    """Return the loss and its gradient from probabilities, as the paper writes them."""
    z = [mpf(each) for each in z]
    others = [k for k in range(len(z)) if k != y]
    sign = -1 if targeted else 1
    if kind == "margin":
        rival = max(others, key=lambda k: z[k])  # the first of equals
        beyond = sign * (z[y] - z[rival]) + mpf(kappa)
        gradient = [mpf(0)] * len(z)
        if beyond > 0:
            gradient[y], gradient[rival] = mpf(sign), mpf(-sign)
        return max(beyond, 0) - mpf(kappa), gradient
    scale = mpf(1)
    if kind == "smooth_margin":  # the cross-entropy of b z, with z_y moved by kappa
        scale = mpf(sharpness)
        z[y] += sign * mpf(kappa)
        z = [scale * each for each in z]
    # So many digits that log(1 - p) keeps some of p, down to where float64 has none left.
    top = max(z)
    with mp.workdps(40 + min(1000, int(top - min(z))) // 2):
        weight = [mp.exp(each - top) for each in z]
        total = mp.fsum(weight)
        p = [each / total for each in weight]
        rest = mp.fsum(p[k] for k in others)  # 1 - p_y
        if targeted:
            return -mp.log(p[y]) / scale, [-rest if k == y else p[k] for k in range(len(z))]
        gradient = [p[y] if k == y else -p[y] * p[k] / rest for k in range(len(z))]
        return -mp.log(rest) / scale, gradient


def logits(name):
    """Return float32 logits (rows, K), with every place of the label from first to last."""
    normal = {"K=2": (6, 2), "K=10": (10, 10), "K=1000": (1, 1000)}
    if name in normal:
        return torch.randn(normal[name]) * 3
    z = torch.randn(10, 10)
    if name == "one class dominates":  # p of it rounds to 1 in float32, and to 0 for the others
        z[:, 4] += 25
    elif name == "up to 50":
        z = torch.rand(10, 10) * 100 - 50
    elif name == "up to 1e4":
        z = torch.rand(10, 10) * 2e4 - 1e4
    elif name == "far from zero":  # a common shift changes nothing
        z = z.round(decimals=1).mul(8).round() + 1e4
    elif name == "ties":
        z = torch.randint(3, (10, 10)).float()
    elif name == "all equal":
        z = torch.full((10, 10), -3.25)
    return z


LOGITS = [
    "K=2",
    "K=10",
    "K=1000",
    "one class dominates",
    "up to 50",
    "up to 1e4",
    "far from zero",
    "ties",
    "all equal",
]


def rounded(number):
    """Return a longdouble as two floats hold it."""
    first = float(number)
    return np.longdouble(first) + float(number - first)


@cache
def case(name, *setting):
    z = logits(name)
    labels = torch.arange(len(z)) % z.shape[1]
    if name == "K=1000":
        labels = torch.tensor([517])
    rows = [
        of_one_row(row, y, *setting) for row, y in zip(z.tolist(), labels.tolist(), strict=True)
    ]
    loss = np.array([rounded(row[0]) for row in rows])
    gradient = np.array([[rounded(each) for each in row[1]] for row in rows])
    return z, labels, loss, gradient


def allowed(z, wanted, kind, kappa, sharpness, dtype, implementation):
    """Return the error that rounding explains.

    exp amplifies the rounding of its argument by the argument, and is 0 anyway beyond 750. The
    kernels take exp of differences of logits; the reference subtracts last.
    """
    amplified = 0.0
    if kind != "margin":
        largest = z.abs().max() if implementation == "reference" else z.max() - z.min()
        b, kappa = (sharpness, kappa) if kind == "smooth_margin" else (1.0, 0.0)
        amplified = b * (largest.item() + kappa)
        if implementation != "reference":
            amplified = min(amplified, 750)
        kappa = 0.0
    return FEW_ROUNDINGS * EPS[dtype] * ((1 + amplified) * np.abs(wanted) + kappa)


@every_loss
@pytest.mark.parametrize("name", LOGITS)
def test_definition(name, kind, targeted, kappa, sharpness, dtype, implementation):
    z, labels, loss, gradient = case(name, kind, targeted, kappa, sharpness)
    options = {"kind": kind, "targeted": targeted, "kappa": kappa, "sharpness": sharpness}
    got = ops.class_loss(z.to(dtype), labels, **options)
    for out, wanted in zip(got, (loss, gradient), strict=True):
        assert out.dtype == dtype
        error = np.abs(exact(out) - wanted)
        bound = allowed(z, wanted, kind, kappa, sharpness, dtype, implementation)
        bound = bound + torch.finfo(dtype).tiny
        assert (error <= bound).all(), (error / bound).max()


@pytest.mark.parametrize("targeted", [False, True], ids=["from", "to"])
def test_loss_that_has_nearly_vanished_keeps_its_digits(targeted, dtype, implementation):
    """Where 1 - p is computed by subtraction, nothing is left of a loss of 1e-13."""
    z = torch.tensor([[0.0, 30.0], [30.0, 0.0]], dtype=dtype)
    labels = torch.tensor([1, 0]) if targeted else torch.tensor([0, 1])
    loss, gradient = ops.class_loss(z, labels, targeted=targeted)
    close = {"rel": 40 * EPS[dtype], "abs": 0}
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-30))] * 2, **close)
    assert gradient.abs().flatten().tolist() == pytest.approx([1 / (1 + math.exp(30))] * 4, **close)


@pytest.mark.parametrize("targeted", [False, True], ids=["from", "to"])
@pytest.mark.parametrize("k", [3, 10, 1000])
def test_first_of_equal_rivals_carries_the_gradient(k, targeted, dtype, implementation):
    labels = torch.tensor([0, 1, k // 2, k - 1])
    rows, z = torch.arange(4), torch.zeros(4, k, dtype=dtype)
    z[rows, labels] = -1.0 if targeted else 1.0
    _, gradient = ops.class_loss(z, labels, kind="margin", targeted=targeted)
    wanted = torch.zeros(4, k, dtype=dtype)
    wanted[1:, 0] = wanted[0, 1] = 1.0 if targeted else -1.0
    wanted[rows, labels] = -wanted[1, 0]
    assert torch.equal(gradient, wanted)


def test_margin_stops_at_kappa(dtype, implementation):
    """On both sides of -kappa, and on it, where the gradient is 0."""
    z = torch.tensor([[0.0, 1.75], [0.0, 1.5], [0.0, 1.25]], dtype=dtype)
    labels = torch.zeros(3, dtype=torch.int64)
    loss, gradient = ops.class_loss(z, labels, kind="margin", kappa=1.5)
    assert loss.tolist() == [-1.5, -1.5, -1.25]
    assert gradient.tolist() == [[0, 0], [0, 0], [1, -1]]


def test_smooth_margin_with_sharpness_1_is_cross_entropy(dtype, implementation):
    z, labels = torch.randn(5, 10, dtype=dtype), torch.arange(5)
    smooth = ops.class_loss(z, labels, kind="smooth_margin", sharpness=1.0)
    for out, wanted in zip(smooth, ops.class_loss(z, labels, sharpness=7.0), strict=True):
        assert torch.equal(out, wanted)


def test_smooth_margin_tends_to_the_margin(implementation):
    z, labels = torch.randn(5, 10, dtype=torch.float64), torch.arange(5)
    margin, _ = ops.class_loss(z, labels, kind="margin")
    for sharpness in (1e2, 1e4):
        smooth, _ = ops.class_loss(z, labels, kind="smooth_margin", sharpness=sharpness)
        assert ((smooth - margin).abs() <= np.log(20) / sharpness).all()


@every_loss
def test_nan_shows_in_its_row_only(kind, targeted, kappa, sharpness, dtype, implementation):
    """NaN at each place, the label's and the largest's included."""
    options = {"kind": kind, "targeted": targeted, "kappa": kappa, "sharpness": sharpness}
    z, labels = torch.randn(22, 10, dtype=dtype), torch.arange(22) % 10
    clean = ops.class_loss(z, labels, **options)
    bad = torch.arange(1, 21)
    z[bad, (bad - 1) // 2] = torch.nan
    for out, before in zip(ops.class_loss(z, labels, **options), clean, strict=True):
        assert out[bad].isnan().all()
        assert torch.equal(out[[0, 21]], before[[0, 21]])


INFINITE = {
    # name: logits, and (loss, gradient) of label 0, left and reached
    "label at inf": ([torch.inf, 1.0, 2.0], (torch.inf, 0.0)),
    "label at -inf": ([-torch.inf, 1.0, 2.0], (0.0, torch.inf)),
    "rival at inf": ([1.0, torch.inf, 2.0], (0.0, torch.inf)),
    "all rivals at -inf": ([1.0, -torch.inf, -torch.inf], (torch.inf, 0.0)),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("name", INFINITE)
@pytest.mark.parametrize("targeted", [False, True], ids=["from", "to"])
def test_infinite_logits_have_the_limit_as_loss(name, kind, targeted, dtype, implementation):
    """A network that overflows: the loss is 0 or inf as the answer says, and NaN never."""
    row, limits = INFINITE[name]
    z = torch.tensor([row], dtype=dtype)
    loss, _ = ops.class_loss(z, torch.zeros(1, dtype=torch.int64), kind=kind, targeted=targeted)
    assert loss.item() == limits[targeted]


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("name", ["label at -inf", "one rival at -inf"])
def test_minus_infinity_is_a_class_that_is_ruled_out(name, kind, dtype, implementation):
    """Masked classes: all is as if the logit were very small."""
    place = 0 if name == "label at -inf" else 1
    z = torch.tensor([[1.0, 0.5, 2.0, -1.0]], dtype=dtype)
    z[0, place] = -torch.inf
    low = z.clone()
    low[0, place] = -1e6
    for targeted in (False, True) if place else (False,):
        options = {"kind": kind, "targeted": targeted}
        got = ops.class_loss(z, torch.tensor([0]), **options)
        for out, wanted in zip(got, ops.class_loss(low, torch.tensor([0]), **options), strict=True):
            assert torch.equal(out, wanted)


@every_loss
def test_gradcheck(kind, targeted, kappa, sharpness, implementation):
    options = {"kind": kind, "targeted": targeted, "kappa": kappa, "sharpness": sharpness}
    z = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2])
    assert torch.autograd.gradcheck(lambda z: ops.class_loss(z, labels, **options)[0], z)


def test_second_derivatives_are_refused_rather_than_wrong(implementation):
    """dlogits is a constant to autograd: a Hessian through it would miss a term in silence."""
    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    loss, _ = ops.class_loss(z, torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(loss.square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.sum(), z)


@every_loss
def test_gradient_is_the_derivative(kind, targeted, kappa, sharpness, dtype, implementation):
    """The second output is what autograd makes of the first, weighted."""
    options = {"kind": kind, "targeted": targeted, "kappa": kappa, "sharpness": sharpness}
    z = torch.randn(4, 10, dtype=dtype, requires_grad=True)
    loss, gradient = ops.class_loss(z, torch.arange(4), **options)
    weight = torch.tensor([1.0, 0.0, -2.0, 0.5], dtype=dtype)
    (derivative,) = torch.autograd.grad((weight * loss).sum(), z)
    assert torch.equal(derivative, weight[:, None] * gradient)
    assert not gradient.requires_grad


CALLS = {
    "function": lambda z, labels: ops.class_loss(z, labels),
    "out variant": lambda z, labels: ops.class_loss_out(
        z, labels, loss=z[:, 0].clone(), dlogits=z.clone()
    ),
    "torch.ops": lambda z, labels: torch.ops.advkit.class_loss(
        z, labels, "margin", False, 0.0, 1.0
    ),
}


@pytest.mark.parametrize("label", [-1, 10, 2**40, -(2**63)])
@pytest.mark.parametrize("call", CALLS)
def test_labels_out_of_range(call, label, dtype, implementation):
    z, labels = torch.randn(4, 10, dtype=dtype), torch.tensor([0, 9, label, 3])
    with pytest.raises(ValueError, match=r"labels must lie in 0 \.\.\. K - 1 = 9"):
        CALLS[call](z, labels)


def test_registration():
    z, labels = torch.randn(3, 5), torch.tensor([0, 4, 2])
    for grad in (False, True):
        args = z.clone().requires_grad_(grad), labels, "smooth_margin", True, 0.5, 10.0
        torch.library.opcheck(torch.ops.advkit.class_loss.default, args)


@pytest.mark.parametrize("kind", ["cross_entropy", "margin"])
def test_compiled(kind):
    """Without a graph break, values and derivatives are those of eager mode."""
    torch.compiler.reset()
    weights, x = torch.randn(7, 10), torch.randn(4, 7)

    def run(x):
        loss, gradient = ops.class_loss(x @ weights, torch.arange(4), kind=kind)
        return loss.square().sum() + (gradient * x[:, :1]).sum()

    results = []
    for each in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        x = x.detach().requires_grad_()
        out = each(x)
        results.append((out, *torch.autograd.grad(out, x)))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


@every_loss
def test_out_variant_writes_the_result_and_nothing_else(
    kind, targeted, kappa, sharpness, dtype, implementation
):
    options = {"kind": kind, "targeted": targeted, "kappa": kappa, "sharpness": sharpness}
    z, labels = torch.randn(3, 10, dtype=dtype), torch.tensor([0, 9, 4])
    loss, dlogits = torch.full((5,), 7.0, dtype=dtype), torch.full((5, 10), 7.0, dtype=dtype)
    ops.class_loss_out(z, labels, **options, loss=loss[1:4], dlogits=dlogits[1:4])
    for out, wanted in zip((loss, dlogits), ops.class_loss(z, labels, **options), strict=True):
        assert torch.equal(out[1:4], wanted)
        assert (out[[0, 4]] == 7).all()


def test_rows_cut_out_of_a_larger_tensor(dtype, implementation):
    """Every row is surrounded by NaN: reading past its end would show."""
    frame = torch.full((9, 16), torch.nan, dtype=dtype)
    z, labels = torch.randn(4, 10, dtype=dtype), torch.tensor([0, 9, 4, 9])
    cut = frame[1::2, 3:13].copy_(z)
    for out, wanted in zip(ops.class_loss(cut, labels), ops.class_loss(z, labels), strict=True):
        assert torch.equal(out, wanted)


def test_no_rows(dtype, implementation):
    z, labels = torch.zeros(0, 10, dtype=dtype), torch.zeros(0, dtype=torch.int64)
    loss, gradient = ops.class_loss(z, labels)
    assert loss.shape == (0,)
    assert gradient.shape == (0, 10)


def test_bits_depend_on_neither_batch_nor_threads(dtype, isa, threads):
    z, labels = torch.randn(64, 1000, dtype=dtype), torch.arange(64)
    with threads(1):
        batch = ops.class_loss(z, labels)
    with threads(2):
        shared = ops.class_loss(z, labels)
        rows = [ops.class_loss(z[b : b + 1], labels[b : b + 1]) for b in range(64)]
    alone = (torch.cat(outs) for outs in zip(*rows, strict=True))
    for outs in zip(batch, shared, alone, strict=True):
        assert torch.equal(outs[1], outs[0])
        assert torch.equal(outs[2], outs[0])
