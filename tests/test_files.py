"""Files appear whole or not at all, and missing extras are told."""

import pytest

from advkit._extras import require
from advkit._files import replacing


def test_the_finished_file_takes_its_place(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_module_says_how_to_install_it():
    expected = r'pictures needs no_such_module; install it with: pip install "advkit\[cli\]"'
    with pytest.raises(ImportError, match=expected):
        require("no_such_module", extra="cli", purpose="pictures")


def test_a_present_module_is_accepted():
    require("json", extra="cli", purpose="numbers")
