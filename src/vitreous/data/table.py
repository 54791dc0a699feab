"""A CSV that says which picture is of which class: ``path,label`` and, if it likes, ``split``.

Paths are relative to the table's own folder and may not leave it. Knows nothing of pixels.
"""

from __future__ import annotations

import csv
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitreous.data.listing import SIDES, Listing, Names, natural, printable
from vitreous.errors import BadData
from vitreous.types import UNLABELLED


class _Row(NamedTuple):
    line: int
    path: str
    label: str
    side: int


def list_table(table: str | Path, *, follow_links: bool = False) -> Listing:
    """List the pictures that ``table`` names. An empty label means unlabelled.

    Raises:
        BadData: no header, a missing file, a path outside the table's folder, contradicting rows; names the line.
    """
    root = os.path.realpath(os.path.dirname(os.path.abspath(table)))
    rows: dict[str, _Row] = {}
    missing: list[_Row] = []
    repeats = 0
    header, lines = _read(Path(table))
    for row in _rows(Path(table), header, lines):
        known = _place(root, row.path, follow_links, f"{Path(table).name}, line {row.line}")
        if known is None:
            missing.append(row)
        elif known not in rows:
            rows[known] = row
        elif rows[known][2:] != row[2:]:
            raise BadData(
                f"{Path(table).name}: lines {rows[known].line} and {row.line} disagree about the same picture."
            )
        else:
            repeats += 1
    if missing:
        shown = "; ".join(f"line {row.line}: {printable(row.path)}" for row in missing[:5])
        raise BadData(f"{Path(table).name} names {len(missing)} files that do not exist in {root}: {shown}.")
    if not rows:
        raise BadData(f"{Path(table).name} lists no pictures; write one `path,label` a line below the header.")
    classes = tuple(sorted({row.label for row in rows.values() if row.label}, key=natural))
    number = {name: i for i, name in enumerate(classes)} | {"": UNLABELLED}
    return Listing(
        root=root,
        names=Names(rows),
        labels=np.asarray([number[row.label] for row in rows.values()], np.int64),
        classes=classes,
        split=np.asarray([row.side for row in rows.values()], np.int8) if "split" in header else None,
        strays=(),
        notices=(f"{repeats} rows of {Path(table).name} repeat an earlier row.",) if repeats else (),
    )


def _read(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header in lower case, and each further row with the line it ends on."""
    try:
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = file.readline()
            delimiter = next((d for d in ",;\t" if "path" in _cells(first, d)), None)
            if delimiter is None or "label" not in _cells(first, delimiter):
                raise BadData(f"{table.name} needs a first line with the columns path,label or path,label,split.")
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            return _cells(first, delimiter), [(reader.line_num + 1, cells) for cells in reader if cells]
    except OSError as error:
        raise BadData(f"{printable(str(table))} cannot be read ({error.strerror}); check the path.") from None
    except csv.Error as error:
        raise BadData(f"{table.name} is not a well-formed CSV ({error}); save it again as CSV in UTF-8.") from None


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _rows(table: Path, header: list[str], lines: list[tuple[int, list[str]]]) -> Iterator[_Row]:
    for line, cells in lines:
        if len(cells) != len(header):
            raise BadData(
                f"{table.name}, line {line} has {len(cells)} columns, the header {len(header)}; mend the line."
            )
        named = dict(zip(header, cells, strict=True))
        side = SIDES.get(named.get("split", "train").strip().casefold())
        if side is None:
            raise BadData(f"{table.name}, line {line}: split is {named['split']!r}; use train, val or test.")
        yield _Row(line, named["path"], unicodedata.normalize("NFC", named["label"].strip()), side)


def _place(root: str, path: str, follow_links: bool, where: str) -> str | None:
    """The name of an existing regular file relative to ``root``; None if there is none.

    macOS writes names decomposed and tables composed, so both forms are tried.
    """
    for form in (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)):
        name = os.path.normpath(form)
        full = os.path.join(root, name)
        try:
            if not stat.S_ISREG(os.stat(full).st_mode):
                continue
        except (OSError, ValueError):
            continue
        real = os.path.realpath(full)
        if not follow_links and (os.path.isabs(name) or not real.startswith(os.path.join(root, ""))):
            raise BadData(
                f"{where}: {printable(path)} lies outside the table's folder; move the table above the pictures."
            )
        return name
    return None
