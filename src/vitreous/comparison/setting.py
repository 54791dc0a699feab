"""Before the first step of a comparison: look at the data and at every arm, and refuse what cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitreous import duration
from vitreous.comparison.arms import Arm, arms, data_of
from vitreous.comparison.learned import Begun, begun, learned
from vitreous.comparison.probe import seconds_per_picture
from vitreous.comparison.question import Question, default_budget
from vitreous.config import diff
from vitreous.data.dataset import open_source
from vitreous.data.prepare import Prepared, prepare
from vitreous.errors import BadData, UsageError, VitreousError
from vitreous.recipes.auto import Glance, glance
from vitreous.run.outcome import chosen_by_known, shown_before
from vitreous.run.plan import read_json, to_json
from vitreous.store.checkpoint import RunFolder
from vitreous.store.files import write_atomic
from vitreous.store.lock import exclusive

QUESTION = "question.json"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All that is fixed before the first step."""

    question: Question
    out: Path
    prepared: Prepared
    seen: Glance
    runs: list[Begun]  # that arms begin with
    seconds: float  # of one run, or of the reference
    arms: list[Arm]
    rates: dict[str, float]  # arm to seconds a picture

    @property
    def reference(self) -> Arm:
        """The arm whose first run says how long the others are, where time is not what is equal."""
        return next(arm for arm in self.arms if arm.run)


def settle(
    question: Question,
    out: Path,
    look: Callable[[int, int], None] | None,
    threads: int,
    say: Callable[[str], None],
) -> Setting:
    """Look at the data and at every arm, and refuse what cannot be.

    Args:
        look: told how many pictures have been looked at, of how many.
        threads: that each run will have.
        say: told what is going on.
    """
    _refuse_folder(out)
    source = open_source(question.data)
    seen = glance(source)
    runs = begun(question)
    data = data_of(question, source, seen, runs=runs)
    prepared = prepare(data, source=source, progress=look)
    require_test(prepared)
    earlier = read_json(out / QUESTION) if (out / QUESTION).exists() else None
    seconds = (
        duration.seconds(question.budget)
        if question.budget
        else _default(runs, earlier, len(source), data.preprocess.size)
    )
    if earlier is not None:  # before time is spent on trials
        _refuse_another(out, earlier, _asked(question, prepared, runs, seconds))
    found = arms(question, source, data, seconds, seen, runs=runs)
    say("Trying how fast each model learns.")
    rates, reasons = _tried(found, prepared, threads)
    if not rates:
        first = found[0]
        raise UsageError(f"None of the models can be trained here; {first.name}: {first.reason or reasons[first.name]}")
    if earlier is None and not question.length:
        enough = _enough(question, found, rates, len(prepared.train))
        if enough > seconds:
            seconds = enough
            found = arms(question, source, data, seconds, seen, runs=runs)
    found = [replace(arm, run=None, reason=reasons[arm.name]) if arm.name in reasons else arm for arm in found]
    found = _marked(found, prepared)
    return Setting(
        question=question, out=out, prepared=prepared, seen=seen, runs=runs, seconds=seconds, arms=found, rates=rates
    )


def require_test(prepared: Prepared) -> None:
    """Raise ``BadData`` where there is nothing to compare models on."""
    if not len(prepared.test):
        raise BadData("No picture is left for a test part, and models are compared on that; bring more pictures.")


def _default(runs: Sequence[Begun], earlier: dict[str, Any] | None, pictures: int, size: int) -> float:
    """As long as learning without labels took, where that is what the question is about."""
    if earlier:
        return float(earlier["seconds"])
    return max((own.seconds for own in learned(runs)), default=default_budget(pictures, size))


def _marked(found: Sequence[Arm], prepared: Prepared) -> list[Arm]:
    """The arms, those whose weights or teacher know pictures of test or validation with that sentence."""
    told: dict[str, str] = {}

    def leak(place: str, who: str) -> str:
        if who not in told:
            other = RunFolder.open(place) if Path(place).is_dir() else None
            known = [] if other is None else [t(other, prepared, who) for t in (shown_before, chosen_by_known)]
            told[who] = " ".join(sentence for said in known for sentence in said)
        return told[who]

    marked = []
    for arm in found:
        weights, teacher = (arm.run.weights, arm.run.teacher) if arm.run else (None, None)
        said = [leak(weights, f"The weights of {weights} were")] if weights else []
        said += [leak(teacher.place, f"The teacher {teacher.place} was")] if teacher else []
        marked.append(replace(arm, leak=" ".join(filter(None, said))))
    return marked


def _tried(found: Sequence[Arm], prepared: Prepared, threads: int) -> tuple[dict[str, float], dict[str, str]]:
    """By name, the seconds a picture of every arm, and the reason of those that cannot take a single step."""
    rates: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for arm in sorted(found, key=lambda arm: arm.teacher is None):  # a wrong teacher is found out first
        if arm.run is None or arm.name in rates or arm.name in reasons:  # fractions share a name
            continue
        try:
            rates[arm.name] = seconds_per_picture(arm.run, prepared, threads)
        except VitreousError as error:
            reasons[arm.name] = str(error)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
                raise
            reasons[arm.name] = "It does not fit into the memory."
    return rates, reasons


def _enough(question: Question, found: Sequence[Arm], rates: dict[str, float], pictures: int) -> float:
    """Seconds of one and a half passes of the slowest arm of those with a budget; 0 where a budget was given.

    Raises:
        UsageError: the budget that was given is less than one pass.
    """
    held = [arm.name for arm in found if arm.name in rates]
    slowest = max(held if question.equal == "time" else held[:1], key=lambda name: rates[name])
    least = rates[slowest] * pictures
    enough = float(math.ceil(1.5 * least))
    if question.budget is None:
        return enough
    if least > duration.seconds(question.budget):
        raise UsageError(
            f"A budget of {question.budget} is less than one pass of {slowest} over the {pictures:,} training "
            f"pictures, which takes about {duration.show(least)}; give --budget {duration.show(enough)} or more, or "
            "name other --models."
        )
    return 0.0


@contextmanager
def claimed(setting: Setting) -> Iterator[None]:
    """The folder of the comparison, for us alone, and for this question alone."""
    out, there = setting.out, setting.out / QUESTION
    asked = _asked(setting.question, setting.prepared, setting.runs, setting.seconds)
    _refuse_folder(out)  # again: somebody may have come first
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out / "compare.lock"):
        if there.exists():
            _refuse_another(out, read_json(there), asked)
        write_atomic(there, to_json(asked))
        yield


def _refuse_folder(out: Path) -> None:
    if out.is_file() or (out.is_dir() and not (out / QUESTION).exists() and any(out.iterdir())):
        raise UsageError(f"{out} is there already and holds no comparison; choose another folder with --out.")


def _asked(question: Question, prepared: Prepared, runs: Sequence[Begun], seconds: float) -> dict[str, Any]:
    """All that another call must share to go on."""
    return {
        "question": asdict(question) | {"data": prepared.config.source},
        "seconds": seconds,
        "data": prepared.digests,
        **{f"weights of {run.place}": run.sha256 for run in runs},
    }


def _refuse_another(out: Path, earlier: dict[str, Any], asked: dict[str, Any]) -> None:
    changes = [
        (name, before, now)
        for name, before, now in diff(earlier, _plain(asked))
        # further seeds are the same question, asked more thoroughly; earlier versions did not say all weights
        if name != "question.seeds" and not (name.startswith("weights of ") and before is None)
    ]
    if changes:
        name, before, now = changes[0]
        what = "the data has changed" if name.startswith("data.") else f"{name} was {before}, is {now}"
        raise UsageError(f"{out} holds the answer to another question: {what}; choose another --out.")


def _plain(values: Any) -> Any:
    """``values`` as they come back from JSON."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, (list, tuple)) else values
