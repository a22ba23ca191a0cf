"""Files of tensors: what is written is read, and what is damaged is told."""

import pytest
import torch

from advkit._tensors import digest_of, read_tensors, write_tensors

pytest.importorskip("safetensors")
TENSORS = {
    "half": torch.tensor([1.5, -2], dtype=torch.bfloat16),
    "flags": torch.tensor([[True, False]]),
    "number": torch.tensor(3),
    "empty": torch.zeros(0, 4),
    "turned": torch.arange(6.0).view(2, 3).T,
}


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "a.safetensors"
    write_tensors(made, TENSORS, {"who": "me", "format": "other"}, kind="toys")
    return made


def test_what_is_written_is_read(path):
    tensors, words = read_tensors(path, kind="toys")
    assert words == {"who": "me", "format": "toys"}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_another_kind(path):
    with pytest.raises(ValueError, match="expected the format 'tools', got 'toys'"):
        read_tensors(path, kind="tools")


def test_any_changed_byte_is_found(path):
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"checksum|not readable|expected the format"):
            read_tensors(path, kind="toys")


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="not readable as safetensors"):
        read_tensors(tmp_path / "none.safetensors", kind="toys")


def test_a_hash_tells_values_shapes_and_types_apart():
    x = torch.arange(4.0)
    made = [digest_of([x]), digest_of([x.view(2, 2)]), digest_of([x.int()]), digest_of([x], "a")]
    made += [digest_of([x + 1]), digest_of([x, x]), digest_of([x.bfloat16()])]
    assert len(set(made)) == len(made)
    assert digest_of([torch.stack([x, x], 1)[:, 0]]) == digest_of([x])
