"""The pictures of the page: what was in them, what the model said, and how sure it was."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from markupsafe import Markup

from vitreous.analyse.scores import least_certain, most_confident_mistakes
from vitreous.errors import VitreousError
from vitreous.reports.text import brief, percent, sentence, shown
from vitreous.reports.verdict import Judged

Thumbnail = Callable[[str], bytes | None]
"""From a picture's name in ``outputs.json`` to a small JPEG, PNG or WebP (about 192 pixels), or None."""

MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n": "png", b"RIFF": "webp"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture with its caption."""

    name: str
    source: str | None  # data URI
    alt: str
    lines: list[tuple[str, Markup]]  # style and words


def mistakes(judged: Judged, thumbnail: Thumbnail | None, limit: int = 12) -> list[Shown]:
    """The wrong answers it was surest of."""
    return _show(judged, most_confident_mistakes(judged.after, judged.outputs.labels, limit).tolist(), thumbnail)


def uncertain(judged: Judged, thumbnail: Thumbnail | None, limit: int = 12) -> list[Shown]:
    """The pictures between two names, right or wrong."""
    return _show(judged, least_certain(judged.after, limit).tolist(), thumbnail)


def _show(judged: Judged, places: Sequence[int], thumbnail: Thumbnail | None) -> list[Shown]:
    return [_caption(judged, i, thumbnail) for i in places]


def _caption(judged: Judged, i: int, thumbnail: Thumbnail | None) -> Shown:
    names = [c.name for c in judged.scores.classes]
    chances, truth = judged.after[i], int(judged.outputs.labels[i])
    said = int(chances.argmax())
    name = judged.outputs.names[i]
    right = said == truth
    return Shown(
        name=name,
        source=data_uri(name, thumbnail),
        alt=f"A picture of {names[truth]} that the model called {names[said]}",
        lines=[
            ("said" if right else "said wrong", line("called", names[said], float(chances[said]), bold=True)),
            ("truth", Markup("which is right") if right else line("is", names[truth], float(chances[truth]))),
        ],
    )


def line(words: str, name: str, share: float, *, bold: bool = False) -> Markup:
    """A line under a picture: a class, and how likely it is."""
    return sentence("{} {} <b>{}</b>" if bold else "{} {} {}", words, brief(name), percent(share, 0))


def data_uri(name: str, thumbnail: Thumbnail | None) -> str | None:
    """The picture inside the page, or None when it cannot be had: a moved file must not cost the report."""
    try:
        found = thumbnail(name) if thumbnail else None
    except (OSError, VitreousError):
        return None
    kind = next((kind for magic, kind in MAGIC.items() if found and found.startswith(magic)), None)
    return f"data:image/{kind};base64,{base64.b64encode(found).decode('ascii')}" if found and kind else None


def on_page(page: Path) -> Thumbnail:
    """The pictures that an earlier page holds, for when the files are gone; none if there is no such page."""
    reader = _Reader()
    try:
        reader.feed(page.read_text("utf-8", "replace"))
    except OSError:
        return lambda name: None
    return lambda name: reader.found.get(shown(name))


class _Reader(HTMLParser):
    """Collects the pictures of a page by name: in each item of a gallery the picture comes first and its name last."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, bytes] = {}
        self._picture: bytes | None = None
        self._inside: list[str] = []  # classes of the open spans
        self._name = self._whole = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "li":
            self._picture, self._name, self._whole, self._inside = None, "", "", []
        elif tag == "img":
            self._picture = _decoded(values.get("src") or "")
        elif tag == "span":
            self._inside.append(values.get("class") or "")
        elif tag == "bdi" and self._inside[-1:] == ["file"]:
            self._whole = values.get("title") or ""

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] == "file":
            self._name += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "span" and self._inside:
            self._inside.pop()
        elif tag == "li" and self._picture is not None:
            self.found[self._whole or self._name] = self._picture


def _decoded(source: str) -> bytes | None:
    head, _, text = source.partition(";base64,")
    try:
        return base64.b64decode(text, validate=True) if head.startswith("data:image/") else None
    except binascii.Error:
        return None
