"""From a question to arms: one run for every model, way to begin and share of the pictures, all on the same split.

An arm that cannot be is an arm with the reason; the others are not lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vitreous import duration, recipes
from vitreous.comparison.entries import Entry, Mixer, entries
from vitreous.comparison.learned import Begun, begun, learned
from vitreous.comparison.question import AUTO, PRETRAINED, SCRATCH, USUAL, Question
from vitreous.data.dataset import Source
from vitreous.data.prepare import DataConfig
from vitreous.errors import DamagedFile, NoSpace, Unreachable, UsageError
from vitreous.models.describe import describe
from vitreous.recipes.auto import Glance, glance
from vitreous.run.plan import Run


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """One row of the comparison.

    Attributes:
        init: "scratch", "pretrained", or the run folder it begins with.
        mixer: of the transformer that has twins, and of these: what cells exchange information by; else None.
        teacher: who teaches it, as the question says it.
        untaught: the name of the same arm without its teacher.
        unlearned: the name of the same network from scratch, for an arm whose weights were learned without labels.
        longer: the name of that with the time that learning them took on top.
        leak: that weights or teacher know pictures of test or validation, in a sentence.
        wishes: that the run was chosen for.
        run: with seed 0; None where there can be none.
        reason: why there can be none.
        macs: of the forward pass, for one picture.
    """

    name: str
    model: str
    init: str
    fraction: float
    mixer: Mixer | None = None
    teacher: str | None = None
    untaught: str = ""
    unlearned: str = ""
    longer: str = ""
    leak: str = ""
    wishes: recipes.Wishes | None = None
    run: Run | None = None
    reason: str = ""
    macs: int = 0

    @property
    def is_scratch(self) -> bool:
        """Whether all that it knows comes from these pictures, in its own time; a teacher may know more."""
        teacher = None if self.run is None else self.run.teacher
        return self.init == SCRATCH and (teacher is None or teacher.is_model)

    @property
    def label(self) -> str:
        """The name, with the fraction where that is not all."""
        return self.name if self.fraction == 1 else f"{self.name}, {self.fraction:g} of the pictures"

    @property
    def is_frozen(self) -> bool:
        """Whether only a classifier on its features is fitted, which takes no length of training."""
        return self.run is not None and self.run.train.steps == 0

    def folder(self, seed: int) -> str:
        """The name of the run folder of one seed."""
        stem = re.sub(r"[^\w.]+", "-", self.name).strip("-")
        return f"{stem}{'' if self.fraction == 1 else f'-{self.fraction:g}'}-seed{seed}"


def lengthened(arm: Arm, length: str, source: Source, seen: Glance) -> Arm:
    """``arm`` with the recipe for the ``length`` that turned out, as in "train.epochs=10"."""
    if arm.run is None or arm.wishes is None or arm.is_frozen:
        return arm
    wishes = replace(arm.wishes, set=[*arm.wishes.set, length])
    run, _ = recipes.choose(wishes, source, fraction=arm.fraction, seen=seen)
    return replace(arm, wishes=wishes, run=replace(arm.run, train=run.train, task=run.task))


def data_of(
    question: Question, source: Source, seen: Glance | None = None, *, runs: Sequence[Begun] | None = None
) -> DataConfig:
    """The data that all arms share: split, and preprocessing at the size of the question or of the pictures.

    The arguments are those of ``arms``.
    """
    runs = begun(question) if runs is None else runs
    # weights of others were learned from larger pictures than what is usual from scratch
    model = "resnet18" if PRETRAINED in question.init else AUTO
    changes = tuple(c for c in question.set if c.lstrip().startswith("data."))
    size = question.size or next((own.network.size for own in learned(runs)), None)
    wishes = recipes.Wishes(data=question.data, recipe="scratch", model=model, size=size, set=changes)
    run, _ = recipes.choose(wishes, source, seen=seen)
    if PRETRAINED in question.init and size is None and AUTO in (question.models or USUAL):
        size = 224 if run.data.preprocess.size >= 128 else 112  # whole patches of 16, and of 14 as in what auto then is
        run, _ = recipes.choose(replace(wishes, size=size), source, seen=seen)
    return run.data


def arms(
    question: Question,
    source: Source,
    data: DataConfig,
    seconds: float,
    seen: Glance | None = None,
    *,
    runs: Sequence[Begun] | None = None,
) -> list[Arm]:
    """All arms of ``question``, the whole of the pictures first.

    Args:
        source: the pictures, open.
        data: what the arms share.
        seconds: budget of one run.
        seen: what a glance at the pictures found, so that they are not opened again for every arm.
        runs: that arms begin with, so that they are not read again.

    Raises:
        UsageError: settings that fit no arm.
        Unreachable: no arm can begin, as the published weights cannot be fetched.
    """
    seen = glance(source) if seen is None else seen
    own = learned(begun(question) if runs is None else runs)
    makers = [_Maker(question, source, data, seconds, init, seen=seen, own=own) for init in question.init]
    shares = sorted(question.fractions, reverse=True)
    found = [arm for share in shares for maker in makers for arm in maker.make(share)]
    if not any(arm.run for arm in found):
        first = found[0].reason
        raise Unreachable(first) if any(maker.offline for maker in makers) else UsageError(first)
    folders: dict[str, Arm] = {}
    for arm in found:
        if arm is not folders.setdefault(arm.folder(0).lower(), arm):
            raise UsageError(f"Two arms would share the folder {arm.folder(0)}; name each model and run once.")
    return found


class _Maker:
    """Makes the arms that begin in one way."""

    def __init__(
        self,
        question: Question,
        source: Source,
        data: DataConfig,
        seconds: float,
        init: str,
        *,
        seen: Glance,
        own: Sequence[Begun],
    ) -> None:
        self.question, self.source, self.data, self.init, self.seen = question, source, data, init, seen
        self.seconds = seconds
        self.learned = {run.place: run for run in own}  # without labels
        self.offline = ""  # the hub is asked until it cannot be reached once

    def make(self, fraction: float) -> Iterator[Arm]:
        """The arms that learn from this share of the training pictures."""
        if self.init not in (SCRATCH, PRETRAINED):
            alike = [place for place in self.question.init if Path(place).name == Path(self.init).name]
            name = Path(self.init) if len(alike) > 1 else Path(self.init).name
            entry = Entry(f"weights of {name}", AUTO, None)
            if self.init in self.learned:
                yield from self._controlled(entry, self.learned[self.init], fraction)
            else:
                yield self._arm(entry, fraction)
            return
        teacher = self.question.teacher if self.init == SCRATCH else None
        impossible = set()
        for entry in self._entries(teacher):
            if entry.untaught in impossible:  # which is said of the arm without the teacher
                continue
            if self.init == SCRATCH:
                arm = self._arm(entry, fraction)
                impossible |= {entry.name} if arm.run is None else set()
                yield arm
            elif entry.mixer in (None, "attention"):  # nobody has published weights of twins, nor of what auto is here
                yield self._arm(Entry(AUTO, AUTO, None) if entry.name == AUTO else entry, fraction)

    def _entries(self, teacher: str | None) -> list[Entry]:
        """Whom the question names; where it is about weights that were learned without labels, their network."""
        if self.learned and not self.question.models:
            return [] if self.init == SCRATCH else [Entry(AUTO, AUTO, None)]
        return entries(self.question.models, self.data.preprocess.size, teacher, auto=self._auto)

    @cached_property
    def _auto(self) -> str:
        """The transformer that the recipes take for all of these pictures in this time."""
        about = [change for change in self.question.set if not _of_teacher(change)]
        size, budget = self.data.preprocess.size, f"{self.seconds:g}s"
        wishes = recipes.Wishes(data=self.question.data, recipe="scratch", budget=budget, size=size, set=about)
        return recipes.choose(wishes, self.source, seen=self.seen)[0].network.model

    def _controlled(self, entry: Entry, own: Begun, fraction: float) -> Iterator[Arm]:
        """Weights that were learned without labels, trained and frozen, and what shows whether that was worth it."""
        begun = [self._arm(e, fraction) for e in (entry, entry._replace(name=f"{entry.name}, frozen", frozen=True))]
        if SCRATCH not in self.question.init:
            yield from begun
            return
        others = {e.name: e for e in self._entries(None)}
        named = [name for name, e in others.items() if e.builds(own.network.model, own.network.options)]
        other = f"{own.network.model} as in {entry.name}" if own.network.model in others else own.network.model
        unlearned, longer = f"{named[0] if named else other}, {SCRATCH}", ""
        if not named:
            yield self._scratch(own, unlearned, self.seconds, fraction)
        if self.question.equal == "time" and not self.question.length:
            longer = f"{unlearned}, {duration.show(own.seconds)} longer"
            yield self._scratch(own, longer, self.seconds + own.seconds, fraction)
        yield from (replace(arm, unlearned=unlearned, longer=longer) for arm in begun)

    def _scratch(self, own: Begun, name: str, seconds: float, fraction: float) -> Arm:
        """The network of ``own`` as if nothing had been learned."""
        maker = _Maker(self.question, self.source, self.data, seconds, SCRATCH, seen=self.seen, own=[own])
        entry = Entry(own.network.model, own.network.model, None, options=own.network.options)
        return replace(maker._arm(entry, fraction), name=name)

    def _arm(self, entry: Entry, fraction: float) -> Arm:
        several = len(self.question.init) > 1 and self.init in (SCRATCH, PRETRAINED)
        name, untaught = (f"{n}, {self.init}" if several and n else n for n in (entry.name, entry.untaught))
        arm = Arm(name=name, model=entry.model, init=self.init, fraction=fraction, mixer=entry.mixer)
        if untaught:
            arm = replace(arm, teacher=self.question.teacher, untaught=untaught)
        if self.init == PRETRAINED and self.offline:
            return replace(arm, reason=self.offline)
        try:
            wishes = self._wishes(entry)
            run = self._run(wishes, entry, fraction)
            network = run.network
            macs = describe(network.model, network.size, max(network.classes, 1), network.options).macs
        except Unreachable as error:
            if self.init == PRETRAINED:
                self.offline = str(error)
            return replace(arm, reason=str(error))
        except (UsageError, DamagedFile, NoSpace) as error:
            if self.init not in (SCRATCH, PRETRAINED) or arm.teacher:
                raise
            return replace(arm, reason=str(error))
        return replace(arm, model=run.network.model, wishes=wishes, run=run, macs=macs)

    @property
    def _own_size(self) -> bool:
        """Whether published weights are read at their own size, as nobody else says one."""
        return bool(self.init == PRETRAINED and self.learned and self.question.size is None)

    def _wishes(self, entry: Entry) -> recipes.Wishes:
        begun: dict[str, dict[str, Any]] = {SCRATCH: {"recipe": "scratch"}, PRETRAINED: {"pretrained": True}}
        about = [c for c in self.question.set if entry.untaught or not (self.question.teacher and _of_teacher(c))]
        if entry.frozen:
            about = [c for c in about if c.strip() != self.question.length]
        return recipes.Wishes(
            data=self.question.data,
            model=entry.model,
            budget=None if entry.frozen else f"{self.seconds:g}s",
            size=None if self._own_size else self.data.preprocess.size,
            tune="frozen" if entry.frozen else None,
            teacher=self.question.teacher if entry.untaught else None,
            set=about,
            **begun.get(self.init, {"weights": self.init}),
        )

    def _run(self, wishes: recipes.Wishes, entry: Entry, fraction: float) -> Run:
        run, _ = recipes.choose(wishes, self.source, fraction=fraction, seen=self.seen)
        options = {**run.network.options, **entry.settled}
        run = replace(run, network=replace(run.network, options=options))
        data = replace(self.data, preprocess=run.data.preprocess) if self._own_size else self.data
        return replace(run, data=replace(data, fraction=fraction))


def _of_teacher(change: str) -> bool:
    return change.lstrip().startswith("teacher.")
