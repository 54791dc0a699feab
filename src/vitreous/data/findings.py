"""One thing the doctor found, and the rules about single files: can it be read, and is it what it seems.

A rule looks at the survey and yields findings; it reads no file and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from vitreous.data.dataset import NO_FILE, Source
from vitreous.data.image import Facts
from vitreous.data.listing import printable
from vitreous.data.survey import Survey

EXAMPLES = 5

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of the doctor's report.

    Attributes:
        severity: ``error`` spoils a model or a number, ``warning`` may, ``note`` says what will be done.
        kind: a stable word for programs.
        title: what was found, for people.
        count: how many pictures, or classes, or files it concerns.
        examples: at most five of them, made printable.
        remedy: what to do.
    """

    severity: Severity
    kind: str
    title: str
    count: int
    examples: tuple[str, ...]
    remedy: str


def finding(severity: Severity, kind: str, title: str, names: Iterable[str], remedy: str) -> Iterator[Finding]:
    """A finding about ``names``; nothing if there are none."""
    concerned = list(names)
    if concerned:
        shown = tuple(printable(name) for name in concerned[:EXAMPLES])
        yield Finding(severity=severity, kind=kind, title=title, count=len(concerned), examples=shown, remedy=remedy)


_AWAY = "It is in quarantine.csv and left out of training; "
_UNREADABLE = {
    "truncated": _AWAY + "copy or download it again.",
    "an empty file": _AWAY + "copy or download it again.",
    "a file of zero bytes only, as a failed copy leaves it": _AWAY + "copy or download it again.",
    "an HTML page saved as a picture": _AWAY + "the download failed: fetch it again, perhaps after signing in.",
    "a Git LFS pointer, not the picture": "Run `git lfs pull` where the data came from, then check again.",
    "too large": _AWAY + "reduce it, or cut it into tiles.",
    NO_FILE: _AWAY + "correct its path; one that is not absolute starts at the table's folder.",
    "cannot be opened": _AWAY + "check that it is there and that you may read it.",
}
_OTHERWISE = _AWAY + "open it in a viewer and save it again as JPEG or PNG, or delete it."


def about_unreadable(source: Source, seen: Survey) -> Iterator[Finding]:
    """Files that are no picture, or only part of one, by reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for i, reason in seen.errors.items():
        by_reason[reason.partition(":")[0]].append(source.name(i))
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        remedy = _UNREADABLE.get(reason, _OTHERWISE)
        yield from finding("error", "unreadable", f"Unreadable: {reason}", names, remedy)


_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "BMP": {".bmp", ".dib"},
    "GIF": {".gif"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
    "AVIF": {".avif"},
}
_GREY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")

_Rule = tuple[str, str, Callable[[Facts], bool], str]
_ODDITIES: tuple[_Rule, ...] = (
    ("rotated", "Turned by EXIF", lambda f: f.orientation != 1, "They are turned upright, as viewers show them."),
    ("cmyk", "CMYK, for print", lambda f: f.mode == "CMYK", "They are converted to RGB without a colour profile."),
    (
        "deep",
        "16-bit or floating point",
        lambda f: f.bits > 8,
        "They are scaled to 8 bits without clipping; check that the grey levels that matter survive.",
    ),
    ("alpha", "With transparency", lambda f: f.alpha, "They are laid on the background, white unless you set another."),
    (
        "animated",
        "Animated or of several pages",
        lambda f: f.frames > 1,
        "Only the first frame is used; export others.",
    ),
)


def about_oddities(source: Source, seen: Survey) -> Iterator[Finding]:
    """Files that can be read but are not what their name says, or not plain 8-bit RGB."""
    known = [(source.name(i), facts) for i, facts in enumerate(seen.facts) if facts is not None]
    yield from finding(
        "note",
        "suffix",
        "Named as another format than they are",
        (f"{name} is {f.format}" for name, f in known if _misnamed(name, f.format)),
        "They are read by their contents; rename them if other programs fail on them.",
    )
    for kind, title, holds, remedy in _ODDITIES:
        yield from finding("note", kind, title, (name for name, f in known if holds(f)), remedy)
    grey = [name for name, f in known if f.mode in _GREY]
    if len(grey) < len(known):  # where all are grey there is nothing to say
        yield from finding("note", "grey", "Grey among coloured ones", grey, "They are used with three equal channels.")
    by_notice: dict[str, list[str]] = defaultdict(list)
    for name, facts in known:
        for notice in facts.notices:
            if "frames" not in notice:  # said above
                by_notice[notice].append(name)
    for notice, names in by_notice.items():
        yield from finding("warning", "decoder", notice, names, "Look at one of them; save them again if it is wrong.")


def _misnamed(name: str, format: str) -> bool:
    return PurePosixPath(name).suffix.lower() not in _SUFFIXES.get(format, {PurePosixPath(name).suffix.lower()})
