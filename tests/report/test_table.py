"""The table: the numbers in it, and that it is plain text where there is no terminal."""

import io
import sys

import pytest
import torch

from advkit.attack.result import AttackResult
from advkit.report import attack_table

pytest.importorskip("rich")


def make(success, **changes):
    """Return a result on as many images as `success` has entries."""
    count = len(success)
    values = {
        "adversarial": torch.zeros(count, 4),
        "success": torch.tensor(success, dtype=torch.bool),
        "distance": torch.arange(1.0, count + 1),
        "rms": torch.arange(1.0, count + 1) / 2,
        "c": torch.full((count,), float("nan")),
        "forwards": torch.arange(10, 10 + count),
        "backwards": torch.arange(20, 20 + count),
        "status": torch.tensor([int(not found) for found in success], dtype=torch.int8),
        "settings": {"norm": "l2sq"},
    }
    return AttackResult(**values | changes)


def printed(table, encoding="utf-8"):
    """Return what a console without a terminal prints, as lines without trailing spaces."""
    from rich.console import Console

    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, write_through=True) as file:
        Console(file=file, width=80).print(table)
        text = raw.getvalue().decode(encoding)
    return [line.rstrip() for line in text.splitlines()]


def row(lines, name):
    """Return the cells to the right of a name."""
    (line,) = (line for line in lines if line.strip().startswith(name))
    return line.strip().removeprefix(name).split()


def test_distances_are_over_successes_and_costs_over_all():
    lines = printed(attack_table(make([True, False, True, True, True])))
    assert row(lines, "per image") == ["min", "median", "mean", "max"]
    assert row(lines, "rms") == ["0.5", "1.75", "1.625", "2.5"]
    assert row(lines, "distance (L2)") == ["1", "3.5", "3.25", "5"]
    assert row(lines, "forwards") == ["10", "12", "12", "14"]
    assert row(lines, "backwards") == ["20", "22", "22", "24"]


def test_c_leaves_out_images_without_one():
    c = torch.tensor([2.0, float("nan"), 6.0])
    assert row(printed(attack_table(make([True] * 3, c=c))), "c ") == ["2", "4", "4", "6"]


def test_nothing_found_is_shown_by_dashes():
    lines = printed(attack_table(make([False, False])))
    assert row(lines, "rms") == ["-"] * 4
    assert "success 0.0 % (0 of 2), not found 2" in "\n".join(lines)


def test_endings_and_time_are_told():
    status = torch.tensor([0, 2, 3, 1], dtype=torch.int8)
    table = attack_table(make([True, True, False, False], status=status), seconds=0.1)
    text = " ".join(" ".join(printed(table)).split())
    assert (
        "success 50.0 % (2 of 4), not found 1, already adversarial 1, "
        "network gave nan or inf 1, 25 ms per image"
    ) in text


def test_no_images():
    assert "no images" in "\n".join(printed(attack_table(make([]))))


def test_the_distance_is_that_of_the_attacked_norm():
    for norm, words in (("linf", "Linf"), ("l2", "L2")):
        lines = printed(attack_table(make([True], settings={"norm": norm})))
        assert row(lines, f"distance ({words})")
    lines = printed(attack_table(make([True], settings={"norm": "l1"})))
    assert row(lines, "distance (L1)") == ["1"] * 4


def test_brackets_in_the_title_are_not_markup():
    lines = printed(attack_table(make([True]), title="net [bold] on [data]"))
    assert lines[0].strip() == "net [bold] on [data]"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_is_plain_without_a_terminal(encoding):
    text = "\n".join(printed(attack_table(make([True]), title="title", seconds=1), encoding))
    assert "\x1b" not in text
    assert "success 100.0 %" in text


def test_missing_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r'attack_table needs rich.*"advkit\[cli\]"'):
        attack_table(make([True]))
