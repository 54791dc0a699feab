"""A run folder: everything that is written of a run, so that each file is whole, and known to be the one written.

    RUN/run.json               the settings; a valid input that repeats the run
        card.json              what the weights are: sealed, with the SHA-256 of the files it speaks of
        weights.safetensors    what ships
        manifest.json          sealed list of every file with its size and SHA-256, written last
        metrics.jsonl          one row a step and one an evaluation
        checkpoints/step-00000120/{state.safetensors, state.json}
        learned/step-00000120.png  what a run without labels shows of what it has learned
        events/                TensorBoard
        run.lock               only while a process works here

Knows nothing of what the tensors mean. There is no pickle anywhere: tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vitreous.errors import DamagedFile, NoSpace, UsageError
from vitreous.store.files import flush_folder, free_bytes, full_disk_named, sha256_file, write_atomic
from vitreous.store.lock import exclusive
from vitreous.store.sealed import read_sealed, seal
from vitreous.store.tensors import load_into, read_tensors, require_finite, write_tensors

RUN, CARD, WEIGHTS, MANIFEST, METRICS = "run.json", "card.json", "weights.safetensors", "manifest.json", "metrics.jsonl"
PAGE = "report.html"
OUTPUTS, REFERENCE, LABELS = "outputs.safetensors", "reference.safetensors", "labels.csv"
LEARNED = "learned"
_LOCK, _CHECKPOINTS, _STATE, _TENSORS, _TEMPORARY = (
    "run.lock",
    "checkpoints",
    "state.json",
    "state.safetensors",
    ".tmp-",
)
_STEP = re.compile(r"step-(\d{8,})")
# every name that a run gives to something in its folder: nothing else is ever deleted there
_MADE_BY_A_RUN = re.compile(
    r"(run|card|manifest|data|frozen|outputs)\.json|(weights|outputs|reference)\.safetensors|labels\.csv"
    r"|(metrics|timings)\.jsonl|report\.html"
    r"|teacher(\.json|\.safetensors)?|learned|checkpoints|events|\.tmp-.+"
)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything a run needs to go on from ``step`` as if it had never stopped."""

    step: int
    tensors: dict[str, Tensor] = field(repr=False)
    facts: dict[str, Any] = field(repr=False)  # JSON values
    score: float | None = None  # larger is better; None when it was not evaluated


class RunFolder:
    """The folder of one run. ``create`` or ``open`` it; hold ``lock()`` while writing."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """The folder ``path``, made if it is not there; ``require_free`` says whether a run may begin in it.

        Raises:
            UsageError: the place cannot be written to.
        """
        run = cls(path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{path} is a file; choose another folder with --out.") from None
        except OSError as error:
            raise UsageError(
                f"{path} cannot be created: {str(error.strerror).lower()}; choose another folder with --out."
            ) from None
        return run

    def remove_if_empty(self) -> None:
        """Leave no trace of a run that never began."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def require_free(self, *, overwrite: bool = False) -> None:
        """Refuse to begin a run where something is already. Needs the lock.

        Raises:
            UsageError: a run is here and ``overwrite`` is not given, or something is here that no run made.
        """
        present = sorted(p.name for p in self.path.iterdir() if p.name != _LOCK)
        strange = [name for name in present if not _MADE_BY_A_RUN.fullmatch(name)]
        if present and not self.is_run():
            raise UsageError(f"{self.path} is not empty and holds no run; choose another folder with --out.")
        if present and not overwrite:
            raise UsageError(f"{self.path} holds a run already; resume it, choose another --out, or give --overwrite.")
        if strange:
            raise UsageError(
                f"{self.path} holds more than a run ({', '.join(strange[:3])}); move that, or choose another --out."
            )

    def clear(self) -> None:
        """Remove the run that is here, the mark that it is whole first. Needs the lock."""
        self.unseal()
        for entry in self.path.iterdir():
            if _MADE_BY_A_RUN.fullmatch(entry.name):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The run folder at ``path``.

        Raises:
            UsageError: there is no run.
        """
        run = cls(path)
        if not run.is_run():
            raise UsageError(f"{path} is not a run folder; give the folder that training wrote.")
        return run

    def is_run(self) -> bool:
        """Whether anything of a run is here."""
        return any((self.path / name).exists() for name in (RUN, CARD, MANIFEST, METRICS, _CHECKPOINTS))

    def is_sealed(self) -> bool:
        """Whether the run has finished: its manifest was the last thing it wrote."""
        return (self.path / MANIFEST).exists()

    def unseal(self) -> None:
        """The manifest holds no longer: something is about to be written."""
        (self.path / MANIFEST).unlink(missing_ok=True)

    def lock(self) -> AbstractContextManager[None]:
        """Keep every other process out; left-overs of a killed one are swept away.

        Raises:
            RunBusy: another process is at work here; names it.
            UsageError: the folder is read-only.
        """
        return self._locked()

    def require_space(self, checkpoint: int) -> None:
        """Refuse to begin when there is no room for two checkpoints of so many bytes.

        Raises:
            NoSpace: names the folder, the bytes needed and the bytes free.
        """
        free = free_bytes(self.path)
        if free < 2 * checkpoint:
            raise NoSpace(
                f"{self.path} has {free:,} bytes free, and saving this training needs {2 * checkpoint:,}; "
                "free some space or choose another folder with --out."
            )

    def write(self, name: str, data: bytes) -> None:
        """Write one file of the run, whole or not at all. A manifest no longer holds and is removed.

        Raises:
            NoSpace: the disk is full.
        """
        self.unseal()
        place = self.path / name
        place.parent.mkdir(exist_ok=True)
        write_atomic(place, data)

    # ------------------------------------------------------------ while training

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        *,
        score: float | None = None,
        milestone: bool = False,
    ) -> None:
        """Save a checkpoint, whole or not at all, and drop those no longer needed.

        Kept are the last two, and what each of them may go back to: the best score and the last milestone before
        it. Newer ones than ``step`` belong to a course that was given up, and go.

        Raises:
            NoSpace: the disk is full; the earlier checkpoints are as they were.
        """
        self.unseal()
        place = self.path / _CHECKPOINTS
        temporary = place / f"{_TEMPORARY}{uuid.uuid4().hex}"
        size = sum(tensor.nbytes for tensor in tensors.values())
        try:
            with full_disk_named(self._folder(step), size):
                temporary.mkdir(parents=True)
                digest = write_tensors(temporary / _TENSORS, tensors)
                head = {"step": step, "score": score, "milestone": milestone, "files": {_TENSORS: digest}}
                write_atomic(temporary / _STATE, seal({**head, "facts": facts}))
                _replace_folder(temporary, self._folder(step))
        except NoSpace as error:
            raise NoSpace(str(error).replace(str(temporary), str(place))) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune(step)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        place = self.path / _CHECKPOINTS
        found = (_STEP.fullmatch(p.name) for p in place.iterdir()) if place.is_dir() else ()
        return sorted(int(match[1]) for match in found if match)

    def load(self, step: int) -> Checkpoint:
        """The checkpoint of ``step``, checked bit by bit.

        Raises:
            DamagedFile: it is not what was saved; names the file.
        """
        state = self._state(step)
        tensors = read_tensors(self._folder(step) / _TENSORS, state["files"][_TENSORS]["sha256"])
        return Checkpoint(step=step, tensors=tensors, facts=state["facts"], score=state["score"])

    def latest(self, *, fallback: bool = False) -> Checkpoint | None:
        """The newest checkpoint, or None when there is none yet.

        Args:
            fallback: when the newest is damaged, take the newest sound one.

        Raises:
            DamagedFile: names the damaged file and, if there is one, the earlier checkpoint that is sound.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.load(step)
            except DamagedFile as error:
                if not fallback:
                    raise DamagedFile(f"{error} {self._offer(steps[: steps.index(step)])}") from None
        if steps:
            raise DamagedFile(f"Every checkpoint in {self.path / _CHECKPOINTS} is damaged; train again.")
        return None

    def best(self) -> Checkpoint | None:
        """The checkpoint with the best score, the earliest of equals; None when nothing was evaluated.

        Raises:
            DamagedFile: it is not what was saved.
        """
        found = _best({step: self._peek(step) for step in self.steps()})
        return self.load(found[0]) if found else None

    # ------------------------------------------------------------ when it is done

    def publish(
        self,
        weights: Mapping[str, Tensor],
        card: Mapping[str, Any],
        extra: Mapping[str, bytes] | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Write what ships: the weights with a note ``about`` them, ``extra`` files by name, and the card for them.

        Raises:
            DamagedFile: the weights are not finite; nothing is written.
            NoSpace: the disk is full.
        """
        require_finite(weights, str(self.path))
        self.unseal()
        files: dict[str, Any] = {WEIGHTS: write_tensors(self.path / WEIGHTS, weights, about)}
        for name, data in (extra or {}).items():
            self.write(name, data)
            files[name] = {"bytes": len(data), "sha256": sha256_file(self.path / name)}
        self.write(CARD, seal({**card, "files": files}))

    def load_card(self) -> dict[str, Any]:
        """The card of the weights.

        Raises:
            UsageError: training has not finished.
            DamagedFile: it was changed or cut short.
        """
        if not (self.path / CARD).exists():
            raise UsageError(f"{self.path} has no {CARD}: its training has not finished; resume it first.")
        return read_sealed(self.path / CARD)

    def load_weights(self, network: nn.Module | None = None) -> dict[str, Tensor]:
        """The published weights, checked against the card, and copied into ``network`` if one is given.

        Raises:
            UsageError: training has not finished, or the weights do not fit ``network``; names what does not.
            DamagedFile: weights or card are not what was published, or hold NaN.
        """
        card = self.load_card()
        weights = read_tensors(self.path / WEIGHTS, card["files"][WEIGHTS]["sha256"])
        if network is None:
            require_finite(weights, str(self.path / WEIGHTS))
        else:
            load_into(network, weights, str(self.path / WEIGHTS))
        return weights

    def seal(self) -> None:
        """Write the manifest over every file of the folder: the last thing a run does."""
        self.unseal()
        files = {
            path.relative_to(self.path).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.name != _LOCK
        }
        write_atomic(self.path / MANIFEST, seal({"files": files}))

    def verify(self, *, besides: Collection[str] = ()) -> None:
        """Compare every file with the manifest. The checkpoints of a finished run may be removed, all of them.

        Args:
            besides: names of files that do not matter now.

        Raises:
            DamagedFile: one is missing or not what was written; names it and the remedy.
            UsageError: the run has not finished, so there is nothing to compare with.
        """
        if not (self.path / MANIFEST).exists():
            raise UsageError(f"{self.path} has no {MANIFEST}: the run has not finished; resume it first.")
        trained = (self.path / _CHECKPOINTS).exists()
        for name, kept in read_sealed(self.path / MANIFEST)["files"].items():
            path = self.path / name
            if name in besides or (not trained and name.startswith(f"{_CHECKPOINTS}/")):
                continue
            remedy = "restore it from a copy or train again"
            if name == PAGE:
                remedy = f"write it again with vitreous report {self.path}"
            if not path.is_file():
                raise DamagedFile(f"{path} is missing; {remedy}.")
            if path.stat().st_size != kept["bytes"] or sha256_file(path) != kept["sha256"]:
                raise DamagedFile(f"{path} is not what was written; {remedy}.")

    # ------------------------------------------------------------ inside

    def _folder(self, step: int) -> Path:
        return self.path / _CHECKPOINTS / f"step-{step:08d}"

    def _state(self, step: int) -> dict[str, Any]:
        return read_sealed(self._folder(step) / _STATE)

    def _peek(self, step: int) -> dict[str, Any]:
        """What is known of a checkpoint without its tensors; nothing when it is damaged."""
        try:
            return self._state(step)
        except DamagedFile:
            return {}

    def _prune(self, step: int) -> None:
        """Keep the last two up to ``step``, and for each of them the best and the milestone that it knows of."""
        states = {s: self._peek(s) for s in self.steps() if s <= step}
        keep: set[int] = set()
        for last in list(states)[-2:]:
            known = {s: state for s, state in states.items() if s <= last}
            milestones = [s for s, state in known.items() if state.get("milestone")]
            keep |= {last, *milestones[-1:], *_best(known)}
        for unneeded in set(self.steps()) - keep:
            shutil.rmtree(self._folder(unneeded), ignore_errors=True)

    def _offer(self, earlier: list[int]) -> str:
        for step in reversed(earlier):
            with contextlib.suppress(DamagedFile):
                self.load(step)
                return f"The checkpoint of step {step} is sound: go on from it with --previous."
        return "There is no earlier sound checkpoint; train again."

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with exclusive(self.path / _LOCK):
            for place in (self.path, self.path / _CHECKPOINTS):
                for left in place.glob(f"{_TEMPORARY}*"):
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
            yield


def _best(states: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """The step with the best score, the earliest of equals; empty when none has a score."""
    scores = {step: state["score"] for step, state in states.items() if state.get("score") is not None}
    return [max(scores, key=lambda step: (scores[step], -step))] if scores else []


def _replace_folder(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target``; what had it before goes. Durable on return."""
    if target.exists():  # a folder cannot be renamed over another: for a moment only the earlier checkpoints are left
        old = target.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
        os.rename(target, old)
        os.rename(source, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(source, target)
    flush_folder(target.parent)
    flush_folder(target.parent.parent)  # the first checkpoint brings its folder's name
