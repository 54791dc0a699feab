"""Decoded pixels, kept once as uint8, so that later epochs and later runs never decode.

Keyed by the digest of a picture's bytes and by the settings of step 1, bounded in bytes, shared by all processes
that use the folder. Files that nobody uses give way, least recently used first. Where nothing can be written, memory
takes the place of the folder within the same bound. Knows nothing of files, labels or order.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from vitreous.data.image import Preprocess, step_one
from vitreous.data.segment import Segment, remove, survey_folder
from vitreous.errors import NoSpace, UsageError

_LOOK = 64 << 20  # bytes written between two looks at what others have put in the folder
_COMMIT = 512 << 20  # bytes written after which a killed process need not start again


class Cache:
    """Step-1 pixels by content digest. Safe to use from many threads, and by many processes on one folder.

    Attributes:
        limit_bytes: bound on all files of the folder together, or on the pictures kept in memory.
        notices: what the user may want to know, one sentence each.
    """

    def __init__(self, folder: Path | None, key: str, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.notices: tuple[str, ...] = ()
        self._folder, self._key = folder, key
        self._lock = threading.RLock()
        self._places: dict[bytes, tuple[Segment, int]] = {}
        self._growing: Segment | None = None
        self._room = 0  # bytes that may be written before the next look at the folder
        self._uncommitted = 0
        self._full = False
        self._memory: dict[bytes, Tensor] = {}
        self._memory_room = min(limit_bytes, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)

    @classmethod
    def open(cls, folder: str | Path | None, preprocess: Preprocess, limit_bytes: int = 8 << 30) -> Cache:
        """Open the cache in ``folder`` for step 1 of ``preprocess``; what earlier runs left there is served again.

        Without a folder, or with one that cannot be written, pixels are kept in memory: never more than
        ``limit_bytes``, nor than half of what the machine has. Beyond the bound nothing is kept.
        """
        key = hashlib.sha256(step_one(preprocess).encode()).hexdigest()[:16]
        cache = cls(Path(folder) if folder is not None else None, key, limit_bytes)
        cache._find()
        return cache

    def get(self, digest: str) -> Tensor | None:
        """(3, h, w) uint8 that owns its memory, or None if the picture must be decoded."""
        key = _raw(digest)
        with self._lock:
            place, kept = self._places.get(key), self._memory.get(key)
        if place is None:
            return None if kept is None else kept.clone()
        segment, row = place
        pixels = segment.read(row)
        if pixels is None:  # damaged or gone: forget it, so that it is decoded and kept anew
            with self._lock:
                self._places.pop(key, None)
        return pixels

    def put(self, digest: str, pixels: Tensor) -> bool:
        """Keep the (3, h, w) uint8 pixels of step 1; False if there is no room left.

        Raises:
            UsageError: the pixels are of another shape or type.
        """
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
            raise UsageError(f"the cache keeps (3, h, w) uint8, not {tuple(pixels.shape)} {pixels.dtype}.")
        key = _raw(digest)
        with self._lock:
            if key in self._places or key in self._memory:
                return True
            return self._keep_in_file(key, pixels) if self._folder else self._keep_in_memory(key, pixels)

    def __contains__(self, digest: str) -> bool:
        return _raw(digest) in self._places or _raw(digest) in self._memory

    def __len__(self) -> int:
        return len(self._places) + len(self._memory)

    def commit(self) -> None:
        """Make everything kept so far visible to other processes and to later runs."""
        with self._lock:
            if self._growing and self._uncommitted:
                self._uncommitted = 0
                try:
                    self._growing.commit()
                except (OSError, NoSpace) as error:
                    self._note(f"The picture cache could not be completed, so later runs decode again: {error}")

    def close(self) -> None:
        """Commit and let go of all files. No thread may be reading."""
        self.commit()
        with self._lock:
            for segment in {id(s): s for s, _ in self._places.values()}.values():
                segment.close()
            if self._growing:
                self._growing.close()
            self._places, self._memory, self._growing = {}, {}, None

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self) -> None:
        """Take up what lies in the folder; without a usable one, turn to memory."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_room(0)
            for stem in sorted(path.with_suffix("") for path in self._folder.glob(f"{self._key}-*.index")):
                segment = Segment.open(stem)
                if segment is None:
                    remove(stem)
                else:
                    self._places.update((digest, (segment, row)) for row, digest in enumerate(segment.digests()))
        except OSError as error:
            self._turn_to_memory(error)

    def _keep_in_file(self, key: bytes, pixels: Tensor) -> bool:
        if self._full or (pixels.numel() > self._room and not self._make_room(pixels.numel())):
            return False
        assert self._folder is not None
        try:
            if self._growing is None:
                self._growing = Segment.create(self._folder, self._key)
            self._places[key] = (self._growing, self._growing.append(key, pixels))
        except OSError as error:
            self._turn_to_memory(error)
            return self._keep_in_memory(key, pixels)
        self._room -= pixels.numel()
        self._uncommitted += pixels.numel()
        if self._uncommitted > _COMMIT:
            self.commit()
        return True

    def _keep_in_memory(self, key: bytes, pixels: Tensor) -> bool:
        if pixels.numel() > self._memory_room:
            self._fill_up(self._memory_room)
            return False
        self._memory[key] = pixels.clone(memory_format=torch.contiguous_format)
        self._memory_room -= pixels.numel()
        return True

    def _make_room(self, wanted: int) -> bool:
        """Look at the folder, let unused files give way, and allow for ``wanted`` bytes or more."""
        assert self._folder is not None
        pairs = survey_folder(self._folder)
        used = sum(size for _, size, _ in pairs)
        for _, size, stem in pairs:
            if used + wanted <= self.limit_bytes:
                break
            if remove(stem):
                used -= size
        self._room = min(max(0, self.limit_bytes - used), _LOOK)
        if wanted > self._room:
            self._fill_up(used)
        return wanted <= self._room

    def _fill_up(self, used: int) -> None:
        if not self._full:
            self._full = True
            self._note(
                f"The picture cache is full at {self.limit_bytes / 2**30:.3g} GiB; the remaining pictures are decoded "
                "again in every epoch. A larger cache_gib avoids that."
            )

    def _turn_to_memory(self, error: OSError) -> None:
        self._note(f"The picture cache in {self._folder} cannot be written ({error.strerror}); memory is used instead.")
        self.commit()
        self._folder = None

    def _note(self, notice: str) -> None:
        self.notices = (*self.notices, notice)


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest)
