"""Files that are either whole or absent: the atomic write, the digest of a file, the room left on its disk.

Knows nothing of what is written. Everything durable that a run or a data check leaves behind goes through
``write_atomic``, so that a crash, a ``kill -9`` or a full disk never leaves half a file under a real name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from vitreous.errors import NoSpace

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CHUNK = 1 << 20


def write_atomic(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old contents or the new, never a mixture.

    The bytes go to a temporary name in the same folder (a rename across disks is a copy, not a rename), are
    flushed to the disk, and take the real name in one step; then the folder's own entry is flushed. Whatever
    goes wrong, the temporary file is removed and the old contents stay.

    Raises:
        NoSpace: the disk, the quota or the file-size limit is exhausted; names the folder and the bytes needed.
        OSError: anything else, such as a missing or read-only folder.
    """
    target = Path(path)
    temporary = target.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        with full_disk_named(target, memoryview(data).nbytes):
            _write_through(temporary, data)
            os.replace(temporary, target)
            flush_folder(target.parent)
    finally:
        # after the rename the name is gone; before it, or after an interrupt, nothing may be left behind
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_named(target: Path, needed: int) -> Iterator[None]:
    """Whatever inside finds the disk, the quota or the file-size limit exhausted raises ``NoSpace`` for ``target``.

    Raises:
        NoSpace: names the folder and the bytes needed.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _no_space(target, needed) from error
        raise


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the contents of ``path`` as 64 hexadecimal digits, read in constant memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """Bytes that this user may still write to the disk of ``folder``, which need not exist yet."""
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def _write_through(path: Path, data: bytes | bytearray | memoryview) -> None:
    # O_EXCL: never write through a link that somebody laid there; 0o666 so that the umask decides, as for any file
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with open(handle, "wb", buffering=0) as file:
        rest = memoryview(data).cast("B")
        while rest.nbytes:  # a raw write may take less than it was given
            rest = rest[file.write(rest[:_CHUNK]) or 0 :]
        os.fsync(handle)


def flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, where its disk can."""
    if os.name == "nt":  # folders cannot be opened there; the rename itself is journalled
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot, and say so
            raise
    finally:
        os.close(handle)


def _no_space(target: Path, needed: int) -> NoSpace:
    folder = target.parent
    free = ""
    with contextlib.suppress(OSError):
        free = f" and {free_bytes(folder):,} are free"
    return NoSpace(
        f"No space left in {folder} for {target.name}: {needed:,} bytes are needed{free}; "
        "free some space or choose another folder, then run the same command again."
    )
