import csv
import io
import math

from advkit.report import csv_text, markdown_table


def test_markdown():
    rows = [{"a": 1.23456, "b": "x|y"}, {"a": math.nan, "b": True}, {"a": None, "b": 7}]
    assert markdown_table(rows).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1.235 | x\\|y |",
        "|  | yes |",
        "|  | 7 |",
    ]
    assert markdown_table([]) == "(none)"


def test_csv_reads_back():
    rows = [{"a": 1 / 3, "b": 'say "x", y'}, {"a": math.nan, "b": None}]
    again = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert again[0] == {"a": "0.3333333", "b": 'say "x", y'}
    assert again[1] == {"a": "", "b": ""}
    assert csv_text([]) == ""
