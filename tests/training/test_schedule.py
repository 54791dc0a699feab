"""Lengths and rates as functions of the step, held to what they must satisfy for any plan."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.config import from_dict, to_dict
from vitreous.errors import UsageError
from vitreous.training.clock import Clock
from vitreous.training.schedule import Plan, plan_steps, warmup_cosine


@st.composite
def plans(draw):
    plan = Plan(steps=draw(st.integers(1, 500)), evaluate_every=draw(st.integers(1, 60)))
    step = 0
    for _ in range(draw(st.integers(0, 5))):
        if step >= plan.end - 1:
            break
        step = draw(st.integers(step + 1, plan.end - 1))
        plan = plan.revised(step, step + draw(st.integers(1, 300)))
    return plan


@given(plans())
@settings(max_examples=200, deadline=None)
def test_progress_rises_from_nothing_to_everything(plan):
    progress = [plan.progress(step) for step in range(plan.end + 1)]
    assert progress[0] == 0 and progress[-1] == pytest.approx(1)
    assert all(a < b for a, b in itertools.pairwise(progress))


@given(plans(), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_a_revision_changes_nothing_before_it(plan, more):
    step = (plan.revisions[-1][0] if plan.revisions else 0) + 1
    if step >= plan.end:
        return
    revised = plan.revised(step, step + more)
    for before in range(step + 1):
        assert revised.progress(before) == pytest.approx(plan.progress(before))
        if before < step:
            assert revised.progress(before) == plan.progress(before)


@given(plans())
@settings(max_examples=100, deadline=None)
def test_milestones_are_met_in_order_and_the_end_is_one(plan):
    step, met = 0, []
    while step < plan.end:
        step = plan.next_milestone(step)
        met.append(step)
    assert met[-1] == plan.end and met == [s for s in range(plan.end + 1) if plan.is_milestone(s)]


@given(plans())
@settings(max_examples=50, deadline=None)
def test_a_plan_goes_through_json(plan):
    assert from_dict(Plan, to_dict(plan)) == plan


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine():
    assert warmup_cosine(0.05, 0.1, 0.0) == pytest.approx(0.5)
    assert warmup_cosine(0.1, 0.1, 0.0) == 1.0
    assert warmup_cosine(0.55, 0.1, 0.2) == pytest.approx(0.6)
    assert warmup_cosine(1.0, 0.1, 0.2) == pytest.approx(0.2)
    assert warmup_cosine(0.0, 0.0, 0.0) == 1.0
    plan = plan_steps(1000, 10, None)
    rates = [warmup_cosine(plan.progress(s + 0.5), 0.1, 0.0) for s in range(1000)]
    assert (
        min(rates) > 0 and max(rates) == pytest.approx(1, abs=1e-3) and math.fsum(rates) == pytest.approx(500, rel=1e-3)
    )


def test_evaluations_come_once_an_epoch_but_not_too_often():
    assert plan_steps(100, 30, None).evaluate_every == 30
    assert plan_steps(1000, 30, None).evaluate_every == 50
    assert plan_steps(10, 30, None).evaluate_every == 10
    assert plan_steps(100, 30, 7).evaluate_every == 7
    none = plan_steps(0, 30, None)
    assert (none.end, none.is_milestone(0), none.progress(0)) == (0, True, 1.0)
    with pytest.raises(UsageError):
        Plan(steps=-1, evaluate_every=1)


@pytest.fixture
def now(monkeypatch):
    """A clock that the test winds: ``now[0]``."""
    moment = [100.0]
    monkeypatch.setattr("vitreous.training.clock.time.monotonic", lambda: moment[0])
    return moment


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("evaluation", [0.0, 3.0])
def test_a_budget_is_kept_though_the_machine_changes_its_speed(now, factor, evaluation):
    """The whole run takes ``factor`` of the time a step that the probe measured, evaluations apart."""
    clock = Clock(spent=5.0, budget=600.0)
    plan = clock.first_plan(0.1, 20, 100, None)
    clock.start(0)
    step = 0
    while step < plan.end:
        now[0] += 0.1 * factor * (plan.next_milestone(step) - step)
        step = plan.next_milestone(step)
        with clock.milestone():
            now[0] += evaluation
        plan = clock.revise(plan, step)
    assert clock.elapsed == pytest.approx(600, rel=0.05)


def test_a_budget_that_is_used_up_ends_the_run_at_once(now):
    clock = Clock(budget=10.0)
    plan = clock.first_plan(0.1, 0, 10, None)
    clock.start(0)
    now[0] += 60
    assert clock.revise(plan, 5).end == 6
    assert Clock(spent=20.0, budget=10.0).first_plan(0.1, 5, 10, None).steps == 1


def test_small_drift_is_no_reason_to_bend_the_plan(now):
    clock = Clock(budget=100.0)
    plan = clock.first_plan(0.1, 0, 10, None)
    clock.start(0)
    now[0] += 50 * 0.101
    assert clock.revise(plan, 50) is plan
    assert Clock().revise(plan, 50) is plan
