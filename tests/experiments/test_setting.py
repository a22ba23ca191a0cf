"""What an interrupted experiment keeps."""

import pytest
import torch

from advkit.experiments import Setting
from advkit.models import build


def test_kept_values_that_cannot_be_read(tmp_path):
    setting = Setting("mnist-5k", images=1, work=tmp_path)
    assert setting.kept({"a": 1}, lambda: {"b": 2}) == {"b": 2}
    assert setting.kept({"a": 1}, dict) == {"b": 2}
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    with pytest.raises(ValueError, match=rf"{path.name} cannot be read .* remove it to compute"):
        setting.kept({"a": 1}, dict)


def test_a_kept_network_is_not_trained_again(tmp_path):
    setting, calls = Setting("mnist-5k", images=1, work=tmp_path), []

    def trained(**what):
        model = build("fc10")

        def train():
            calls.append(what)
            torch.nn.init.ones_(model[1].weight)

        setting.kept_network(what, model.train(), train)
        return model

    first = trained(epochs=1)
    again = trained(epochs=1)
    assert torch.equal(first[1].weight, again[1].weight)
    assert not again.training
    assert calls == [{"epochs": 1}]
    trained(epochs=2)
    assert len(calls) == 2
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(RuntimeWarning, match=r"cannot be used .*; training it again"):
        trained(epochs=1)
    assert len(calls) == 3
