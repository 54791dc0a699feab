"""A comparison from the question to the page: look at the data, make the arms, run them, measure, judge, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vitreous import duration
from vitreous.comparison import caveats, page, verdict
from vitreous.comparison.arms import Arm, lengthened
from vitreous.comparison.efficiency import Growth, growth
from vitreous.comparison.learned import learned
from vitreous.comparison.progress import Progress
from vitreous.comparison.question import Question
from vitreous.comparison.result import Comparison
from vitreous.comparison.setting import Setting, claimed, settle
from vitreous.comparison.standing import Finished, Standing, read
from vitreous.comparison.timing import measure, remembered
from vitreous.comparison.work import Job, threads, work
from vitreous.comparison.worth import worth
from vitreous.errors import UsageError, VitreousError
from vitreous.run.plan import Run, to_json
from vitreous.store.files import write_atomic
from vitreous.training.log import counting

COMPARISON, RUNS = "comparison.json", "runs"


def watched(question: Question, out: str | Path | None, *, jobs: int, quiet: bool) -> Comparison:
    """``compare`` with a bar for people, in a place of its own where none is named."""
    progress = Progress(quiet=quiet)
    with counting("Looking at every picture", quiet=quiet) as look:
        return compare(question, usual_place(question) if out is None else Path(out), jobs, progress, look)


def compare(
    question: Question, out: Path, jobs: int, progress: Progress, look: Callable[[int, int], None] | None = None
) -> Comparison:
    """Answer ``question`` in the folder ``out``; what of it is there already is not done again.

    Args:
        jobs: runs at a time.
        progress: told how far the runs are.
        look: told how many pictures have been looked at, of how many.

    Raises:
        VitreousError: nothing can be compared, or another question was asked in this folder.
        Interrupted: everything is kept; the same call goes on.
    """
    question.refuse()
    if jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {jobs}.")
    setting = settle(question, out, look, threads(jobs), progress.say)
    with claimed(setting), progress:
        setting, first, told = _equal(setting, progress)
        progress.say(f"Equal for all: {told}")
        for leak in dict.fromkeys(arm.leak for arm in setting.arms if arm.leak):
            progress.say(leak)
        done = _run(setting, first, jobs, progress)
        result = _judged(setting, done, told)
        write_atomic(out / COMPARISON, to_json(result.to_dict()))
        write_atomic(result.report, page.render(result).encode("utf-8", "backslashreplace"))
    return result


def usual_place(question: Question) -> Path:
    """runs/DATA-comparison: the same for the same data, so that the same command goes on."""
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(question.data).stem) or "pictures"
    return Path("runs") / f"{stem}-comparison"


# ---------------------------------------------------------------- the runs


def _equal(setting: Setting, progress: Progress) -> tuple[Setting, Job | None, str]:
    """The arms with the recipes for their length, the run that said how long that is, and the length in words.

    Where it is not a time, the reference is trained first. Augmentation follows from the length, so the arms are chosen
    again when it is known.
    """
    question = setting.question
    if question.length:
        return setting, None, f"{question.length}, as was set."
    time = duration.show(setting.seconds)
    if question.equal == "time":
        more = " whose name does not say more" if learned(setting.runs) else ""
        told = f"{time} of wall-clock time a run{more}, from its first look at the data to its last step."
        return setting, None, told
    reference = setting.reference
    job = _job(setting, reference, 0)
    progress.plan({job: setting.seconds}, 1)
    work([job], at_once=1, tell=progress.tell)
    if job.reason:
        raise UsageError(f"{reference.name} failed, whose length all others were to have: {job.reason}")
    done = read(job.place, 0, setting.prepared.digests["test"])

    def length(arm: Arm) -> str:
        if question.equal == "steps":
            return f"train.steps={done.steps}"
        if question.equal == "epochs":
            return f"train.epochs={done.epochs}"
        shares = reference.macs * reference.fraction / (max(arm.macs, 1) * arm.fraction)
        return f"train.epochs={done.epochs * shares}"

    words = {
        "steps": f"{done.steps:,} steps, which {reference.name} took in {time}.",
        "epochs": f"{done.epochs:.3g} passes over the training pictures, which {reference.name} took in {time}.",
        "macs": f"the multiply-accumulates of {done.epochs:.3g} passes of {reference.name}, which took {time}.",
    }
    source = setting.prepared.source
    arms = [lengthened(arm, length(arm), source, setting.seen) for arm in setting.arms]
    return replace(setting, arms=arms), job, words[question.equal]


def _job(setting: Setting, arm: Arm, seed: int) -> Job:
    assert arm.run is not None
    run: Run = replace(arm.run, seed=seed)
    return Job(label=f"{arm.label}, seed {seed}", run=run, place=setting.out / RUNS / arm.folder(seed))


def _run(setting: Setting, first: Job | None, at_once: int, progress: Progress) -> dict[tuple[Arm, int], Job]:
    """Every arm's runs. The seeds come in turn, so that a comparison that is stopped early has all arms.

    Args:
        first: the run that said how long all others are.
    """
    jobs: dict[tuple[Arm, int], Job] = {}
    expected: dict[Job, float] = {}
    for seed in range(setting.question.seeds):
        for arm in setting.arms:
            if arm.run is None:
                continue
            job = _job(setting, arm, seed)
            if first is not None and first.place == job.place:
                # one that was augmented for a length that was guessed wrong is no run of this arm
                alike = replace(first.run, train=job.run.train) == job.run
                job = first if alike else replace(job, place=job.place.with_name(f"{job.place.name}-again"))
            jobs[arm, seed] = job
            expected[job] = _seconds(setting, arm, job.run)
    progress.plan(expected, at_once)
    work(list(jobs.values()), at_once=at_once, tell=progress.tell)
    return jobs


def _seconds(setting: Setting, arm: Arm, run: Run) -> float:
    """About how long a run trains."""
    train, pictures = run.train, arm.fraction * len(setting.prepared.train)
    if train.budget_seconds is not None:
        return train.budget_seconds
    seen = train.steps * train.batch if train.steps is not None else (train.epochs or 1.0) * pictures
    return float(seen * setting.rates[arm.name])


# ---------------------------------------------------------------- what came of it


def _judged(setting: Setting, jobs: dict[tuple[Arm, int], Job], told: str) -> Comparison:
    standings = [_standing(arm, jobs, setting.prepared.digests["test"]) for arm in setting.arms]
    most = max(setting.question.fractions)
    timed = [s for s in standings if s.runs and s.arm.fraction == most]
    folders = [s.runs[0].folder for s in timed]
    known = None if any(job.begun for job in jobs.values()) else remembered(setting.out / COMPARISON, folders)
    # measured only now, when no other process of ours is at work
    speeds = dict(zip((s.arm for s in timed), known or measure(folders), strict=True))
    standings = [replace(s, speed=speeds.get(s.arm)) for s in standings]
    # what knows held-out pictures is not ranked among the others
    standings.sort(key=lambda s: (-s.arm.fraction, not s.runs, bool(s.leak), -s.validation if s.runs else 0.0))
    counts = {side: sum(each) for side, each in setting.prepared.class_counts.items()}
    complete = [s for s in standings if s.runs and s.arm.fraction == most]
    held_out = setting.prepared.class_counts["test"]
    share, guess = counts["test"] / sum(counts.values()), max(held_out) / counts["test"]
    judgement = verdict.judge(complete, share=share, guess=guess)
    asked, pairs = worth([s for s in complete if not s.leak])
    if asked:
        held = verdict.distinct([*pairs, *judgement.pairs])
        judgement = verdict.Judgement(asked, [judgement.verdict, *judgement.remarks], held, judgement.use)
    by_time = setting.question.equal == "time" and not setting.question.length
    curves = tuple(filter(None, (_growth(s, standings) for s in complete if not s.leak)))
    return Comparison(
        question=setting.question,
        arms=tuple(standings),
        verdict=judgement.verdict,
        remarks=(*judgement.remarks, *(curve.sentence() for curve in curves[:1]), *caveats.of(complete, timed=by_time)),
        use=next((s for s in complete if s.name == judgement.use), None),
        pairs=tuple(p.named() for p in judgement.pairs),
        equal=told,
        growth=curves,
        data={
            "source": setting.prepared.source.root,
            "size": setting.prepared.config.preprocess.size,
            "classes": list(setting.prepared.classes),
            "counts": counts,
            "digests": setting.prepared.digests,
            "notices": list(setting.prepared.notices),
        },
        folder=setting.out,
    )


def _growth(whole: Standing, standings: Sequence[Standing]) -> Growth | None:
    """The curve of one arm through its fractions."""
    parts = [s for s in standings if s.runs and s.arm.name == whole.arm.name]
    return growth(whole.arm.name, [s.runs[0].train_pictures for s in parts], [s.right for s in parts])


def _standing(arm: Arm, jobs: dict[tuple[Arm, int], Job], digest: str) -> Standing:
    runs: list[Finished] = []
    reasons = {0: arm.reason} if arm.run is None else {}
    for (other, seed), job in jobs.items():
        if other is not arm:
            continue
        if job.reason:
            reasons[seed] = job.reason
            continue
        try:
            runs.append(read(job.place, seed, digest))
        except VitreousError as error:
            reasons[seed] = str(error)
    return Standing(arm=arm, runs=tuple(runs), reasons=reasons)
