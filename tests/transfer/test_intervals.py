import numpy as np
import pytest

from advkit.transfer import difference_interval, wilson_interval


@pytest.mark.parametrize("trials", [1, 7, 256, 1000])
@pytest.mark.parametrize("share", [0, 0.03, 0.5, 1])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_that_of_scipy(trials, share, confidence):
    stats = pytest.importorskip("scipy.stats")
    successes = round(share * trials)
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    found = wilson_interval(successes, trials, confidence=confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found[0] <= successes / trials <= found[1] <= 1


def test_difference_by_hand():
    # Nothing in common to speak of (phi = 0 by a product of 0). Wilson's lower end of 10 of 10 is
    # 0.7225 = 1 / (1 + 1.96^2 / 10), its upper one of 0 of 10 is 0.2775:
    # 1 - sqrt(0.2775^2 + 0.2775^2) = 0.6075.
    assert difference_interval(0, 10, 0, 10) == pytest.approx((0.6075, 1.0), abs=5e-5)
    assert difference_interval(10, 10, 10, 10) == pytest.approx((-0.2775, 0.2775), abs=5e-5)


def test_difference_changes_sign_with_its_arguments():
    low, high = difference_interval(20, 40, 25, 100)
    assert difference_interval(20, 25, 40, 100) == pytest.approx((-high, -low))
    assert low < 0.15 < high


def test_difference_is_narrower_where_both_go_together():
    widths = [
        high - low
        for low, high in (difference_interval(both, 40, 25, 100) for both in (0, 10, 20, 25))
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.75 * widths[0]


@pytest.mark.parametrize("shares", [(0.02, 0.04, 0.0), (0.2, 0.1, 0.05), (0.05, 0.3, 0.3)])
def test_difference_covers_the_truth_as_often_as_it_says(shares):
    # both, the first alone, the second alone
    draws = np.random.default_rng(0).multinomial(200, (*shares, 1 - sum(shares)), size=2000)
    truth = shares[1] - shares[2]
    inside = 0
    for both, first, second, _ in draws.tolist():
        low, high = difference_interval(both, both + first, both + second, 200)
        inside += low <= truth <= high
    assert 0.93 < inside / 2000 < 0.98


@pytest.mark.parametrize("arguments", [(3, 2, 5, 10), (-1, 2, 5, 10), (0, 6, 6, 10)])
def test_difference_refuses(arguments):
    with pytest.raises(ValueError, match="both: expected"):
        difference_interval(*arguments)


@pytest.mark.parametrize("arguments", [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses(arguments):
    with pytest.raises(ValueError, match="successes and trials"):
        wilson_interval(*arguments)
    with pytest.raises(ValueError, match="confidence: expected"):
        wilson_interval(1, 2, confidence=1.0)
