"""Table 5: torchvision's network where it is there, and what is said of the penalty."""

from types import SimpleNamespace

import pytest
import torch

from advkit.analysis import spectrum
from advkit.experiments import table5
from advkit.experiments._convolutional import build


@pytest.mark.parametrize("error", [ImportError, FileNotFoundError])
def test_alexnet_is_taken_where_it_is(monkeypatch, error):
    def missing(name):
        raise error(name)

    monkeypatch.setattr(table5.imagenet, "network", missing)
    assert table5._alexnet() is None
    there = torch.nn.Module()
    there.network = build(seed=1)
    monkeypatch.setattr(table5.imagenet, "network", lambda name: SimpleNamespace(model=there))
    assert table5._alexnet() is there.network


def test_the_network_is_seeded_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    assert torch.equal(build(seed=3)[0].weight, build(seed=3)[0].weight)
    assert not torch.equal(build(seed=3)[0].weight, build(seed=4)[0].weight)
    assert torch.equal(state, torch.get_rng_state())
    for shape in ((1, 28, 28), (3, 32, 32), (3, 27, 9), (2, 5, 6)):
        assert build(shape)(torch.zeros(2, *shape)).shape == (2, 10)
    model = build()
    assert model[:-1](torch.zeros(2, 1, 28, 28)).shape == (2, 100)
    pool = next(e for e in spectrum(model, (1, 28, 28)).layers if e.kind == "MaxPool2d")
    assert pool.upper == pytest.approx(2)


@pytest.mark.parametrize(("error", "said"), [(0.001, "+4.2 standard"), (0.0, "the minimum")])
def test_the_verdict_is_in_standard_errors(error, said):
    rows = [
        {
            "network": name,
            "average min. distortion (RMS)": distortion,
            "standard error": error,
        }
        for name, distortion in (("convolutional", 0.05), ("convolutional, penalty 1", 0.056))
    ]
    words = table5._verdict([{"network": "FC100-100-10"}, *rows])
    assert said in words
    assert ("+12 %" in words) == bool(error)
