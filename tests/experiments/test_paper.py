"""The paper's figures have the shapes of its tables, and agree with one another."""

from advkit.experiments.paper import NAMES, TABLE1, TABLE2, TABLE3, TABLE4


def test_most_entries_are_multiples_of_1_by_256():
    shares = {f"{k / 2.56 + 1e-9:.1f}" for k in range(257)}
    entries = [v for key, row in TABLE2.items() if isinstance(key, str) for v in row]
    decimal = [entry for entry in entries if entry != int(entry)]
    assert len(decimal) == 25
    assert sum(f"{entry:.1f}" in shares for entry in decimal) == 22


def test_shapes():
    assert len(TABLE1) == 6
    assert [key for key in TABLE2 if isinstance(key, str)] == list(TABLE1)
    assert all(len(row) == 6 for row in TABLE2.values())
    assert set(TABLE1) | set(TABLE3) == set(NAMES)
    for rows in TABLE4.values():
        assert all(len(row) == 3 for row in rows.values())
    for place, name in enumerate(TABLE1):
        assert TABLE2[name][place] == 100
    for place, name in enumerate(TABLE3):
        assert TABLE4["adversarial"][name][place] == TABLE4["amplified"][name][place] == 100
