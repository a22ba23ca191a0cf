"""The entry point: help, versions, exit codes and one-line errors."""

import json
import shlex
import subprocess
import sys

import pytest

import advkit
from advkit.cli import app, attack, bench, info, main, reproduce


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"advkit {advkit.__version__}\n"


@pytest.mark.parametrize(
    "command", [[], ["attack"], ["reproduce"], ["bench"], ["info"]], ids=" ".join
)
def test_help_has_examples(capsys, command):
    assert main([*command, "--help"]) == 0
    assert "\nexamples:\n  advkit " in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        line.strip()
        for module in (app, attack, bench, info, reproduce)
        for line in module._EXAMPLES.splitlines()
        if line.startswith("  advkit ") and "--help" not in line
    ],
)
def test_the_examples_are_valid(line):
    words = shlex.split(line.split("  ")[0].split("|")[0])
    assert app._parser().parse_args(words[1:]).command == words[1]


def test_help_shows_choices_and_defaults(capsys):
    main(["attack", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for part in ("(default: 200)", "(default: random)", "{l2,l1,linf,l2sq}", "random|none|NUMBER"):
        assert part in text
    assert "default: False" not in text
    assert "default: None" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "arguments are required: COMMAND"),
        ("attach", "invalid choice: 'attach'"),
        ("attack", "arguments are required: --out"),
        ("attack --out o --images 0", "--images: expected an integer from 1, got 0"),
        ("attack --out o --images many", "--images: expected an integer, got 'many'"),
        ("attack --out o --targets all", "expected random, none or the number of a class"),
        ("attack --out o --targets -1", "expected random, none or the number of a class"),
        ("attack --out o --seed -1", "--seed: expected an integer from 0 to"),
        ("attack --out o --kappa nan", "--kappa: expected a number of at least 0, got 'nan'"),
        ("attack --out o --kappa x", "--kappa: expected a number of at least 0, got 'x'"),
        ("attack --out o --threads 0", "--threads: expected an integer from 1, got 0"),
        ("attack --out o --norm l7", "--norm: invalid choice: 'l7'"),
        ("info --xml", "unrecognized arguments: --xml"),
    ],
)
def test_wrong_words_are_one_line_and_code_2(one_line, words, message):
    assert main(words.split()) == 2
    line = one_line()
    assert line.startswith("advkit")
    assert message in line
    assert line.endswith("--help)")


def test_an_interrupt_is_one_line_and_code_130(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(advkit, "show_config", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err.strip() == "advkit: interrupted"


def test_a_defect_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(advkit, "show_config", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["info"])


def test_python_m_advkit():
    done = subprocess.run(
        [sys.executable, "-m", "advkit", "info", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["advkit"] == advkit.__version__
