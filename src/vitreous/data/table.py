"""A CSV that says which picture is of which class: ``path,label`` and, if it likes, ``split``.

A path that is not absolute starts at the table's own folder. The table is its owner's word on which files are meant,
so they may lie anywhere and may be links, unlike what is merely met in a folder; whatever is no picture is refused by
the decoder. Knows nothing of pixels.
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
from numpy.typing import NDArray

from vitreous.data.listing import SIDES, Listing, Names, natural, printable
from vitreous.errors import BadData
from vitreous.types import UNLABELLED

EXAMPLES = 3
_NO_SIDE = -1


class _Row(NamedTuple):
    line: int
    path: str
    label: str
    side: int


def list_table(table: str | Path) -> Listing:
    """List the pictures that ``table`` names. An empty label means unlabelled.

    Files that do not exist are listed too, so that they count among those that cannot be read.

    Raises:
        BadData: not a CSV in UTF-8, no header, contradicting rows, or not one file exists; names the line.
    """
    table = Path(table)
    root = os.path.realpath(os.path.dirname(os.path.abspath(table)))
    rows: dict[str, tuple[str, _Row]] = {}  # absolute path -> its name, and the first row about it
    missing: list[_Row] = []
    repeats = 0
    header, lines = _read(table)
    for row in _rows(table, header, lines):
        found = _place(root, row.path)
        name = found or os.path.normpath(row.path)
        known = os.path.join(root, name)
        if known not in rows:
            rows[known] = name, row
            if found is None:
                missing.append(row)
        elif rows[known][1][2:] != row[2:]:
            raise BadData(f"{table.name}: lines {rows[known][1].line} and {row.line} disagree about the same picture.")
        else:
            repeats += 1
    if not rows:
        raise BadData(f"{table.name} lists no pictures; write one `path,label` a line below the header.")
    gone = _about_missing(table, root, missing, len(rows)) if missing else None
    if gone and len(missing) == len(rows):
        raise BadData(gone)
    kept = [row for _, row in rows.values()]
    classes = tuple(sorted({row.label for row in kept if row.label}, key=natural))
    number = {name: i for i, name in enumerate(classes)} | {"": UNLABELLED}
    return Listing(
        root=root,
        names=Names(name for name, _ in rows.values()),
        labels=np.asarray([number[row.label] for row in kept], np.int64),
        classes=classes,
        split=_split(table, kept),
        strays=(),
        notices=(
            *((gone,) if gone else ()),
            *((f"{repeats} rows of {table.name} repeat an earlier row.",) if repeats else ()),
        ),
    )


def _about_missing(table: Path, root: str, missing: list[_Row], pictures: int) -> str:
    shown = "; ".join(f"line {row.line}: {printable(row.path)}" for row in missing[:EXAMPLES])
    return (
        f"{len(missing)} of the {pictures} files that {table.name} names do not exist ({shown}); "
        f"a path that is not absolute starts at the table's folder, {printable(root)}."
    )


def _split(table: Path, rows: list[_Row]) -> NDArray[np.int8] | None:
    """The sides that the table gives; None where it gives none."""
    empty = [row.line for row in rows if row.side == _NO_SIDE]
    if len(empty) == len(rows):
        return None
    if empty:
        raise BadData(
            f"{table.name}, line {empty[0]}: split is empty there ({len(empty)} of {len(rows)} rows) and given "
            "elsewhere; write train, val or test everywhere, or leave the whole column empty."
        )
    return np.asarray([row.side for row in rows], np.int8)


def _read(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header in lower case, and each further row with the line it ends on."""
    try:
        _refuse_other_encodings(table)
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = file.readline()
            delimiter = max(",;\t", key=lambda d: len({"path", "label"}.intersection(_cells(first, d))))
            header = _cells(first, delimiter)
            if not {"path", "label"} <= set(header):
                raise BadData(
                    f"{table.name} needs a first line with the columns path,label or path,label,split; {_told(first)}."
                )
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            return header, [(reader.line_num + 1, cells) for cells in reader if cells]
    except OSError as error:
        raise BadData(f"{printable(str(table))} cannot be read ({error.strerror}); check the path.") from None
    except csv.Error as error:
        raise BadData(f"{table.name} is not a well-formed CSV ({error}); save it again as CSV in UTF-8.") from None


def _refuse_other_encodings(table: Path) -> None:
    with table.open("rb") as file:
        head = file.read(4096)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        what = "in UTF-16, Excel's “Unicode text”" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "not a text file"
        raise BadData(f"{table.name} is {what}: save it as CSV UTF-8.")


def _told(first: str) -> str:
    """What the first line holds instead."""
    found = max((_cells(first, d) for d in ",;\t"), key=len)
    return f"its first line has {', '.join(map(printable, found))}" if any(found) else "its first line is empty"


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _rows(table: Path, header: list[str], lines: list[tuple[int, list[str]]]) -> Iterator[_Row]:
    for line, cells in lines:
        if len(cells) != len(header):
            raise BadData(
                f"{table.name}, line {line} has {len(cells)} columns, the header {len(header)}; mend the line."
            )
        named = dict(zip(header, cells, strict=True))
        path, label, side = named["path"], named["label"].strip(), named.get("split", "").strip()
        # names on a disk may be any bytes, so a path that leads to a file is right as it is
        if not _is_utf8(label + side) or not (_is_utf8(path) or os.path.lexists(os.path.join(table.parent, path))):
            raise BadData(f"{table.name}, line {line} is not UTF-8: save it as CSV UTF-8.")
        if not path.strip() or "\0" in path:
            raise BadData(f"{table.name}, line {line} names no file; write its path, or remove the line.")
        if side and side.casefold() not in SIDES:
            raise BadData(f"{table.name}, line {line}: split is {printable(side)!r}; use train, val or test.")
        number = SIDES[side.casefold()] if side else _NO_SIDE
        yield _Row(line, path, unicodedata.normalize("NFC", label), number)


def _is_utf8(text: str) -> bool:
    return not any("\udc80" <= c <= "\udcff" for c in text)


def _place(root: str, path: str) -> str | None:
    """The name of an existing regular file: relative to ``root`` if it lies there; None if there is no such file.

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
        if os.path.isabs(name) or name.startswith(os.pardir + os.sep):
            # the same picture must have one name, by whatever way it is reached
            real = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
            return os.path.relpath(real, root) if real.startswith(os.path.join(root, "")) else name
        return name
    return None
