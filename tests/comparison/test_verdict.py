"""The sentences, over constructed cases: what is told, what is not, and what is never compared without saying so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from vitreous.comparison.verdict import judge


@dataclass(frozen=True)
class Arm:
    """What a verdict knows of an arm."""

    name: str
    right: np.ndarray
    validation: float
    is_scratch: bool = True
    mixer: str | None = None
    latency_ms: float | None = None
    teacher: str = ""
    untaught: str = ""
    leak: str = ""

    @property
    def accuracy(self):
        return float(self.right.mean())


def arm(name, share, *, n=400, seeds=3, hard=0, **more):
    """An arm that is right on the first ``share`` of the pictures, shifted by ``hard`` of them, with every seed."""
    right = np.roll(np.arange(n) < round(share * n), hard)
    return Arm(name, np.stack([right] * seeds), more.pop("validation", share), **more)


def test_a_clear_difference_is_told_with_its_size_and_its_price():
    found = judge([arm("slow", 0.9, latency_ms=10.0), arm("fast", 0.8, latency_ms=2.0)])
    assert found.verdict.startswith("Use slow: 90.0% of the test pictures right, 10.0 points (95 % interval ")
    assert "more than fast, at 5.0 times its time to answer (10.0 ms a picture against 2.0)." in found.verdict
    assert found.remarks == [] and len(found.pairs) == 1


def test_a_winner_that_is_also_faster_is_praised_for_it():
    found = judge([arm("a", 0.8, latency_ms=10.0), arm("b", 0.9, latency_ms=2.0)])
    assert "Use b:" in found.verdict and "answers 5.0 times as fast" in found.verdict


def test_what_cannot_be_told_is_said_with_what_would_tell():
    found = judge([arm("a", 0.9, hard=10, latency_ms=4.0), arm("b", 0.89, latency_ms=1.0)])
    assert found.verdict.startswith("The data cannot tell a from b: they differ by 1.0 points (95 % interval -")
    assert "take b, which answers 4.0 times as fast" in found.verdict
    assert "more test pictures (" in found.verdict and "if the difference is as large as it looks" in found.verdict
    assert "Use" not in found.verdict


def test_seeds_that_differ_are_offered_as_a_way_to_tell():
    rng = np.random.default_rng(0)

    def noisy(name, mean):
        shares = mean + np.array([-0.06, 0.0, 0.06])
        return Arm(name, rng.random((3, 2000)) < shares[:, None], mean)

    found = judge([noisy("a", 0.83), noisy("b", 0.80)])
    assert "cannot tell" in found.verdict and "more seeds" in found.verdict


def test_equal_answers_need_no_more_pictures():
    found = judge([arm("a", 0.9), arm("b", 0.9)])
    assert "cannot tell a from b" in found.verdict and "either will do" in found.verdict
    assert "equally often" in found.verdict


def test_the_two_are_chosen_on_validation_and_measured_on_test():
    lucky = arm("lucky on test", 0.95, validation=0.5)
    found = judge([lucky, arm("first", 0.9, validation=0.9), arm("second", 0.8, validation=0.8)])
    assert found.verdict.startswith("Use first") and "second" in found.verdict and "lucky" not in found.verdict


def test_the_better_of_two_on_test_is_named_even_if_validation_had_it_second():
    found = judge([arm("a", 0.8, validation=0.9), arm("b", 0.9, validation=0.89)])
    assert found.verdict.startswith("Use b")


def test_one_seed_is_said_to_be_one():
    found = judge([arm("a", 0.9, seeds=1), arm("b", 0.7, seeds=1)])
    assert "one seed each, so luck of the seed is not in this interval" in found.verdict
    assert "luck" not in judge([arm("a", 0.9), arm("b", 0.7)]).verdict
    assert "two seeds are too few" in judge([arm("a", 0.9, seeds=2), arm("b", 0.7, seeds=2)]).verdict


def test_weights_of_others_are_never_compared_without_saying_so():
    scratch = [arm("s1", 0.80), arm("s2", 0.70)]
    begun = [arm("p1", 0.95, is_scratch=False), arm("p2", 0.85, is_scratch=False)]
    found = judge([*scratch, *begun])
    assert found.verdict.startswith("Use p1") and "s1" in found.verdict
    assert found.verdict.endswith("they differ in what they began with, not only in the network.")
    assert found.remarks[0].startswith("From scratch: Use s1") and "s2" in found.remarks[0]
    assert found.remarks[1].startswith("With weights or a teacher from elsewhere: Use p1") and "p2" in found.remarks[1]
    single = judge([scratch[0], *begun])
    assert any("From scratch there is only s1, with 80.0% on test." in remark for remark in single.remarks)


@pytest.mark.parametrize(
    ("own", "none", "conv", "words"),
    [
        (0.95, 0.80, 0.85, "Attention earned its time"),
        (0.80, 0.95, 0.80, "Attention did not pay"),
        (0.90, 0.90, 0.90, "Attention did not show that it earns its time"),
        (0.95, 0.80, 0.95, "Attention did not show that it earns its time"),
    ],
)
def test_attention_is_held_against_its_twins(own, none, conv, words):
    arms = [
        arm("auto", own, mixer="attention"),
        arm("auto without attention", none, mixer="none"),
        arm("auto, convolution for attention", conv, mixer="conv"),
        arm("cnn", 0.5),
    ]
    remark = next(r for r in judge(arms).remarks if r.startswith("Attention"))
    assert remark.startswith(words) and "nothing in its place" in remark and "convolution of equal cost" in remark


def test_the_best_transformer_from_scratch_stands_for_attention():
    arms = [
        arm("begun", 0.99, mixer="attention", is_scratch=False),
        arm("best", 0.95, mixer="attention"),
        arm("worse", 0.60, mixer="attention"),
        arm("best without attention", 0.80, mixer="none"),
    ]
    assert any(r.startswith("Attention earned its time") and ": best +" in r for r in judge(arms).remarks)


def test_without_twins_attention_is_not_spoken_of():
    assert judge([arm("auto", 0.9, mixer="attention"), arm("cnn", 0.8)]).remarks == []


def test_one_arm_or_none_is_no_comparison():
    assert "a gets 90.0%" in (said := judge([arm("a", 0.9)]).verdict) and "no other that finished" in said
    assert "No arm finished" in judge([]).verdict


@pytest.mark.parametrize("seed", range(20))
def test_a_verdict_is_one_sentence_and_says_use_only_when_told(seed):
    rng = np.random.default_rng(seed)
    arms = [
        Arm(f"m{i}", rng.random((2, 150)) < rng.uniform(0.5, 0.95), rng.random(), latency_ms=rng.uniform(1, 9))
        for i in range(4)
    ]
    found = judge(arms)
    assert found.verdict.endswith(".") and ". " not in found.verdict
    assert found.verdict.startswith("Use") is found.pairs[0].found.told
    assert found.pairs[0].found.value >= 0


# ---------------------------------------------------------------- teachers, leaks, and nothing learned


def test_a_pupil_is_held_against_itself_alone_and_attention_is_judged_without_the_teacher():
    arms = [
        arm("auto", 0.80, mixer="attention"),
        arm("auto without attention", 0.85, mixer="none"),
        arm("auto, taught by cnn", 0.95, teacher="cnn", untaught="auto"),
    ]
    found = judge(arms)
    named, attention, teacher = found.remarks
    assert named.startswith("Without the twins of auto: Use auto, taught by cnn")
    assert (
        attention.startswith("Attention did not pay") and "auto -5.0 points" in attention and "taught" not in attention
    )
    assert teacher.startswith("The teacher cnn helped on these pictures: auto, taught by cnn +15.0 points")
    assert " against auto and +10.0 points" in teacher and teacher.endswith(" against auto without attention.")
    assert [(a, b) for a, b, _ in (p.named() for p in found.pairs)] == [
        ("auto, taught by cnn", "auto without attention"),  # the two first, who need not be held twice
        ("auto, taught by cnn", "auto"),
        ("auto", "auto without attention"),
    ]


@pytest.mark.parametrize(("share", "words"), [(0.9, "did not show that it helps"), (0.7, "did harm")])
def test_a_teacher_that_is_of_no_use_is_said_to_be(share, words):
    found = judge([arm("auto", 0.9), arm("auto, taught by x", share, teacher="x", untaught="auto")])
    assert f"The teacher x {words}" in found.remarks[0]


def test_a_pupil_whose_other_self_did_not_finish_is_not_spoken_of():
    assert judge([arm("cnn", 0.9), arm("auto, taught by x", 0.8, teacher="x", untaught="auto")]).remarks == []


def test_what_knows_test_pictures_is_not_judged_however_good_it_looks():
    leak = "The weights of old were trained on 40 of the 400 test pictures: the accuracy on them flatters."
    fair = [arm("a", 0.8), arm("b", 0.7)]
    flattered = arm("weights of old", 0.99, is_scratch=False, leak=leak)
    found, alone = judge([flattered, *fair]), judge(fair)
    assert (found.verdict, found.pairs) == (alone.verdict, alone.pairs) and found.verdict.startswith("Use a")
    assert found.remarks == [*alone.remarks, f"weights of old is not judged, whatever its score. {leak}"]
    only = judge([flattered])
    assert only.verdict.startswith("All arms that finished know held-out pictures") and only.pairs == []


def test_twins_that_nobody_asked_for_do_not_hide_the_answer_to_what_was_asked():
    arms = [
        arm("auto", 0.70, mixer="attention", seeds=1),
        arm("auto without attention", 0.75, mixer="none", seeds=1),
        arm("auto, convolution for attention", 0.74, mixer="conv", seeds=1),
        arm("cnn", 0.60, seeds=1),
    ]
    found = judge(arms)
    assert "auto without attention" in found.verdict
    named, attention = found.remarks
    assert named.startswith("Without the twins of auto: Use auto: 70.0%") and "than cnn" in named
    assert attention.startswith("Attention") and attention.endswith("so luck of the seed is not in this interval.")
    others = [arm("x", 0.3, mixer="none", seeds=1), arm("y", 0.2, mixer="conv", seeds=1)]
    assert judge([arms[0], arms[3], *others]).remarks[0].startswith("Attention")


def test_one_model_that_learned_nothing_is_not_recommended_either():
    found = judge([Arm("a", np.random.default_rng(0).random((1, 12)) < 0.5, 0.5)], guess=0.5)
    assert found.verdict.startswith("No model can be shown") and not found.use


def test_where_nothing_was_learned_nobody_is_recommended():
    rng = np.random.default_rng(0)
    arms = [Arm(f"m{i}", rng.random((1, 300)) < 0.11, 0.1, latency_ms=1.0 + i) for i in range(2)]
    nothing = "No model can be shown to have learned to tell these classes"
    assert judge(arms, guess=0.1).verdict.startswith(nothing)
    assert judge([*arms, arm("good", 0.5, n=300, seeds=1)], guess=0.1).verdict.startswith("Use good")


@pytest.mark.parametrize(("share", "n", "guess"), [(0.7, 20, 0.5), (0.93, 100, 0.9)])
def test_what_few_pictures_cannot_show_is_not_denied_and_the_pairs_stay(share, n, guess):
    arms = [
        arm("auto", share, n=n, mixer="attention"),
        arm("auto without attention", guess, n=n, mixer="none"),
        arm("auto, taught by cnn", share, n=n, hard=1, teacher="cnn", untaught="auto"),
    ]
    found = judge(arms, guess=guess)
    assert "can be shown to have learned" in found.verdict and f"{share:.1%} right (95 % interval" in found.verdict
    assert found.remarks == [] and len(found.pairs) == 3
    assert "has learned" not in found.verdict and "Use" not in found.verdict


def test_no_two_arms_are_held_against_each_other_twice_whichever_is_better():
    for own, taught in ((0.9, 0.7), (0.7, 0.9)):
        arms = [arm("auto", own), arm("auto, taught by x", taught, teacher="x", untaught="auto")]
        assert len(judge(arms).pairs) == 1


def test_a_pupil_of_what_knows_more_is_said_to_be_one_though_it_began_with_nothing():
    arms = [arm("auto", 0.8), arm("auto, taught by RUN", 0.95, teacher="RUN", untaught="auto", is_scratch=False)]
    verdict = judge(arms).verdict
    assert "began with" not in verdict
    assert verdict.endswith(
        "auto, taught by RUN was taught by what knows more than these pictures, so not only the network differs."
    )
