"""``advkit info``."""

import json

import advkit
from advkit.cli import main


def test_json_is_the_configuration(capsys):
    assert main(["info", "--json"]) == 0
    expected = json.loads(json.dumps(advkit.show_config()))
    assert json.loads(capsys.readouterr().out) == expected


def test_text_names_every_entry(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for name in advkit.show_config():
        assert f"\n{name}" in f"\n{text}"
    assert advkit.__version__ in text


def test_a_wrong_environment_is_one_line(monkeypatch, one_line):
    def refuse():
        raise ValueError("ADVKIT_ISA is 'z80'")

    monkeypatch.setattr(advkit, "show_config", refuse)
    assert main(["info"]) == 2
    assert one_line() == "advkit: error: ADVKIT_ISA is 'z80'"


def test_text_is_aligned_and_shows_nothing_as_none(monkeypatch, capsys):
    config = {"versions": {"torch": "2.4", "os": "x"}, "isas": ("v2", "v3"), "none": [], "n": 2}
    monkeypatch.setattr(advkit, "show_config", lambda: config)
    assert main(["info"]) == 0
    assert capsys.readouterr().out == (
        "versions\n"
        "  torch  2.4\n"
        "  os     x\n"
        "isas      v2, v3\n"
        "none      none\n"
        "n         2\n"
    )  # fmt: skip
