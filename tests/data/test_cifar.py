import numpy as np
import pytest
import torch

from advkit.data import fingerprint, load


def write(folder, name, labels):
    """A batch whose image i has red i, green 100 + i, blue 200 + i."""
    folder.mkdir(parents=True, exist_ok=True)
    records = bytearray()
    for place, label in enumerate(labels):
        records += bytes([label])
        for colour in range(3):
            records += bytes([100 * colour + place]) * 1024
    (folder / name).write_bytes(records)


@pytest.fixture
def folder(tmp_path):
    for number in range(1, 6):
        write(tmp_path, f"data_batch_{number}.bin", [number, 0])
    write(tmp_path, "test_batch.bin", [9, 1, 8])
    return tmp_path


def test_values(folder):
    train, test = load("cifar-10", "train", root=folder), load("cifar-10", "test", root=folder)
    assert train.labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert test.labels.tolist() == [9, 1, 8]
    assert test.images.shape == (3, 3, 32, 32)
    assert test.classes[1] == "automobile"
    wanted = torch.tensor([2.0, 102, 202]).view(3, 1, 1).expand(3, 32, 32) / 255
    assert torch.equal(test.images[2], wanted)
    assert fingerprint("cifar-10", "train", root=folder) != fingerprint(
        "cifar-10", "test", root=folder
    )


def test_rows_and_columns(folder):
    pixels = np.arange(1024, dtype=np.uint16).astype(np.uint8)
    content = bytes([3]) + bytes(pixels) + bytes(2048)
    (folder / "test_batch.bin").write_bytes(content)
    red = load("cifar-10", "test", root=folder).images[0, 0]
    assert torch.equal(red.mul(255).round().flatten(), torch.from_numpy(pixels).float())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated or damaged: .* the file has 0"),
        (bytes(3072), ".* records of 3073 bytes, the file has 3072"),
        (bytes([10]) + bytes(3072), "label 10 is out of range"),
    ],
    ids=["empty", "cut", "label"],
)
def test_damaged_files(folder, content, message):
    (folder / "test_batch.bin").write_bytes(content)
    with pytest.raises(ValueError, match=f"test_batch.bin: {message}"):
        load("cifar-10", "test", root=folder)


def test_what_is_missing_is_named(folder):
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no data_batch_3\.bin[\s\S]*cifar-10-binary"):
        load("cifar-10", root=folder)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load("cifar-10", root=folder / "nowhere")
