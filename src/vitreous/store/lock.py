"""One process at a time in a run folder. The kernel drops the lock when its holder dies, even by ``kill -9``."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from vitreous.errors import RunBusy, UsageError
from vitreous.store.files import full_disk_named

try:
    import fcntl
except ImportError:  # Windows has no flock; there nobody is kept out
    fcntl = None  # type: ignore[assignment]

_UNWRITABLE = (errno.EACCES, errno.EROFS, errno.EPERM)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, which exists only meanwhile.

    Raises:
        RunBusy: another process holds it; names that process.
        UsageError: the folder cannot be written to.
        NoSpace: the disk is full.
    """
    with full_disk_named(path, 1):
        handle = _acquire(path)
    try:
        with full_disk_named(path, 1):
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        # while the lock is still held, so that nobody can be waiting on the name that goes away
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno in _UNWRITABLE:
                raise UsageError(f"{path.parent} cannot be written to; choose another folder with --out.") from None
            raise
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(handle, path):
                return handle
        except BlockingIOError:
            holder = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise RunBusy(
                f"Another process{f' ({holder})' if holder else ''} works in {path.parent}; "
                "wait for it, stop it, or choose another folder."
            ) from None
        os.close(handle)  # its holder removed the name between our two calls: take the new one


def _is_named(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
