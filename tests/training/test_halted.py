"""A task that ends its training: what is kept, and that the reason outlives whatever stops the run before its end."""

from __future__ import annotations

import pytest
import torch

from vitreous.errors import TrainingDiverged
from vitreous.store.checkpoint import RunFolder
from vitreous.training.trainer import Trainer

WHY = "Collapse: it says the same of all; lower train.optim.lr."


@pytest.fixture
def enough(make, program):
    """``enough(name, step, at_evaluation)``: a trainer whose task has seen enough then, and remembers it nowhere."""

    def made(name: str, step: int, at_evaluation: bool = False) -> Trainer:
        class Enough(program.Sorting):
            why = ""

            def after_step(self, done: int) -> None:
                if not at_evaluation and done + 1 == step:
                    self.why = WHY

            def evaluate(self, batches, gather):
                if at_evaluation and trainer._state.counters.step == step:
                    self.why = WHY
                return super().evaluate(batches, gather)

            def halted(self) -> str:
                return self.why

        torch.manual_seed(0)
        trainer = make(name, task=Enough(program.Network()))
        return trainer

    return made


@pytest.mark.parametrize(("step", "at_evaluation", "ended"), [(16, True, 16), (16, False, 16), (11, False, 12)])
def test_the_reason_survives_a_kill_before_the_run_is_finished(
    enough, outcome, monkeypatch, tmp_path, step, at_evaluation, ended
):
    whole = enough("whole", step, at_evaluation).fit()
    assert whole.steps == ended and len(whole.notices) == 1 and whole.notices[0].startswith(WHY)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_halt", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            enough("torn", step, at_evaluation).fit()
    if at_evaluation:  # all that it saw is gone with the process
        torn = enough("torn", 1_000).fit(resume=True)
        assert RunFolder(tmp_path / "torn").latest().facts["counters"]["halted"] == WHY
    else:  # it sees the same again
        torn = enough("torn", step).fit(resume=True)
    assert torn.notices == whole.notices and torn.steps == ended
    assert outcome(tmp_path / "torn") == outcome(tmp_path / "whole")


def test_a_run_that_was_refused_its_end_is_refused_it_again(enough):
    for step in (5, 1_000):  # nothing was evaluated yet, so there is nothing to keep
        with pytest.raises(TrainingDiverged, match="says the same of all"):
            enough("run", step).fit(resume=True)
