"""Table 5: torchvision's network where it is there, and what is said of the penalty."""

import sys
from types import SimpleNamespace

import pytest
import torch

from advkit.analysis import spectrum
from advkit.experiments import table5
from advkit.experiments._convolutional import build


def test_alexnet_is_loaded_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(table5, "find_spec", lambda name: name)
    models = SimpleNamespace(alexnet=lambda: build(0))
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    assert table5._alexnet() is None
    (tmp_path / "checkpoints").mkdir()
    torch.save(build(1).state_dict(), tmp_path / "checkpoints" / table5._ALEXNET)
    found = table5._alexnet()
    assert torch.equal(found[0].weight, build(1)[0].weight)
    assert not found.training


def test_the_network_is_seeded_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    assert torch.equal(build(3)[0].weight, build(3)[0].weight)
    assert not torch.equal(build(3)[0].weight, build(4)[0].weight)
    assert torch.equal(state, torch.get_rng_state())
    model = build(0)
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
