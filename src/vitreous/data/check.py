"""The data doctor: what is wrong with a data set, before the first epoch.

Looks at every picture, applies the rules, and writes two files beside the data: what it found, and the list of
pictures to leave out. Nothing of the data is deleted or changed. Knows nothing of terminals and models.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.config import to_dict
from vitreous.data.cache import Cache
from vitreous.data.dataset import BUILTIN, Source, open_source
from vitreous.data.duplicates import exact_groups, near_groups, without_scenes
from vitreous.data.findings import SEVERITIES, Finding, about_oddities, about_unreadable
from vitreous.data.listing import printable
from vitreous.data.memory import Memory
from vitreous.data.prepare import DataConfig, cache_folder, draw
from vitreous.data.quarantine import NAME, check_folder, read_quarantine, write_quarantine
from vitreous.data.remarks import counted, refuse_sides, refuse_unlabelled
from vitreous.data.set_findings import (
    about_classes,
    about_copies,
    about_names,
    about_shortcuts,
    about_sizes,
    advice,
    groups_of,
)
from vitreous.data.split import SIDES
from vitreous.data.survey import Progress, Survey, survey
from vitreous.errors import BadData, UsageError
from vitreous.store.files import write_atomic

REPORT = "check.json"
UNTRAINABLE = "untrainable"  # the kind of the one finding that says that training would refuse
_OURS = "unreadable: "  # how a reason begins that was written by the doctor and not by hand
_PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What the doctor says.

    Attributes:
        root: where the pictures are.
        headline: all of it in one line.
        findings: worst first.
        summary: pictures, classes, formats, modes, sizes and advice, as JSON values.
        copies: groups of names; each group is one picture, exactly or nearly.
        quarantined: picture name to the reason why it is left out.
        report: the file ``check.json``; None if nothing was written.
        quarantine: the file ``quarantine.csv``; None if nothing was written.
    """

    root: str
    headline: str
    findings: tuple[Finding, ...]
    summary: dict[str, Any]
    copies: tuple[tuple[str, ...], ...] = ()
    quarantined: dict[str, str] = field(default_factory=dict)
    report: str | None = None
    quarantine: str | None = None

    @property
    def trainable(self) -> bool:
        """Whether training would take this data, without the pictures in quarantine."""
        return all(found.kind != UNTRAINABLE for found in self.findings)


def check(
    spec: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    config: DataConfig | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> CheckResult:
    """Examine the data set ``spec``.

    Args:
        spec: a folder, a ``.csv`` table, or the name of a built-in set.
        out: folder for ``check.json`` and ``quarantine.csv``; ``<spec>.check`` beside the data when None. For a
            built-in set nothing is written unless it is given.
        config: preprocessing and cache to use, so that training finds the pictures decoded.
        workers: threads that read and decode.
        progress: told ``(done, in all)``.

    Raises:
        UsageError: there is no such data set, or the place for the report cannot be written.
        BadData: there is not a single picture.
        NoSpace: the disk is full.
    """
    source = open_source(spec if isinstance(spec, str) else Path(spec))
    folder = Path(out) if out is not None else None if spec in BUILTIN else check_folder(spec)
    if folder is not None:
        _make_writable(folder)  # before the long part, not after it
    config = config or DataConfig(source=os.fspath(spec))
    place = cache_folder(config)
    memory = Memory(place, config.preprocess)
    with Cache.open(place, config.preprocess, int(config.cache_gib * 2**30)) as cache:
        seen = survey(source, config.preprocess, cache, memory=memory, workers=workers, progress=progress)
    by_hand = _by_hand(folder / NAME) if folder is not None else {}
    result = examine(source, seen, by_hand, config)
    return result if folder is None else write_check(result, folder)


def examine(
    source: Source, seen: Survey, by_hand: Mapping[str, str] | None = None, config: DataConfig | None = None
) -> CheckResult:
    """Apply every rule to a survey. ``by_hand`` are pictures that a person wants left out, and why."""
    exact = exact_groups(seen.digests, seen.usable)
    near = near_groups(exact, seen.hashes, seen.thumbnails)
    divisible, scenes = without_scenes(exact, near, source.labels)
    taken = np.array([source.name(i) not in (by_hand or {}) for i in range(len(source))]) & (source.labels >= 0)
    learned = [np.where(taken, groups, -1) for groups in (exact, divisible)]
    findings = [
        *_about_training(config or DataConfig(source=source.root), source, seen, *learned),
        *about_unreadable(source, seen),
        *about_copies(source, exact, near),
        *about_classes(source, seen.usable, scenes),
        *about_sizes(source, seen),
        *about_shortcuts(source, seen),
        *about_names(source),
        *about_oddities(source, seen),
    ]
    findings.sort(key=lambda found: SEVERITIES.index(found.severity))
    unreadable = {source.name(i): _OURS + reason for i, reason in seen.errors.items()}
    return CheckResult(
        root=source.root,
        headline=_headline(source, findings),
        findings=tuple(findings),
        summary=_summary(source, seen),
        copies=tuple(tuple(source.name(i) for i in group) for group in groups_of(near)),
        quarantined={**(by_hand or {}), **unreadable},
    )


def _about_training(
    config: DataConfig, source: Source, seen: Survey, exact: NDArray[np.int64], near: NDArray[np.int64]
) -> Iterator[Finding]:
    """The sentence with which training would refuse the pictures that have a group, if it would."""
    try:
        refuse_unlabelled(source)
        if not (exact >= 0).any():
            raise BadData("No picture that has a label can be used; mend or replace the files.")
        sides, _ = draw(config, source, seen, source.labels, exact=exact, near=near)
        refuse_sides(source, sides, val=config.val)
    except BadData as error:
        what, _, remedy = str(error).rpartition("; ")
        remedy = remedy[0].upper() + remedy[1:]
        yield Finding(severity="error", kind=UNTRAINABLE, title=what, count=len(source), examples=(), remedy=remedy)


def write_check(result: CheckResult, folder: Path) -> CheckResult:
    """Write ``check.json`` and ``quarantine.csv`` into ``folder``; the result that names them.

    Raises:
        UsageError: the folder cannot be written.
        NoSpace: the disk is full.
    """
    report, quarantine = folder / REPORT, folder / NAME
    named = CheckResult(**{**vars(result), "report": str(report), "quarantine": str(quarantine)})
    try:
        write_quarantine(quarantine, result.quarantined)
        write_atomic(report, json.dumps(to_dict(named), indent=1).encode())
    except OSError as error:
        raise _not_writable(folder, error) from None
    return named


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise _not_writable(folder, error) from None


def _not_writable(folder: Path, error: OSError) -> UsageError:
    where = printable(str(folder))
    return UsageError(f"The report cannot be written to {where} ({error.strerror}); name another folder with --out.")


def _by_hand(path: Path) -> dict[str, str]:
    """The rows of an earlier list that a person wrote; the doctor's own are found anew."""
    earlier = read_quarantine(path) if path.exists() else {}
    return {name: reason for name, reason in earlier.items() if not reason.startswith(_OURS)}


def _headline(source: Source, findings: list[Finding]) -> str:
    counts = Counter(found.severity for found in findings)
    classes = f" in {len(source.classes):,} class{'' if len(source.classes) == 1 else 'es'}" if source.classes else ""
    verdict = ", ".join(counted(counts[s], s) for s in SEVERITIES if counts[s]) or "nothing to remark"
    return f"{counted(len(source))}{classes}: {verdict}"


def _summary(source: Source, seen: Survey) -> dict[str, Any]:
    facts = [f for f in seen.facts if f is not None]
    short = np.array([min(f.width, f.height) for f in facts])
    aspect = np.array([f.width / f.height for f in facts])
    edges = [0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 1 << 30]
    ratios = [0, 0.25, 1 / 1.8, 0.8, 1.25, 1.8, 4.0, 1e9]
    return {
        **source.describe(),
        "usable": len(facts),
        "bytes": int(seen.sizes.sum()),
        "class_counts": _class_counts(source, seen),
        "formats": dict(Counter(f.format for f in facts).most_common()),
        "modes": dict(Counter(f.mode for f in facts).most_common()),
        "shorter_side": {str(p): float(np.percentile(short, p)) for p in _PERCENTILES} if facts else {},
        "shorter_side_histogram": {"edges": edges, "counts": np.histogram(short, edges)[0].tolist()},
        "aspect_histogram": {"edges": ratios, "counts": np.histogram(aspect, ratios)[0].tolist()},
        "advice": advice(seen),
    }


def _class_counts(source: Source, seen: Survey) -> dict[str, dict[str, int]]:
    """Class name to usable pictures, by side of the given split, or as ``all``."""
    usable = seen.usable
    sides = {"all": usable}
    if source.split is not None:
        sides = {name: usable & (source.split == number) for number, name in enumerate(SIDES)}
    return {
        name: {side: int((part & (source.labels == label)).sum()) for side, part in sides.items()}
        for label, name in enumerate(source.classes)
    }
