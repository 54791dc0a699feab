"""Intervals against exact and simulated truth: NumPy alone, no statistics library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.analyse.scores import wilson
from vitreous.comparison import efficiency
from vitreous.comparison.efficiency import growth
from vitreous.comparison.statistics import difference, needed, over_pictures, over_seeds

T_975 = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262}  # Student's table


def answers(rng, p, by_seed, seeds):
    """(s, n) runs whose seeds are ``by_seed`` better or worse at all pictures, of difficulties p (n,)."""
    luck = rng.normal(0, by_seed, (seeds, 1))
    return rng.random((seeds, len(p))) < np.clip(p + luck, 0, 1)


def mcnemar(a, b):
    """Exact two-sided p of one run against another, by the binomial distribution of the pictures they disagree on."""
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    return min(1.0, 2 * tail)


@pytest.mark.parametrize("freedom", sorted(T_975))
def test_the_interval_over_seeds_is_students(freedom):
    values = np.linspace(0.4, 0.6, freedom + 1)
    low, high = over_seeds(values)
    half = T_975[freedom] * values.std(ddof=1) / math.sqrt(freedom + 1)
    assert (low, high) == pytest.approx((max(0, 0.5 - half), min(1, 0.5 + half)), abs=1e-3)
    assert over_seeds([0.5]) is None


def test_one_seed_has_wilsons_interval_and_equal_seeds_add_nothing():
    right = np.arange(40) % 5 != 0
    assert over_pictures(right[None]) == pytest.approx(wilson(32, 40))
    assert over_pictures(np.stack([right] * 4)) == pytest.approx(wilson(32, 40))
    assert over_pictures(np.ones((3, 40), bool)) == pytest.approx(wilson(40, 40))


def test_seeds_that_err_independently_make_the_pictures_count_for_more():
    right = np.random.default_rng(0).random((5, 4000)) < 0.8
    low, high = over_pictures(right)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.16 / 20_000), rel=0.05)


@pytest.mark.parametrize(
    ("pictures", "seeds", "by_seed", "hard"),
    [(60, 1, 0.0, 1.0), (300, 1, 0.0, 0.3), (300, 3, 0.0, 1.0), (300, 3, 0.02, 1.0), (2000, 3, 0.02, 0.3)],
)
def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says(pictures, seeds, by_seed, hard):
    rng = np.random.default_rng(pictures + seeds)
    truth, inside, rounds = 0.05, 0, 300
    for _ in range(rounds):
        p = np.clip(rng.beta(0.7 * hard, 0.3 * hard, pictures), 0.1, 0.85)
        a, b = answers(rng, p + truth, by_seed, seeds), answers(rng, p, by_seed, seeds)
        found = difference(a, b, replicates=1000, seed=1)
        inside += found.low <= truth <= found.high
    # 95 % or more; three deviations of chance are allowed below
    assert inside / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


@pytest.mark.parametrize(
    ("luck", "pictures", "seeds", "chance"),
    [
        ((0.01, 0.01), 200, 3, 0.05),
        ((0.03, 0.03), 2000, 3, 0.05),
        ((0.03, 0.0), 2000, 3, 0.065),  # docs/compare.md; with one variance for both arms 0.126
        ((0.04, 0.005), 300, 3, 0.065),
        ((0.03, 0.03), 2000, 2, 0.05),
        ((0.03, 0.0), 2000, 2, 0.085),  # docs/compare.md: two seeds are too few
    ],
)
def test_without_a_difference_one_is_found_at_most_as_often_as_is_said(luck, pictures, seeds, chance):
    rng = np.random.default_rng(7)
    found, rounds = 0, 600
    for i in range(rounds):
        p = np.clip(rng.beta(0.7, 0.3, pictures), 0.1, 0.85)
        a, b = (answers(rng, p, each, seeds) for each in luck)
        found += difference(a, b, replicates=500, seed=i).told
    assert found / rounds <= chance + 2 * math.sqrt(chance * (1 - chance) / rounds)


def test_an_arm_with_one_seed_has_the_luck_of_the_other():
    rng = np.random.default_rng(2)
    a, b = answers(rng, np.full(2000, 0.8), 0.05, 3), answers(rng, np.full(2000, 0.8), 0.05, 1)
    found, alone = difference(a, b), difference(a[:1], b)
    assert found.high - found.low > 1.5 * (alone.high - alone.low) and found.by_seed > 0 == alone.by_seed


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 0), (12, 0), (10, 8), (25, 5), (40, 20), (40, 36), (5, 19)])
def test_it_agrees_with_mcnemars_exact_test(wins, losses):
    a, b = np.ones((2, 300), bool)
    a[:losses], b[losses : losses + wins] = False, False
    found = difference(a[None], b[None])
    p = mcnemar(a, b)
    assert found.value == pytest.approx((wins - losses) / 300)
    assert found.told == (p < 0.05)
    assert found.low <= found.value <= found.high and found.low < found.high


def test_pairing_makes_it_sharper_and_reversing_changes_the_sign():
    rng = np.random.default_rng(3)
    easy = rng.random(500) < 0.7
    a = easy | (np.arange(500) % 20 == 0)
    paired = difference(a[None], easy[None])
    shuffled = difference(a[None], rng.permutation(easy)[None])
    assert paired.high - paired.low < 0.5 * (shuffled.high - shuffled.low)
    other = difference(easy[None], a[None]).reversed()
    assert (other.value, other.low, other.high) == pytest.approx((paired.value, paired.low, paired.high), abs=2e-3)


def test_as_many_pictures_as_are_needed_tell_four_times_in_five():
    rng = np.random.default_rng(11)

    def run(n):
        a = rng.random(n) < 0.80
        return a[None], (a & (rng.random(n) > 0.10) | (rng.random(n) < 0.03))[None]

    guess = np.mean([needed(difference(*run(3000), replicates=500)).pictures for _ in range(20)])
    told = np.mean([difference(*run(round(guess)), replicates=500).told for _ in range(200)])
    assert 0.65 < told < 0.95


def test_seeds_help_where_seeds_are_the_noise_and_pictures_where_they_are():
    rng = np.random.default_rng(5)
    p = rng.random(3000) < 0.8
    noisy = difference(answers(rng, p * 0.9, 0.03, 3), answers(rng, p * 0.9 - 0.01 * p, 0.03, 3))
    assert needed(noisy).seeds > 3
    still = difference(np.stack([p] * 3), np.stack([np.roll(p, 1)] * 3))
    assert needed(still).seeds is None


# ---------------------------------------------------------------- growth


def by_law(rng, error, seeds=3, n=800):
    """Runs that answer rightly whatever is easier than their error, but for a little noise."""
    hard = np.linspace(0, 1, n)
    return (hard[None] + 0.02 * rng.normal(size=(seeds, n))) > error


def test_the_law_behind_a_curve_is_found_and_goes_on():
    rng = np.random.default_rng(0)
    sizes = [1000, 100, 500, 250]
    found = growth("it", sizes, [by_law(rng, 0.04 + 3 * n**-0.5) for n in sizes])
    law = found.law
    truth = 3 * (1000**-0.5 - (1000 + law.more) ** -0.5)
    assert law.more == 200 and found.pictures == (100, 250, 500, 1000)
    assert law.low <= truth <= law.high
    assert law.accuracy(500) == pytest.approx(1 - 0.04 - 3 * 500**-0.5, abs=0.02)
    assert "200 more training pictures for it: about +" in found.sentence()


@pytest.mark.parametrize(
    ("floor", "scale", "exponent", "luck", "steeper", "seeds"),
    [
        (0.0, 3.0, 0.5, 0.01, 0.0, 3),
        (0.0, 3.0, 0.5, 0.01, 0.7, 3),  # the fewer pictures, the more seeds differ
        (0.05, 3.0, 0.5, 0.01, 0.7, 3),
        (0.2, 3.0, 0.5, 0.01, 0.7, 3),
        (0.1, 20.0, 1.0, 0.01, 0.7, 3),
        (0.0, 3.0, 0.5, 0.0, 0.0, 1),
    ],
)
def test_the_extrapolation_holds_the_truth_as_often_as_it_says(
    floor, scale, exponent, luck, steeper, seeds, monkeypatch
):
    monkeypatch.setattr(efficiency, "_REPLICATES", 400)
    rng = np.random.default_rng(4)
    inside, rounds, n = 0, 150, 300
    for i in range(rounds):
        hard, right = rng.random(n), []
        for size in (100, 250, 500, 1000):
            mean = floor + scale * size**-exponent
            error = mean + rng.normal(0, luck * (size / 1000) ** -steeper, (seeds, 1))
            known = 0.7 * error  # errors that all seeds share, for the pictures are hard
            right.append((hard > known) & (rng.random((seeds, n)) > (error - known) / (1 - known)))
        law = growth("it", (100, 250, 500, 1000), right, seed=i).law
        inside += law.low <= scale * (1000**-exponent - (1000 + law.more) ** -exponent) <= law.high
    # three deviations of chance are allowed below
    assert inside / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


def test_a_flat_curve_promises_nothing_and_a_single_point_is_no_curve():
    rng = np.random.default_rng(0)
    flat = growth("it", [100, 200, 400, 800], [by_law(rng, 0.2)] * 4)
    assert flat.law.gain < 0.001 and "points" in flat.sentence()
    assert growth("it", [100], [by_law(rng, 0.2)]) is None
    assert growth("it", [100, 100], [by_law(rng, 0.2)] * 2) is None


def test_points_that_are_less_sure_weigh_less(monkeypatch):
    monkeypatch.setattr(efficiency, "_REPLICATES", 2)
    weighted, rng = efficiency._fit, np.random.default_rng(4)
    sizes, n, wrong = np.array([50, 100, 200, 400, 800, 1600]), 2000, {}
    for _ in range(100):
        luck = rng.normal(0, 0.01, (len(sizes), 3, 1)) * (sizes[:, None, None] / 1000) ** -0.7
        right = rng.random((len(sizes), 3, n)) > 0.1 + 20 / sizes[:, None, None] + luck
        for name, fit in (("weighted", weighted), ("alike", lambda s, e, w: weighted(s, e, np.ones_like(w)))):
            monkeypatch.setattr(efficiency, "_fit", fit)
            law = growth("it", sizes, right).law
            wrong.setdefault(name, []).append(law.gain - 20 * (1 / 1600 - 1 / (1600 + law.more)))
    assert np.square(wrong["weighted"]).mean() < 0.75 * np.square(wrong["alike"]).mean()


@pytest.mark.parametrize("sizes", [(250, 1000), (250, 500, 1000)])
def test_fewer_than_four_fractions_promise_nothing_though_the_curve_has_a_floor(sizes):
    rng = np.random.default_rng(0)
    found = growth("it", sizes, [by_law(rng, 0.2 + 3 * n**-0.5) for n in sizes])
    assert found.law is None and found.pictures == sizes and len(found.accuracies) == len(sizes)
    assert found.sentence().startswith(f"{len(sizes)} fractions do not tell") and "give four" in found.sentence()
    assert "+" not in found.sentence()


def test_few_pictures_leave_the_curve_open():
    rng = np.random.default_rng(2)
    found = growth("it", [20, 40, 60, 80], [rng.random((1, 25)) > error for error in (0.4, 0.38, 0.35, 0.33)])
    assert "20 more training pictures for it: its curve cannot tell" in found.sentence()
    assert found.sentence().endswith("points); one seed each, so luck of the seed is not in this interval.")
