"""Arrays with a row a picture that are written in pieces, survive a kill, and become one file at the end.

Rows go to memory-mapped files in a folder beside the target, and how far they are sound to a small file that is
replaced as a whole. Memory does not grow with the number of rows. Knows nothing of what the rows mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import dtype_to_descr, open_memmap, write_array, write_array_header_2_0
from numpy.typing import NDArray

from vitreous.errors import DamagedFile, NoSpace, UsageError
from vitreous.store.files import flush_folder, free_bytes, full_disk_named, write_atomic
from vitreous.store.lock import exclusive

Numbers = NDArray[Any]
KINDS = (".npz", ".parquet")
_PLAN, _DONE, _EMPTY, _LOCK = "plan.json", "done.json", "empty.jsonl", "lock"
_AT_ONCE = 4096  # rows that are held when they are copied to the target

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Of one row of each array, and its type, by name."""


@contextmanager
def pieces(target: Path, plan: Mapping[str, Any], rows: int, shapes: Shapes) -> Iterator[Pieces]:
    """Arrays of so many ``rows`` on their way to the file ``target``; other processes are kept out.

    Args:
        plan: JSON of what the rows are; what is there already is gone on with only if it has the same.

    Raises:
        UsageError: another kind of file, no folder for it, it is there, or it was begun with another plan.
        NoSpace: the disk cannot hold the rows twice.
        RunBusy: another process writes them; names it.
    """
    _require_place(target)
    folder = target.with_name(f"{target.name}.partial")
    folder.mkdir(exist_ok=True)
    try:
        with exclusive(folder / _LOCK):
            yield Pieces(folder, target, plan, rows, shapes)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # there is nothing in it once the target is whole, or when nothing was begun


class Pieces:
    """What ``pieces`` opens."""

    def __init__(self, folder: Path, target: Path, plan: Mapping[str, Any], rows: int, shapes: Shapes) -> None:
        self.folder, self.target, self.rows = folder, target, rows
        self._plan = json.dumps(plan, indent=1, sort_keys=True).encode()
        size = sum(rows * int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in shapes.values())
        begun = (self.folder / _PLAN).exists()
        if not begun and free_bytes(target.parent) < 2 * size:
            raise NoSpace(f"{target.parent} has {free_bytes(target.parent):,} bytes free; {2 * size:,} are needed.")
        if begun and (self.folder / _PLAN).read_bytes() != self._plan:
            raise UsageError(
                f"{self.folder} was begun with other weights, pictures or settings; remove it, or choose another --out."
            )
        self.arrays = {name: self._open(name, shape, kind, begun) for name, (shape, kind) in shapes.items()}
        if not begun:
            write_atomic(self.folder / _PLAN, self._plan)

    def done(self) -> tuple[int, dict[int, str]]:
        """How many rows are sound, and why some of them hold nothing.

        Raises:
            DamagedFile: the reasons cannot be read.
        """
        kept, reasons = {"rows": 0, "reasons": 0}, self.folder / _EMPTY
        if (self.folder / _DONE).exists():
            kept = json.loads((self.folder / _DONE).read_bytes())
        reasons.touch()
        os.truncate(reasons, kept["reasons"])  # what follows was written after the last mark
        try:
            return kept["rows"], dict(map(json.loads, reasons.read_bytes().splitlines()))
        except ValueError:
            raise _damaged(reasons) from None

    def mark(self, rows: int, empty: Mapping[int, str]) -> None:
        """The first ``rows`` are sound.

        Args:
            empty: those since the last mark that hold nothing, and why.

        Raises:
            NoSpace: the disk is full.
        """
        for array in self.arrays.values():
            array.flush()
        lines = "".join(f"{json.dumps(pair)}\n" for pair in empty.items()).encode()
        with full_disk_named(self.folder / _EMPTY, len(lines)), open(self.folder / _EMPTY, "ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        write_atomic(self.folder / _DONE, json.dumps({"rows": rows, "reasons": size}).encode())

    def finish(self, texts: Mapping[str, Sequence[str]], empty: Mapping[int, str], more: Mapping[str, Numbers]) -> None:
        """Write the target, whole or not at all, without the ``empty`` rows, and remove what it was made from.

        Args:
            texts: one for each row that is not empty, by name.
            more: further arrays, which .npz alone can hold.

        Raises:
            NoSpace: the disk is full.
        """
        kept = np.setdiff1d(np.arange(self.rows), np.array(list(empty), dtype=np.int64))
        made = self.folder / f"whole{self.target.suffix}"
        with full_disk_named(self.target, sum(array.nbytes for array in self.arrays.values())):
            if self.target.suffix == ".npz":
                _write_npz(made, self.arrays, kept, texts, more)
            else:
                _write_parquet(made, self.arrays, kept, texts)
            with open(made, "rb") as file:
                os.fsync(file.fileno())
        os.replace(made, self.target)
        flush_folder(self.target.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the rows."""
        self.arrays.clear()
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()

    def _open(self, name: str, shape: tuple[int, ...], kind: str, begun: bool) -> np.memmap[Any, Any]:
        path = self.folder / f"{name}.npy"
        try:
            if begun:
                return open_memmap(path, mode="r+")
            return open_memmap(path, mode="w+", dtype=np.dtype(kind), shape=(self.rows, *shape))
        except (OSError, ValueError):
            raise _damaged(path) from None


def _damaged(path: Path) -> DamagedFile:
    return DamagedFile(f"{path} is missing or damaged; remove {path.parent} to begin again.")


def _require_place(target: Path) -> None:
    if target.suffix not in KINDS:
        raise UsageError(f"Features are written to .npz or .parquet, so {target} must end in one of these.")
    if target.suffix == ".parquet":
        _arrow()
    if not target.parent.is_dir():
        raise UsageError(f"There is no folder {target.parent}; make it, or choose another --out.")
    if target.exists():
        raise UsageError(f"{target} is there already; move it, or choose another --out.")


def read_rows(path: Path, name: str) -> Numbers:
    """One array of a file that ``Pieces.finish`` wrote.

    Raises:
        DamagedFile: it is missing or something else.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return np.asarray(archive[name])
        table = _arrow()[1].read_table(path, columns=[name])
        return _column(table.schema.field(name), table[name])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise DamagedFile(f"{path} is missing or damaged; write it again.") from None


def _column(field: Any, values: Any) -> Numbers:
    if field.metadata is None:
        return np.array([value or "" for value in values.to_pylist()], dtype=np.str_)
    shape = json.loads(field.metadata[b"shape"])
    return np.asarray(values.combine_chunks().flatten().to_numpy(zero_copy_only=False)).reshape(-1, *shape)


def _parts(array: Numbers, kept: Numbers) -> Iterator[Numbers]:
    for start in range(0, max(len(kept), 1), _AT_ONCE):
        yield np.ascontiguousarray(array[kept[start : start + _AT_ONCE]])


def _texts(values: Sequence[str]) -> Iterator[Numbers]:
    """Parts of one type, which has room for the longest; of all together that can be much more than the texts."""
    kind = f"U{max(map(len, values), default=1) or 1}"
    for start in range(0, max(len(values), 1), _AT_ONCE):
        yield np.array(values[start : start + _AT_ONCE], dtype=kind)


def _write_npz(
    path: Path,
    arrays: Mapping[str, Numbers],
    kept: Numbers,
    texts: Mapping[str, Sequence[str]],
    more: Mapping[str, Numbers],
) -> None:
    """As ``numpy.savez`` does, but a part at a time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        columns = {name: _parts(array, kept) for name, array in arrays.items()}
        for name, parts in (columns | {name: _texts(values) for name, values in texts.items()}).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                for number, part in enumerate(parts):
                    if number == 0:
                        header = {"descr": dtype_to_descr(part.dtype), "fortran_order": False}
                        write_array_header_2_0(file, {**header, "shape": (len(kept), *part.shape[1:])})
                    file.write(part.tobytes())
        for name, array in more.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                write_array(file, array, allow_pickle=False)


def _write_parquet(
    path: Path, arrays: Mapping[str, Numbers], kept: Numbers, texts: Mapping[str, Sequence[str]]
) -> None:
    """One row a picture; what has more than one axis a row is a flat list, whose shape is in the column's metadata."""
    arrow, parquet = _arrow()
    fields = [arrow.field(name, arrow.string()) for name in texts]
    for name, array in arrays.items():
        kind = arrow.list_(arrow.from_numpy_dtype(array.dtype), int(np.prod(array.shape[1:])))
        fields.append(arrow.field(name, kind, metadata={"shape": json.dumps(array.shape[1:])}))
    schema = arrow.schema(fields)
    with parquet.ParquetWriter(path, schema) as writer:
        for number, parts in enumerate(zip(*(_parts(array, kept) for array in arrays.values()), strict=True)):
            here = slice(number * _AT_ONCE, number * _AT_ONCE + len(parts[0]))
            plain = [arrow.array([text or None for text in values[here]], arrow.string()) for values in texts.values()]
            lists = [
                arrow.FixedSizeListArray.from_arrays(arrow.array(part.reshape(-1)), int(np.prod(part.shape[1:])))
                for part in parts
            ]
            writer.write_table(arrow.Table.from_arrays([*plain, *lists], schema=schema))


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow; run pip install 'vitreous[parquet]', or write FILE.npz.") from None
    return pyarrow, parquet
