"""What a run says while it works: a progress bar or plain lines for people, and files for programs.

``metrics.jsonl`` holds deterministic values alone and is cut back to its checkpoint on resume, so it has each row
exactly once. Whatever depends on the clock goes to ``timings.jsonl``, which only grows, and to TensorBoard.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vitreous import duration
from vitreous.errors import DamagedFile, NoSpace, UsageError
from vitreous.store.files import full_disk_named

METRICS, TIMINGS, EVENTS = "metrics.jsonl", "timings.jsonl", "events"
_REFRESH = 0.2  # seconds between two looks at the progress bar, and between two writes of rows


class Journal:
    """Rows of JSON in a file that can be cut back to a checkpoint, and vouched for up to there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with full_disk_named(path, 1):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._pending = bytearray()
        self._written = time.monotonic()
        self._length, self._digest = 0, hashlib.sha256()

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row; it reaches the file within a moment."""
        line = json.dumps(_finite(row), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        self._pending += line
        self._length += len(line)
        self._digest.update(line)
        if time.monotonic() - self._written > _REFRESH:
            self._flush()

    def mark(self) -> dict[str, Any]:
        """Everything so far is on the disk; what a checkpoint keeps to come back here."""
        self._flush()
        os.fsync(self._file.fileno())
        return {"bytes": self._length, "sha256": self._digest.hexdigest()}

    def rewind(self, mark: Mapping[str, Any] | None) -> None:
        """Cut off whatever came after ``mark``, or everything.

        Raises:
            DamagedFile: what came before is not what was written.
        """
        with open(self.path, "rb") as file:
            kept = file.read(mark["bytes"] if mark else 0)
        self._length, self._digest = len(kept), hashlib.sha256(kept)
        if mark and self._digest.hexdigest() != mark["sha256"]:
            raise DamagedFile(f"{self.path} was changed or cut short; restore it from a copy or train again.")
        self._pending.clear()
        self._file.truncate(len(kept))

    def close(self) -> None:
        """Write what is pending, if that is still possible."""
        try:
            self._flush()
        except NoSpace:
            pass  # rows after the last checkpoint are written again on resume
        finally:
            self._file.close()

    def _flush(self) -> None:
        append(self._file.fileno(), self._pending, self.path)
        self._pending.clear()
        self._written = time.monotonic()


def append(handle: int, data: bytes | bytearray, path: Path) -> None:
    """Write all of ``data`` at the end of an open file.

    Raises:
        NoSpace: the disk is full; names the folder and the bytes.
    """
    rest = memoryview(bytes(data))
    with full_disk_named(path, len(rest)):
        while rest:
            rest = rest[os.write(handle, rest) :]


class Log:
    """The voice of a run. Only the first process has one.

    Args:
        folder: of the run; None writes nothing.
        quiet: no progress bar and no lines.
        tensorboard: also write events.

    Raises:
        UsageError: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path | None, *, quiet: bool = False, tensorboard: bool = False) -> None:
        self.folder = folder
        self.notices: list[str] = []
        self._console = Console(stderr=True, quiet=quiet or folder is None, soft_wrap=True, highlight=False)
        self._writer_class = _summary_writer() if tensorboard and folder is not None else None
        self._writer: Any = None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._end, self._loss, self._score = 0, math.nan, ""
        self._images, self._busy, self._waited = 0, 0.0, 0.0  # since the last milestone
        self._last = self._shown = 0.0

    def open(self, step: int, end: int) -> None:
        """Begin at ``step`` of ``end``."""
        self._end, self._last = end, time.monotonic()
        if self._writer_class is not None:
            self._writer = self._writer_class(str(self.folder / EVENTS), purge_step=step + 1)  # type: ignore[operator]
        if self._console.is_terminal and not self._console.quiet:
            facts = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"), TimeRemainingColumn())
            self._bar = Progress(TextColumn("training"), *facts, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=end, completed=step, facts="")
            self._bar.start()
            self._console.show_cursor(True)  # a run that is killed must not leave a terminal without one

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def step(self, row: Mapping[str, Any], images: int, waited: float) -> None:
        """One training step: its row, how many pictures, and the seconds it waited for them."""
        now = time.monotonic()
        self._busy, self._last = self._busy + now - self._last, now
        self._images, self._waited = self._images + images, self._waited + waited
        if row.get("loss") is not None:
            self._loss = row["loss"]
        self._events(row, row["step"])
        if self._bar is not None and now - self._shown > _REFRESH:
            self._shown = now
            facts = f"{self.speed:,.0f} images/s · {self.waiting:.0%} waiting · loss {self._loss:.3f}{self._score}"
            self._bar.update(self._task, completed=row["step"], total=self._end, facts=facts)

    def milestone(self, row: Mapping[str, Any], seconds: float, end: int, *, said: int = 2) -> None:
        """An evaluation: its row, the seconds since the run began, where it will end, how many metrics are said."""
        self._end = end
        values = row.get("val", {})
        shown = [f"{name} {_short(value)}" for name, value in values.items() if name != "score"][:said]
        shown = [f"held-out {text}" if text.startswith("loss ") else text for text in shown]
        self._score = f" · {shown[0]}" if shown else ""
        step, learned = row["step"], [f"loss {self._loss:.4f}"] if row["step"] else []
        line = [f"step {step}/{end}", *learned, *shown]
        if step:
            line.append(f"{self.speed:,.0f} images/s")
        if step == end:
            line.append(f"{duration.show(seconds)} in all")
        elif step:
            line.append(f"{duration.show(seconds / step * (end - step))} left")
        if self._bar is None:
            self._console.print(" · ".join(line), markup=False)
        self._time(row["step"], seconds)
        self._events(values, row["step"], "val/")
        self._images, self._busy, self._waited, self._last = 0, 0.0, 0.0, time.monotonic()

    def say(self, text: str) -> None:
        """Something people may like to know now, and need not keep."""
        self._console.print(text, style="dim", markup=False)

    def notice(self, text: str) -> None:
        """Something people should know; kept in ``notices`` for the report."""
        self.notices.append(text)
        self._console.print(text, style="yellow", markup=False)

    @property
    def speed(self) -> float:
        """Training pictures a second since the last milestone."""
        return self._images / self._busy if self._busy else 0.0

    @property
    def waiting(self) -> float:
        """Share of the training time since then that was spent waiting for data."""
        return min(1.0, self._waited / self._busy) if self._busy else 0.0

    def _time(self, step: int, seconds: float) -> None:
        if self.folder is None:
            return
        row = {"step": step, "seconds": seconds, "images_per_second": self.speed, "waiting": self.waiting}
        path = self.folder / TIMINGS
        with full_disk_named(path, 1), open(path, "ab", buffering=0) as file:
            append(file.fileno(), json.dumps(row).encode() + b"\n", path)

    def _events(self, values: Mapping[str, Any], step: int, prefix: str = "train/") -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, (int, float)) and name != "step":
                self._writer.add_scalar(prefix + name, value, step)


@contextmanager
def counting(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for counted work: inside, call ``progress(done, total)``. Nothing when it is not a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, total: None
        return
    with Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("TensorBoard is not installed; run pip install 'vitreous[tensorboard]'.") from None
    return SummaryWriter


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no word for NaN and infinity: null stands for them."""
    return {k: _finite(v) if isinstance(v, Mapping) else _number(v) for k, v in row.items()}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
