"""The paper's figures have the shapes of its tables, and agree with one another."""

from advkit.experiments.paper import NAMES, TABLE1, TABLE2, TABLE3, TABLE4


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
