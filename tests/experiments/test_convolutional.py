"""The cache of the convolutional networks."""

import warnings

import pytest
import torch

from advkit._tensors import write_tensors
from advkit.experiments import Setting
from advkit.experiments import _convolutional as module
from advkit.models.cache import _FORMAT


@pytest.fixture
def once(small, tmp_path, monkeypatch):
    """Return a function that trains, or reads, a network in a cache of its own, and counts."""
    monkeypatch.setenv("ADVKIT_CACHE", str(tmp_path / "kept"))
    original, calls = module._train, []

    def counted(*args):
        calls.append(args)
        original(*args)

    monkeypatch.setattr(module, "_train", counted)

    def run():
        setting = Setting("mnist-5k", images=10, work=tmp_path / "work", quick=True)
        return module.convolutional(setting), len(calls)

    return run


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other"])
def test_a_damaged_network_is_trained_again(once, tmp_path, damage):
    first, count = once()
    assert count == 1
    assert once()[1] == 1
    (path,) = (tmp_path / "kept").iterdir()
    content = path.read_bytes()
    if damage == "other":
        write_tensors(path, module.build().state_dict(), {"recipe": "{}"}, kind=_FORMAT)
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes({"flipped": flipped, "cut": content[:-9], "empty": b""}[damage])
    with pytest.warns(RuntimeWarning, match=r"cannot be used .*; training it again"):
        again, count = once()
    assert count == 2
    for one, other in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    with warnings.catch_warnings():
        assert once()[1] == 2


def test_a_folder_that_cannot_be_written_is_told_before_training(once, tmp_path):
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(OSError, match=r"the cache folder .* cannot be used"):
        once()
