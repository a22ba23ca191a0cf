"""AttackResult: its checks, its summary, and its file."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from advkit.attack.result import AttackResult, AttackStatus

TENSORS = ("adversarial", "success", "distance", "rms", "c", "forwards", "backwards", "status")
SETTINGS = {"norm": "l2sq", "kappa": 0.0, "lower": 0.0, "upper": float("inf"), "tile": None}


def make(dtype=torch.float32, **changes):
    """Return a result on four images, one for each status, with some fields replaced."""
    generator = torch.Generator().manual_seed(0)
    values = {
        "adversarial": torch.rand(4, 1, 3, 2, generator=generator, dtype=dtype),
        "success": torch.tensor([True, False, True, False]),
        "distance": torch.tensor([2.0, 0.0, 0.0, 0.0], dtype=dtype),
        "rms": torch.tensor([0.3, 0.0, 0.0, 0.0], dtype=dtype),
        "c": torch.tensor([0.7, float("nan"), float("nan"), float("nan")], dtype=dtype),
        "forwards": torch.tensor([120, 200, 1, 1]),
        "backwards": torch.tensor([100, 180, 0, 0]),
        "status": torch.tensor([0, 1, 2, 3], dtype=torch.int8),
        "settings": SETTINGS,
    }
    return AttackResult(**values | changes)


def empty():
    """Return a result on no image."""
    one = make()
    return AttackResult(**{name: getattr(one, name)[:0] for name in TENSORS}, settings={})


def assert_same(a, b):
    for name in TENSORS:
        torch.testing.assert_close(
            getattr(a, name), getattr(b, name), rtol=0, atol=0, equal_nan=True, msg=name
        )
    assert a.settings == b.settings


class TestSummary:
    def test_counts_every_image_that_is_adversarial_in_the_end(self):
        summary = make().summary()
        assert summary == {
            "images": 4,
            "successes": 2,
            "already_adversarial": 1,
            "success_rate": 0.5,
            "mean_rms": pytest.approx(0.15),
            "median_rms": pytest.approx(0.15),
            "mean_forwards": 80.5,
            "mean_backwards": 70.0,
        }
        assert json.loads(json.dumps(summary)) == summary

    def test_failures_do_not_enter_the_distortion(self):
        summary = make(
            success=torch.tensor([True, False, True, True]),
            rms=torch.tensor([0.1, 99.0, 0.2, 0.6]),
        ).summary()
        assert summary["mean_rms"] == pytest.approx(0.3)
        assert summary["median_rms"] == pytest.approx(0.2)

    @pytest.mark.parametrize("result", [empty(), make(success=torch.zeros(4).bool())], ids=len)
    def test_a_mean_over_nothing_is_nan(self, result):
        summary = result.summary()
        assert np.isnan(summary["mean_rms"])
        assert np.isnan(summary["median_rms"])

    def test_is_the_same_when_a_gradient_is_attached(self):
        result = make(rms=torch.tensor([0.3, 0.0, 0.0, 0.0], requires_grad=True))
        assert result.summary() == make().summary()


class TestRepr:
    def test_tells_the_outcome_without_tensors(self):
        expected = "AttackResult(4 images, success 50.0 %, rms mean 0.15, median 0.15, cpu)"
        assert repr(make()) == expected

    def test_leaves_out_what_is_undefined(self):
        assert repr(empty()) == "AttackResult(0 images, cpu)"
        nothing = make(success=torch.zeros(4).bool())
        assert repr(nothing) == "AttackResult(4 images, success 0.0 %, cpu)"


class TestFields:
    def test_len_is_the_number_of_images(self):
        assert (len(make()), len(empty())) == (4, 0)

    def test_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            make().success = torch.ones(4).bool()

    def test_settings_are_a_copy_in_json_types(self):
        settings = {"shape": (28, 28)}
        result = make(settings=settings)
        settings["shape"] = "changed"
        assert result.settings == {"shape": [28, 28]}

    def test_to_moves_every_tensor(self):
        moved = make().to("meta")
        assert {getattr(moved, name).device.type for name in TENSORS} == {"meta"}
        assert moved.settings == SETTINGS

    def test_status_numbers_are_those_of_the_file_format(self):
        expected = {"FOUND": 0, "NOT_FOUND": 1, "ALREADY_ADVERSARIAL": 2, "NON_FINITE": 3}
        assert {status.name: int(status) for status in AttackStatus} == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"adversarial": torch.zeros(4, 3).long()},
            "adversarial must be floating point, got torch.int64",
        ),
        ({"adversarial": torch.tensor(0.5)}, "adversarial must have a batch axis"),
        ({"adversarial": [[0.5]]}, "adversarial must be a torch.Tensor, got list"),
        ({"adversarial": torch.zeros(3, 2)}, r"success must .* shape \(3,\), got shape \(4,\)"),
        ({"success": torch.ones(4)}, "success must be torch.bool, got torch.float32"),
        ({"distance": torch.zeros(4, 1)}, r"distance must have one .* got shape \(4, 1\)"),
        ({"rms": torch.zeros(4).long()}, "rms must be floating point, got torch.int64"),
        ({"c": 1.0}, "c must be a torch.Tensor, got float"),
        ({"forwards": torch.zeros(4).int()}, "forwards must be torch.int64, got torch.int32"),
        ({"backwards": torch.zeros(5).long()}, r"backwards must have one .* shape \(5,\)"),
        ({"status": torch.zeros(4).long()}, "status must be torch.int8, got torch.int64"),
        ({"c": torch.zeros(4, device="meta")}, "c is on meta, but adversarial is on cpu"),
        ({"settings": {"norm": torch.zeros(1)}}, "settings must hold JSON values only"),
        ({"settings": [1]}, "settings must be a dict, got list"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_fields_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


class TestFile:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
    def test_keeps_every_bit(self, tmp_path, dtype):
        result = make(dtype)
        result.save(tmp_path / "result.npz")
        assert_same(AttackResult.load(tmp_path / "result.npz"), result)

    def test_keeps_an_empty_batch(self, tmp_path):
        empty().save(tmp_path / "result.npz")
        loaded = AttackResult.load(tmp_path / "result.npz")
        assert loaded.adversarial.shape == (0, 1, 3, 2)

    def test_keeps_views_and_gradients_apart(self, tmp_path):
        adversarial = torch.rand(3, 2, 1, 4, requires_grad=True).permute(3, 2, 0, 1)
        make(adversarial=adversarial).save(tmp_path / "result.npz")
        loaded = AttackResult.load(tmp_path / "result.npz")
        assert torch.equal(loaded.adversarial, adversarial)
        assert not loaded.adversarial.requires_grad

    def test_path_is_taken_as_given(self, tmp_path):
        make().save(str(tmp_path / "no-suffix"))
        assert [path.name for path in tmp_path.iterdir()] == ["no-suffix"]

    def test_loads_onto_a_device(self, tmp_path):
        make().save(tmp_path / "result.npz")
        loaded = AttackResult.load(tmp_path / "result.npz", device="meta")
        assert loaded.status.device.type == "meta"

    def test_holds_no_pickle(self, tmp_path):
        make().save(tmp_path / "result.npz")
        with np.load(tmp_path / "result.npz", allow_pickle=False) as archive:
            assert set(archive) == {*TENSORS, "meta"}
            assert not any(archive[name].dtype.hasobject for name in archive)

    def test_bfloat16_is_refused_and_the_old_file_stays(self, tmp_path):
        make().save(tmp_path / "result.npz")
        with pytest.raises(ValueError, match="adversarial is bfloat16"):
            make(torch.bfloat16).save(tmp_path / "result.npz")
        assert_same(AttackResult.load(tmp_path / "result.npz"), make())
        assert len(list(tmp_path.iterdir())) == 1

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            AttackResult.load(tmp_path / "result.npz")


def saved(tmp_path, **changes):
    """Save a result, then rewrite its file with some arrays changed, or left out if None."""
    path = tmp_path / "result.npz"
    make().save(path)
    with np.load(path) as archive:
        arrays = {**archive} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def meta(**changes):
    return np.array(
        json.dumps({"format": "advkit.attack.AttackResult", "version": 1, "settings": {}} | changes)
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"meta": None}, "no description"),
        ({"meta": np.array("[]")}, "another format"),
        ({"meta": np.array("{")}, "property name"),
        ({"meta": meta(format="other")}, "another format"),
        ({"meta": meta(version=2)}, "version is 2, this advkit reads 1; upgrade"),
        ({"rms": None}, "rms"),
        ({"rms": np.zeros(3)}, "rms must have one value per image"),
        ({"rms": np.array(["a"] * 4)}, "str_"),
        ({"rms": np.array([None] * 4)}, "allow_pickle"),
    ],
    ids=[
        "no-meta",
        "list",
        "broken-json",
        "format",
        "version",
        "absent",
        "shape",
        "text",
        "object",
    ],
)
def test_a_file_with_wrong_contents_is_refused(tmp_path, changes, reason):
    path = saved(tmp_path, **changes)
    with pytest.raises(ValueError, match=reason) as caught:
        AttackResult.load(path)
    assert str(caught.value).startswith(f"{path} is not a saved AttackResult: ")


@pytest.mark.parametrize("damage", ["empty", "text", "npy", "truncated", "flipped"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "result.npz"
    make().save(path)
    content = bytearray(path.read_bytes())
    if damage == "npy":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
        content = path.read_bytes()
    start = content.find(b"NUMPY") + 90
    damaged = {
        "empty": b"",
        "text": b"hello",
        "npy": bytes(content),
        "truncated": bytes(content[: len(content) // 2]),
        "flipped": bytes(content[:start] + bytes(40) + content[start + 40 :]),
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=r"result.npz is not a saved AttackResult"):
        AttackResult.load(path)
