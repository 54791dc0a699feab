"""The list of pictures to leave out: a small table that the doctor writes and a person may edit.

Columns ``path`` and ``reason``. A spreadsheet may open it without running anything: a cell that it would take for a
formula begins with an apostrophe, which is taken off again on reading. Knows nothing of pictures.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from vitreous.errors import BadData
from vitreous.store.files import write_atomic

NAME = "quarantine.csv"

# the run of apostrophes makes it reversible for names that begin with an apostrophe themselves
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def check_folder(spec: str | os.PathLike[str]) -> Path:
    """Where the doctor keeps what it found about ``spec``: ``pets.check`` beside the folder ``pets``."""
    place = Path(os.path.abspath(spec))
    return place.with_name(place.name + ".check")


def write_quarantine(path: Path, reasons: Mapping[str, str]) -> None:
    """Write ``reasons``, picture name to why it is left out, as ``to_csv`` does.

    Raises:
        NoSpace, OSError: as ``files.write_atomic``.
    """
    write_atomic(path, to_csv(reasons))


def to_csv(reasons: Mapping[str, str]) -> bytes:
    """The list as a file: picture name to why it is left out. Names that are not UTF-8 keep their bytes."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(("path", "reason"))
    table.writerows((_guard(name), _guard(reason)) for name, reason in reasons.items())
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_quarantine(path: str | os.PathLike[str]) -> dict[str, str]:
    """Picture name to reason. Commas or semicolons, with or without a byte order mark; empty lines are skipped.

    Raises:
        BadData: the file cannot be read, or has no column ``path``.
    """
    try:
        text = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    except OSError as error:
        raise BadData(f"The quarantine list {path} cannot be read ({error.strerror}); correct its path.") from None
    head = text.split("\n", 1)[0]
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in head else ",", strict=True))
    except csv.Error as error:
        raise BadData(f"The quarantine list {path} is not a table ({error}); mend it or write a new one.") from None
    if rows and "path" not in rows[0]:
        raise BadData(f"The quarantine list {path} has no column named path; its first line must be path,reason.")
    return {_unguard(row["path"]): _unguard(row.get("reason") or "") for row in rows if row["path"]}


def _guard(cell: str) -> str:
    return "'" + cell if _FORMULA.match(cell) else cell


def _unguard(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
