"""Runs, each in a process of its own: what is finished is left alone, what was stopped goes on, what fails is noted.

Knows nothing of what the runs are compared for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vitreous.config import diff, from_dict, to_dict
from vitreous.errors import UsageError
from vitreous.run.plan import Run, read_json, to_json
from vitreous.store.checkpoint import RUN, RunFolder
from vitreous.store.files import write_atomic
from vitreous.training.device import usable_cores
from vitreous.training.interrupt import Interrupted, StopSwitch

_LOOK = 0.1  # seconds between two looks at the processes
_GRACE = 60.0  # seconds in which a process that was asked to stop has to save itself

Tell = Callable[[Sequence["Job"], Sequence["Job"]], None]
"""Called with (those at work, those that have ended) whenever there may be something to show."""


@dataclass(eq=False)
class Job:
    """One run on its way."""

    label: str
    run: Run
    place: Path
    reason: str = ""  # why it failed
    begun: float = 0.0  # moment, monotonic
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    errors: IO[bytes] | None = field(default=None, repr=False)

    @property
    def is_finished(self) -> bool:
        """Whether the run folder is there and whole."""
        return RunFolder(self.place).is_sealed()


def work(jobs: Sequence[Job], *, at_once: int, tell: Tell) -> None:
    """Run whatever of ``jobs`` has not finished, ``at_once`` at a time; failures are left in ``Job.reason``.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the runs at work have saved themselves.
        UsageError: a run folder holds another run than the one that is asked for.
    """
    for job in jobs:
        refuse_another(job)
    waiting = deque(job for job in jobs if not job.is_finished)
    ended = [job for job in jobs if job.is_finished]
    active: list[Job] = []
    each = threads(at_once)
    with StopSwitch() as stop:
        try:
            while waiting or active:
                while waiting and len(active) < at_once and not stop.number:
                    active.append(_start(waiting.popleft(), each))
                _reap(active, ended)
                if stop.number:
                    raise Interrupted(stop.number, "Stopped; what is done is kept: the same command goes on from here.")
                tell(active, ended)
                time.sleep(_LOOK)
        finally:
            _stop(active)
    tell(active, ended)


def threads(at_once: int) -> int:
    """Threads of each run: an equal share of the cores, or what OMP_NUM_THREADS says."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(said) if said.isdecimal() and int(said) else max(1, usable_cores() // at_once)


def refuse_another(job: Job) -> None:
    """Refuse to take for ``job`` a run folder of other settings.

    Raises:
        UsageError: names what differs.
        DamagedFile: nobody knows what the run there was to be.
    """
    if not (job.place / RUN).exists():
        return
    # what was asked for: a run settles some of its settings when it begins, and run.json holds those
    changes = diff(to_dict(from_dict(Run, read_json(_settings(job)))), to_dict(job.run))
    if changes:
        path, before, now = changes[0]
        raise UsageError(
            f"{job.place} is another run ({path} was {before}, is {now}); choose another folder with --out."
        )


def command(job: Job) -> list[str]:
    """What trains ``job``, or goes on with it, as a user would; its settings are written for that."""
    program = [sys.executable, "-m", "vitreous"]
    if (job.place / RUN).exists() and RunFolder(job.place).steps():
        return [*program, "resume", str(job.place), "--quiet"]
    settings = _settings(job)
    settings.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(settings, to_json(to_dict(job.run)))
    return [*program, "train", str(settings), "--out", str(job.place), "--overwrite", "--quiet"]


def _settings(job: Job) -> Path:
    """Where the settings lie that a run is begun with."""
    return job.place.parent / f"{job.place.name}.json"


def _start(job: Job, each: int) -> Job:
    job.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
    environment = {**os.environ, "OMP_NUM_THREADS": str(each)}
    job.begun = time.monotonic()
    # a session of its own: Ctrl-C reaches us alone, and we hand it on once
    job.process = subprocess.Popen(
        command(job),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=job.errors,
        env=environment,
        start_new_session=True,
    )
    return job


def _reap(active: list[Job], ended: list[Job]) -> None:
    for job in list(active):
        assert job.process is not None
        code = job.process.poll()
        if code is None:
            continue
        active.remove(job)
        ended.append(job)
        job.reason = "" if code == 0 and job.is_finished else _why(job, code)
        _forget(job)


def _why(job: Job, code: int) -> str:
    """What a process that failed has said last."""
    assert job.errors is not None
    job.errors.seek(0)
    said = [line.strip() for line in job.errors.read().decode(errors="replace").splitlines() if line.strip()]
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"Its process was killed ({name}){hint}."
    return said[-1] if said else f"It ended with exit code {code}, no whole run folder and no word."


def _stop(active: Sequence[Job]) -> None:
    """Ask those at work to save themselves, and wait."""
    for job in active:
        if job.process is not None:
            job.process.terminate()
    end = time.monotonic() + _GRACE
    for job in active:
        if job.process is None:
            continue
        try:
            job.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
        _forget(job)


def _forget(job: Job) -> None:
    """Close what the process wrote to."""
    if job.errors is not None:
        job.errors.close()
