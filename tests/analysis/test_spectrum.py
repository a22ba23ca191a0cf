"""Whole networks: chains, sums, files, refusals."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advkit.analysis import Bound, Spectrum, layer_norms, norm_penalty, spectrum


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(12, 3)

    def forward(self, x):
        y = F.relu(self.first(x)) + 0.5 * x
        return self.second(torch.cat([y, x], 1))


def test_a_chain():
    model = network().requires_grad_(False)
    x = torch.rand(20, 1, 9, 9)
    found = spectrum(model, (1, 9, 9), x)
    assert [each.name for each in found.layers] == ["0", "1", "2", "4"]
    assert [each.kind for each in found.layers] == ["Conv2d", "ReLU", "MaxPool2d", "Linear"]
    assert found.product == pytest.approx(math.prod(each.upper for each in found.layers))
    for each in found.layers:
        assert 0 < each.lower <= each.upper
    for each in (found.layers[0], found.layers[3]):
        assert each.lower >= 0.9 * each.upper
    assert found.gradient <= found.jacobian * 1.0001 < found.product
    jacobians = torch.func.vmap(torch.func.jacrev(lambda one: model(one[None])[0]))(x)
    exact = torch.linalg.matrix_norm(jacobians.flatten(2), 2).max()
    assert found.jacobian == pytest.approx(float(exact), rel=1e-3)
    assert found.images == 20


def test_paths_add_up():
    torch.manual_seed(1)
    model = Residual().requires_grad_(False)
    found = spectrum(model, (6,))
    first, second = (float(torch.linalg.matrix_norm(m.weight, 2)) for m in model.children())
    assert found.product == pytest.approx(second * math.hypot(first + 0.5, 1), rel=1e-6)
    assert spectrum(model, (6,), torch.randn(50, 6)).jacobian < found.product


def test_paper_convention_is_no_bound():
    model = network()[:3]
    right, printed = (
        spectrum(model, (1, 9, 9), convention=convention)
        for convention in ("corrected", "paper-factor")
    )
    assert printed.layers[0].upper == pytest.approx(right.layers[0].upper / 2, rel=0.05)
    assert printed.layers[0].upper < printed.layers[0].lower
    assert spectrum(model, (1, 9, 9), convention="paper").layers[2].upper == 1
    assert right.layers[2].upper == 2


def test_rules_of_the_user():
    class Doubling(nn.Module):
        def forward(self, x):
            return 2 * x if x.sum() > 0 else x

    model = nn.Sequential(nn.Linear(3, 3), Doubling())
    with pytest.raises(ValueError, match="cannot trace"):
        spectrum(model, (3,))
    found = spectrum(model, (3,), rules={Doubling: lambda *_: Bound(2.0, 1.0)})
    assert found.product == pytest.approx(2 * found.layers[0].upper)


def test_saved_and_read_back(tmp_path):
    found = spectrum(network(), (1, 9, 9), torch.rand(2, 1, 9, 9))
    found.save(tmp_path / "s.json")
    assert Spectrum.load(tmp_path / "s.json") == found
    assert len(found.as_rows()) == 5
    assert "(bound)" in repr(found)
    (tmp_path / "s.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="not a saved Spectrum"):
        Spectrum.load(tmp_path / "s.json")


def test_refuses():
    with pytest.raises(TypeError, match="model: expected a torch"):
        spectrum(lambda x: x, (3,))
    with pytest.raises(TypeError, match="no rule for LSTMCell"):
        spectrum(nn.LSTMCell(3, 3), (3,))
    with pytest.raises(TypeError, match="no rule for LogSoftmax"):
        spectrum(nn.Sequential(nn.LogSoftmax(1)), (3,))
    with pytest.raises(ValueError, match="input_shape: expected positive"):
        spectrum(network(), ())
    with pytest.raises(ValueError, match="images: expected shape"):
        spectrum(network(), (1, 9, 9), torch.rand(2, 1, 8, 8))
    with pytest.raises(ValueError, match="iterations: expected"):
        spectrum(network(), (1, 9, 9), iterations=0)

    class Product(nn.Module):
        def forward(self, x):
            return x * x

    with pytest.raises(TypeError, match="no rule for the operation 'mul'"):
        spectrum(Product(), (3,))


def test_what_depends_on_the_input_is_no_constant():
    class Scaled(nn.Module):
        def forward(self, x):
            return x.view(x.size(0), -1) * x.max()

    class Pair(nn.Module):
        def forward(self, x):
            return torch.max(x, 1)[0]

    for model, words in ((Scaled(), "'max'"), (Pair(), "'max'")):
        with pytest.raises(TypeError, match=f"no rule for the operation {words}"):
            spectrum(model, (3,))


def test_written_in_place():
    class Twice(nn.Module):
        def forward(self, x):
            y = 3 * x
            z = y
            z += x  # y, too, is 4 x now, which torch.fx does not see
            return y + z

    with pytest.raises(ValueError, match="traces Twice to something else"):
        spectrum(Twice(), (3,))


def test_layer_norms_bound_and_a_penalty_pulls_them_down():
    model = network()
    found = {each.name: each for each in spectrum(model, (1, 9, 9)).layers}
    norms = layer_norms(model)
    assert list(norms) == ["0", "4"]
    for name, bound in norms.items():
        assert found[name].lower <= bound.item() <= 1.3 * found[name].upper
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        norm_penalty(model, limit=0.3).backward()
        optimizer.step()
    after = spectrum(model, (1, 9, 9)).layers
    assert after[0].upper < 0.4
    assert after[3].upper < 0.4
    assert norm_penalty(model, limit=10.0).item() == 0
    with pytest.raises(ValueError, match="limit: expected"):
        norm_penalty(model, limit=-1.0)
    with pytest.raises(ValueError, match="model: expected a Linear"):
        norm_penalty(nn.ReLU())


@pytest.mark.parametrize(
    ("mode", "padding", "bounded"),
    [("circular", 1, True), ("circular", 2, False), ("reflect", 1, False), ("replicate", 1, False)],
)
def test_layer_norms_of_padding_that_repeats_values(mode, padding, bounded):
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=padding, padding_mode=mode))
    if bounded:
        assert spectrum(model, (1, 6, 6)).layers[0].upper <= 1.01 * layer_norms(model)["0"].item()
        return
    with pytest.raises(ValueError, match=f"expected padding of zeros, or circular .* '{mode}'"):
        layer_norms(model)
