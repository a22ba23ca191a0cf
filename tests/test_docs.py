"""The pages at the root: their example runs, and what they point to is there."""

import re
from pathlib import Path

import pytest

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


def test_the_example_runs(monkeypatch, tmp_path, capsys):
    for module in ("mlxtend", "safetensors"):
        pytest.importorskip(module)
    monkeypatch.setenv("ADVKIT_CACHE", str(tmp_path))
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
    )
    exec(compile(example, "README.md", "exec"), {})
    assert "100 images, success 100.0 %" in capsys.readouterr().out
