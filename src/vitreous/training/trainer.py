"""The one training loop: batches in, weights out. It knows tasks by their contract and has no word of vision in it.

A step is a pure function of the state before it and of (seed, step): killed anywhere and resumed, a run ends with the
same bits as one that was never stopped, on the same machine with the same versions and threads. When it is saved has
no influence on what it computes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from vitreous import config as configs
from vitreous import duration
from vitreous.errors import TrainingDiverged, UsageError
from vitreous.store.checkpoint import Checkpoint, RunFolder
from vitreous.tasks.task import Task
from vitreous.training.average import Average
from vitreous.training.clock import Clock
from vitreous.training.config import TrainConfig, refuse_changes
from vitreous.training.device import Device
from vitreous.training.interrupt import Interrupted, StopSwitch
from vitreous.training.log import METRICS, Journal, Log
from vitreous.training.norms import remeasure
from vitreous.training.optim import Optimiser
from vitreous.training.schedule import Plan, plan_steps, warmup_cosine
from vitreous.training.state import Counters, State, shipped
from vitreous.training.step import Report, Stepper
from vitreous.types import Batch

if TYPE_CHECKING:
    from vitreous.data.loader import Loader

_BAD_IN_A_ROW = 3  # steps that are not finite before the weights go back to the last milestone
_PROBE = 50  # steps at most that measure the speed


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What training leaves behind."""

    weights: dict[str, Tensor] = field(repr=False)  # of the network, at the best milestone; averaged if that was on
    step: int  # of these weights
    score: float | None  # at that step
    steps: int  # in all
    plan: Plan
    seconds: float
    skipped: int  # steps left out because their loss or gradient was not finite
    notices: tuple[str, ...]


class Trainer:
    """Trains ``task`` in ``folder``, which the caller has locked.

    Args:
        train, val: loaders of this process's share; without ``val`` the last weights are taken.
        plain: some training pictures as evaluation sees them, the same in every process; batch norms are measured
            anew on them before the weights are judged.
        seed: of everything random in the model.
        identity: JSON values that a resumed run must share, such as the whole config and a digest of the data;
            default the config of training alone, under "train".
        spent: seconds of the budget already used, by preparing the data.
    """

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        *,
        train: Loader,
        val: Loader | None,
        plain: Loader | None = None,
        folder: RunFolder,
        device: Device,
        seed: int = 0,
        identity: Mapping[str, Any] | None = None,
        spent: float = 0.0,
        log: Log | None = None,
    ) -> None:
        self.task = task.to(device.place)
        self.config = config
        self.train = train
        self.val = val
        self.plain = plain
        self.folder = folder
        self.device = device
        self.seed = seed
        self.identity = configs.to_dict({"train": config} if identity is None else identity)
        self.log = log or Log(None)
        self._clock = Clock(spent, config.budget_seconds if config.plan is None else None)
        device.share([*self.task.parameters(), *self.task.buffers()])
        average = None if config.optim.ema is None else Average(task.network, config.optim.ema)
        self._state = State(task, Optimiser(task, config.optim), average)
        self._stepper = Stepper(self._state, device, accumulate=config.accumulate, seed=seed)
        self._stop = StopSwitch()
        self._saved = (0, time.monotonic())
        self._journal: Journal | None = None
        self._halted = False  # some process saw the task end its training
        self._plan = Plan(steps=_PROBE, evaluate_every=_PROBE)  # until fit() decides

    def progress(self, step: int) -> float:
        """Share of the run that is done before ``step``, 0 to 1; known once ``fit`` has begun."""
        return self._plan.progress(step)

    def fit(self, *, resume: bool = False, previous: bool = False, force: bool = False) -> Fitted:
        """Train to the end, or go on from where the folder's run was stopped.

        Args:
            resume: go on from the newest checkpoint, if there is one.
            previous: if it is damaged, from the one before.
            force: even if ``identity`` has changed.

        Raises:
            Interrupted: SIGTERM or SIGINT came; everything is saved.
            TrainingDiverged: loss or gradients stopped being finite, and going back once did not help.
            UsageError: there is a run already, or its settings are others; names them.
            NoSpace: the disk is full; the checkpoints so far are sound.
            DamagedFile: the newest checkpoint is not what was saved.
        """
        with self._stop:
            try:
                self._begin(self.folder.latest(fallback=previous) if resume else None, resume, force)
                self._loop()
            finally:
                self.log.close()
                if self._journal is not None:
                    self._journal.close()
        return self._result()

    # ------------------------------------------------------------ the loop

    def _loop(self) -> None:
        counters = self._state.counters
        while True:
            due = self._plan.is_milestone(counters.step) or (self.config.evaluate_first and counters.step == 0)
            if due and counters.evaluated < counters.step:
                self._milestone()
            if self._halted or counters.halted:
                self._halt()
                return
            if counters.step >= self._plan.end or self._is_stale():
                return
            self._segment()

    def _segment(self) -> None:
        """Steps up to the next milestone, or to a checkpoint that changed the plan."""
        counters, plan = self._state.counters, self._plan
        self._state.begin(counters.step)
        with closing(self.train.train(counters.step, plan.next_milestone(counters.step))) as batches:
            for batch in batches:
                report = self._advance(batch)
                stop, save, self._halted = report.signals
                if stop:
                    self._interrupt()
                if self._halted:
                    return
                if save and not plan.is_milestone(counters.step):
                    self._save()
                    if self._plan is not plan:
                        return

    def _halt(self) -> None:
        """End before the plan does; what was best until then is kept, if anything was better than the beginning."""
        counters = self._state.counters
        if self._saved[0] < counters.step:
            self._save(revise=False)
        if counters.best is None or counters.best_step == 0:
            raise TrainingDiverged(counters.halted)
        self.log.notice(f"{counters.halted} Kept are the weights of step {counters.best_step}.")

    def _advance(self, batch: Batch) -> Report:
        """One step and its row; three bad ones in a row lead back to the last milestone."""
        counters, step = self._state.counters, self._state.counters.step
        optim = self.config.optim
        factor = warmup_cosine(self._plan.progress(step + 0.5), optim.warmup, optim.last_lr) * counters.lr_scale
        counters.halted = counters.halted or self.task.halted()
        signals = (self._stop.number > 0, self._is_save_due(step + 1), bool(counters.halted))
        report = self._stepper.update(batch, step, factor, signals)
        counters.step += 1
        row = self._row() | report.values | {"lr": optim.rate * factor, "gradient": report.norm}
        counters.bad = 0 if report.finite else counters.bad + 1
        if not report.finite:
            counters.skipped += 1
            row["skipped"] = True
        self._write(row)
        self.log.step(row, self.config.batch, self.train.reset_waited())
        if counters.bad == _BAD_IN_A_ROW:
            self._go_back(optim.rate * factor)
        return report

    # ------------------------------------------------------------ milestones and checkpoints

    def _milestone(self) -> None:
        """Evaluate, and save what can be gone back to."""
        counters = self._state.counters
        row, score = self._row(), None
        if self.val is not None:
            with self._clock.milestone():
                if self.plain is not None and counters.step:  # weights that came with norms of their own keep them
                    remeasure(self.task, self._state.average, self.plain, self.device)
                values = self._evaluate(self.val)
            row["val"], score = values, values["score"]
            self._compare(score)
            self._write(row)
        counters.evaluated = counters.step
        counters.halted = counters.halted or self.task.halted()
        if counters.bad == 0:
            counters.milestone = counters.step
        self._save(score=score, milestone=counters.bad == 0)
        self.log.milestone(row, self._clock.elapsed, self._plan.end, said=self.task.said)

    def _evaluate(self, val: Loader) -> dict[str, float]:
        average = self._state.average
        self.task.eval()
        try:
            with torch.no_grad(), self.device.autocast(), average.applied() if average else nullcontext():
                return {k: float(v) for k, v in self.task.evaluate(self._watched(val), self.device.gather).items()}
        except _Stopped:
            pass
        finally:
            self.task.train()
        self._interrupt()  # outside, where the weights are their own again

    def _watched(self, val: Loader) -> Iterator[Batch]:
        with closing(val.evaluate()) as batches:
            for batch in batches:
                if self._stop.number and self.device.world == 1:  # one of several must not leave the others waiting
                    raise _Stopped
                yield batch.to(self.device.place)

    def _compare(self, score: float) -> None:
        counters = self._state.counters
        if math.isfinite(score) and (counters.best is None or score > counters.best):
            counters.best, counters.best_step, counters.stale = score, counters.step, 0
        else:
            counters.stale += 1

    def _save(self, *, score: float | None = None, milestone: bool = False, revise: bool = True) -> None:
        counters = self._state.counters
        if revise and self._clock.budget is not None:
            end = self.device.agree(self._clock.revise(self._plan, counters.step).end)
            self._plan = self._plan.revised(counters.step, int(end))
        self._saved = (counters.step, time.monotonic())
        if self._journal is not None:
            facts = {
                "identity": self.identity,
                "seed": self.seed,
                "plan": self._plan,
                "counters": asdict(counters),
                "journal": self._journal.mark(),
                "machine": self.device.facts(),
                "seconds": self._clock.elapsed,
            }
            usable = score if score is not None and math.isfinite(score) else None
            self.folder.save(counters.step, self._state.tensors(), facts, score=usable, milestone=milestone)
        self.device.barrier()

    def _is_save_due(self, step: int) -> bool:
        """Whether a checkpoint is due after ``step``; the first process decides, for only its clock counts."""
        save, (last, moment) = self.config.save, self._saved
        seconds = save.seconds if self._clock.budget is None else min(save.seconds, self._clock.budget / 8)
        due = time.monotonic() - moment >= seconds or (save.steps is not None and step - last >= save.steps)
        return due and self.device.is_first

    def _go_back(self, rate: float) -> None:
        """To the last milestone's weights with half the learning rate; time itself runs on, past the bad batches."""
        counters = self._state.counters
        if counters.restored:
            raise TrainingDiverged(
                f"The loss or its gradient stopped being a number at step {counters.step} (learning rate {rate:.3g}), "
                f"and going back to step {counters.milestone} with half the rate did not help; "
                f"lower train.optim.lr (and muon_lr) tenfold, or look for broken pictures with vitreous check."
            )
        self._state.load(self.folder.load(counters.milestone).tensors)
        self._state.begin(counters.milestone)
        counters.restored += 1
        counters.lr_scale /= 2
        counters.bad = 0
        self._write({"step": counters.step, "restored": counters.milestone, "lr_scale": counters.lr_scale})
        self.log.notice(
            f"Three steps in a row up to {counters.step} had no finite loss: back to the weights of step "
            f"{counters.milestone}, with half the learning rate."
        )

    def _interrupt(self) -> NoReturn:
        self._save(revise=False)
        number = int(self.device.agree(float(self._stop.number))) or self._stop.number or 15
        raise Interrupted(
            number,
            f"Stopped at step {self._state.counters.step} of {self._plan.end}; everything is saved: "
            f"go on with vitreous resume {self.folder.path}.",
        )

    # ------------------------------------------------------------ begin and end

    def _begin(self, checkpoint: Checkpoint | None, resume: bool, force: bool) -> None:
        self.device.barrier()  # everybody has read the folder before anybody writes to it
        if self.device.is_first:
            if not resume and self.folder.steps():
                raise UsageError(f"{self.folder.path} holds a run already; resume it or choose another folder.")
            self.folder.require_space(self._state.bytes())
            self._journal = Journal(self.folder.path / METRICS)
        self.task.train()
        if checkpoint is None:
            self._plan = self._first_plan()
            if self._journal is not None:
                self._journal.rewind(None)
            self._save(milestone=True, revise=False)
        else:
            self._restore(checkpoint, force)
        self._tell_if_short(new=checkpoint is None)
        counters = self._state.counters
        self._clock.start(counters.step)
        self._saved = (counters.step, time.monotonic())
        self.log.open(counters.step, self._plan.end)

    def _restore(self, checkpoint: Checkpoint, force: bool) -> None:
        facts = checkpoint.facts
        if not force:
            refuse_changes(facts["identity"], self.identity, str(self.folder.path))
        self._plan = configs.from_dict(Plan, facts["plan"])
        self._state.load(checkpoint.tensors)
        self._state.counters = configs.from_dict(Counters, facts["counters"])
        self._clock = Clock(facts["seconds"] + self._clock.elapsed, self._clock.budget)
        if self._journal is not None:
            self._journal.rewind(facts["journal"])
        others = configs.diff(facts["machine"], self.device.facts())
        if others:
            changes = ", ".join(f"{path} was {old}, is {new}" for path, old, new in others)
            self.log.notice(f"Resumed under other conditions, so not bit-exact: {changes}.")

    def _first_plan(self) -> Plan:
        config, epoch = self.config, self.train.steps_per_epoch
        if config.plan is not None:
            return config.plan
        if config.steps is not None:
            return plan_steps(config.steps, epoch, config.evaluate_every)
        if config.epochs is not None:
            return plan_steps(max(1, round(config.epochs * epoch)), epoch, config.evaluate_every)
        evaluation = 0 if self.val is None else self.val.steps_per_epoch
        with closing(self.train.train(0, _PROBE)) as batches:
            measured = self._stepper.measure(batches, 0.03 * (config.budget_seconds or 0.0))
        plan = self._clock.first_plan(measured, evaluation, epoch, config.evaluate_every)
        steps, every = self.device.agree(plan.steps), self.device.agree(plan.evaluate_every)
        return Plan(steps=int(steps), evaluate_every=int(every))

    def _tell_if_short(self, new: bool) -> None:
        """A budget that ends before every picture was seen once is hardly what was meant."""
        steps, epoch, budget = self._plan.end, self.train.steps_per_epoch, self.config.budget_seconds
        if budget is None or steps >= epoch:
            return
        spent = f"looking at the data and starting took {duration.show(self._clock.elapsed)}, and " if new else ""
        left = f"{steps} step{' was' if steps == 1 else 's were'} left"
        self.log.notice(
            f"The budget of {duration.show(budget)} was too short: {spent}{left}, of the {epoch} that one pass over "
            "the training pictures takes; give a longer --budget."
        )

    def _is_stale(self) -> bool:
        return self.config.patience is not None and self._state.counters.stale >= self.config.patience

    def _row(self) -> dict[str, Any]:
        step = self._state.counters.step
        return {"step": step, "epoch": round(step / self.train.steps_per_epoch, 4)}

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._journal is not None:
            self._journal.write(row)

    def _result(self) -> Fitted:
        counters = self._state.counters
        best = counters.best is not None and counters.best_step != counters.step
        if best and counters.best_step == 0:
            self.log.notice(
                f"No step made the weights better on validation than they were at the beginning (score "
                f"{counters.best:.4f}), so those are what is kept: nothing of them was trained."
            )
        tensors = self.folder.load(counters.best_step).tensors if best else self._state.tensors()
        return Fitted(
            weights=shipped(tensors),
            step=counters.best_step if best else counters.step,
            score=counters.best,
            steps=counters.step,
            plan=self._plan,
            seconds=self._clock.elapsed,
            skipped=counters.skipped,
            notices=tuple(self.log.notices),
        )


class _Stopped(Exception):
    pass
