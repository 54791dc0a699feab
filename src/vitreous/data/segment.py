"""One pair of cache files: pixels one after another, and an index that says which digest lies where.

``X.pixels`` is appended to by the one process that made it. ``X.index`` is replaced as a whole, so it is always a
valid earlier state. Every row carries a checksum of its pixels: what a kill, a power cut or a bad disk has torn is
never served, and for the same reason the pixels need no fsync. Knows nothing of limits and of other pairs.

Pixels are read with ``preadv`` and not mapped: the pages stay the kernel's, memory does not grow with the epochs,
and a file cut short by somebody else is a missing picture instead of a SIGBUS.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
import weakref
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitreous.store.files import write_atomic

_ROW = np.dtype([("digest", "V32"), ("start", "<u8"), ("height", "<u4"), ("width", "<u4"), ("check", "<u4")])
_MAGIC = b"vitreous pixels 1\n"
_ORPHAN = 60.0  # seconds after which pixels that nobody holds and no index knows are litter


class Segment:
    """Pixels of (3, h, w) uint8 pictures by row number. Reads are safe from many threads; so is one writer.

    Attributes:
        stem: path of both files without their suffix.
        bytes: size of the pixels.
    """

    def __init__(self, stem: Path, rows: NDArray[np.void], descriptor: int | None = None) -> None:
        self.stem = stem
        self._rows, self._count = rows, len(rows)
        self.bytes = int((rows["start"] + _sizes(rows)).max(initial=0))
        self._checked = bytearray(self._count)
        self._lock = threading.Lock()
        self._closer: weakref.finalize[[int], Segment] | None = None
        self._descriptor = -1
        if descriptor is not None:
            self._hold(descriptor)

    @classmethod
    def create(cls, folder: Path, key: str) -> Segment:
        """A new, empty pair that this process alone appends to.

        Raises:
            OSError: the folder cannot be written.
        """
        # names sort by age: where a damaged picture was kept anew, the newer copy is the one that counts
        stem = folder / f"{key}-{time.time_ns():016x}-{uuid.uuid4().hex[:8]}"
        descriptor = os.open(_pixels(stem), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: the age of the file must do
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return cls(stem, np.empty(0, _ROW), descriptor)

    @classmethod
    def open(cls, stem: Path) -> Segment | None:
        """The pair at ``stem`` as its index was last committed; None if the index is missing or damaged."""
        try:
            content = stem.with_suffix(".index").read_bytes()
        except OSError:
            return None
        body, check = content[len(_MAGIC) : -4], content[-4:]
        sound = content.startswith(_MAGIC) and zlib.crc32(body).to_bytes(4, "little") == check
        return cls(stem, np.frombuffer(body, _ROW)) if sound and len(body) % _ROW.itemsize == 0 else None

    def __len__(self) -> int:
        return self._count

    def digests(self) -> list[bytes]:
        """The digest of each row."""
        joined = np.ascontiguousarray(self._rows["digest"][: self._count]).tobytes()
        return [joined[i : i + 32] for i in range(0, len(joined), 32)]

    def append(self, digest: bytes, pixels: Tensor) -> int:
        """Add one picture and return its row; it can be read at once, and by others after ``commit``.

        Raises:
            OSError: the disk is full. What was there before is untouched.
        """
        content = pixels.contiguous().numpy().reshape(-1).data
        with self._lock:
            start = self.bytes
            try:
                written = 0
                while written < len(content):
                    written += os.pwrite(self._descriptor, content[written:], start + written)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, start)
                raise
            if self._count == len(self._rows):
                self._rows = np.concatenate([self._rows, np.zeros(max(256, self._count), _ROW)])
            self._rows[self._count] = (digest, start, pixels.shape[1], pixels.shape[2], zlib.crc32(content))
            self._checked.append(1)
            self.bytes += len(content)
            self._count += 1
            return self._count - 1

    def read(self, row: int) -> Tensor | None:
        """(3, h, w) uint8 that owns its memory; None if the pixels are damaged or gone."""
        with self._lock:
            _, start, height, width, check = self._rows[row].tolist()
            if self._descriptor < 0:
                self._open_pixels()
        pixels = torch.empty((3, height, width), dtype=torch.uint8)
        content = pixels.numpy().reshape(-1).data
        try:
            whole = os.preadv(self._descriptor, [content], start) == len(content)
        except OSError:
            return None
        if not whole or not (self._checked[row] or zlib.crc32(content) == check):
            return None
        self._checked[row] = 1
        return pixels

    def commit(self) -> None:
        """Make all rows so far visible to others and to later runs.

        Raises:
            NoSpace, OSError: it cannot be written; the earlier index stands.
        """
        with self._lock:
            body = self._rows[: self._count].tobytes()
        write_atomic(self.stem.with_suffix(".index"), _MAGIC + body + zlib.crc32(body).to_bytes(4, "little"))

    def close(self) -> None:
        """Let go of the file. No thread may be reading."""
        self._descriptor = -1
        if self._closer:
            self._closer()

    def _hold(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._closer = weakref.finalize(self, os.close, descriptor)

    def _open_pixels(self) -> None:
        with suppress(OSError):
            self._hold(os.open(_pixels(self.stem), os.O_RDONLY | os.O_CLOEXEC))
            os.utime(self.stem.with_suffix(".index"))  # used now: last in the order of eviction
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def survey_folder(folder: Path) -> list[tuple[float, int, Path]]:
    """``(last use, bytes, stem)`` of every pair in ``folder``, oldest first; what killed processes left is removed."""
    pairs = []
    for pixels in folder.glob("*.pixels"):
        with suppress(OSError):
            status, index = pixels.stat(), pixels.with_suffix(".index")
            if index.exists():
                known = index.stat()
                pairs.append((known.st_mtime, status.st_size + known.st_size, pixels.with_suffix("")))
            elif time.time() - status.st_mtime < _ORPHAN or not remove(pixels.with_suffix("")):
                pairs.append((status.st_mtime, status.st_size, pixels.with_suffix("")))
    for index in folder.glob("*.index"):
        if not index.with_suffix(".pixels").exists():
            index.unlink(missing_ok=True)
    for half in folder.glob(".tmp-*"):
        with suppress(OSError):
            if time.time() - half.stat().st_mtime > _ORPHAN:
                half.unlink()
    return sorted(pairs)


def remove(stem: Path) -> bool:
    """Delete a pair that no process uses; False if one does."""
    with suppress(OSError):
        descriptor = os.open(_pixels(stem), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for suffix in (".index", ".pixels"):  # pixels without an index are litter, the reverse a lie
                stem.with_suffix(suffix).unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)
    return False


def _pixels(stem: Path) -> Path:
    return stem.with_suffix(".pixels")


def _sizes(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    return np.uint64(3) * rows["height"].astype(np.uint64) * rows["width"].astype(np.uint64)
