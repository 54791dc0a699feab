"""One bar for all runs of a comparison: which arms are at work, and the time left. Lines where there is no terminal."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from vitreous import duration
from vitreous.comparison.work import Job

_BEYOND = 5.0  # seconds that a run takes beyond its training, until one has shown it


class Progress:
    """A context; ``plan`` says what is to come, ``tell`` how far it is.

    Args:
        quiet: say nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, quiet=quiet)
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0, facts="", visible=False)
        self._seconds: dict[Job, float] = {}
        self._at_once = 1
        self._beyond: list[float] = []  # seconds that each run took beyond its training
        self._done: set[Job] = set()

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, style="dim", markup=False)

    def plan(self, seconds: dict[Job, float], at_once: int) -> None:
        """The runs to come and about how long each trains."""
        self._seconds, self._at_once = seconds, at_once
        self._done = {job for job in seconds if job.is_finished}
        many = len(seconds) - len(self._done)
        left = f"{many} run{'s' if many > 1 else ''} to go, about {duration.show(max(1.0, self._left([])))}."
        self.say(left if many else "Nothing is left to train.")
        self._bar.update(self._task, visible=True, total=len(seconds))

    def tell(self, active: Sequence[Job], ended: Sequence[Job]) -> None:
        """Who is at work and who has ended."""
        for job in ended:
            if job in self._done:
                continue
            self._done.add(job)
            took = time.monotonic() - job.begun
            if not job.reason:
                self._beyond.append(max(0.0, took - self._seconds.get(job, took)))
            if job.reason or not self._console.is_terminal:
                how = f"failed: {job.reason}" if job.reason else f"done in {duration.show(took)}"
                self._console.print(
                    f"{len(self._done)}/{len(self._seconds)} {job.label}: {how}",
                    style="yellow" if job.reason else None,
                    markup=False,
                )
        names = ", ".join(job.label for job in active)
        facts = f"{len(self._done)} of {len(self._seconds)} runs · {duration.show(self._left(active))} left"
        share = len(self._done) + sum(self._share(job) for job in active)
        self._bar.update(self._task, description=names, completed=share, facts=facts)

    def _share(self, job: Job) -> float:
        return min(0.99, (time.monotonic() - job.begun) / self._length(job))

    def _length(self, job: Job) -> float:
        return self._seconds.get(job, 0.0) + (statistics.median(self._beyond) if self._beyond else _BEYOND)

    def _left(self, active: Sequence[Job]) -> float:
        waiting = [job for job in self._seconds if job not in self._done]
        left = sum(self._length(job) * (1 - self._share(job) if job in active else 1.0) for job in waiting)
        return left / self._at_once
