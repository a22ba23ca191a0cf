import json

import pytest

from advkit.data import Dataset
from advkit.transfer import cross_training_set, matrix, predictions


def test_tables_3_and_4(models, images, labels):
    whole = Dataset(images, labels, "toy", "train", ("a", "b", "c"))
    parts = {"P1": whole.half(1), "P2": whole.half(2)}
    found = cross_training_set(models, images, labels, parts=parts)
    for name, part in parts.items():
        wrong = [
            float((predictions(model, part.images) != part.labels).float().mean())
            for model in models.values()
        ]
        assert found.parts[name] == pytest.approx(wrong)
    expected = matrix(models, images, labels, noise=(0.06, 0.1), rms=(0.1,), clip=("none", "after"))
    assert found.matrix.to_dict() == expected.to_dict()
    table3 = found.as_rows()
    assert [row["model"] for row in table3] == list(models)
    assert table3[1]["distortion"] == found.matrix.row("adversarial", "near").distortion
    assert table3[0]["error P1"] == found.parts["P1"][0]
    json.dumps(found.to_dict(), allow_nan=False)


def test_batch_size_is_checked_first(models, images, labels):
    part = Dataset(images, labels, "toy", "train", ("a", "b", "c"))
    with pytest.raises(ValueError, match="batch_size"):
        cross_training_set(models, images, labels, parts={"P1": part}, batch_size=0)


def test_empty_part(models, images, labels):
    whole = Dataset(images[:0], labels[:0], "toy", "train", ("a", "b", "c"))
    with pytest.raises(ValueError, match="parts: expected images in 'P1'"):
        cross_training_set(models, images, labels, parts={"P1": whole})
