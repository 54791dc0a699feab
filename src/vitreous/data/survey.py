"""One pass over all pictures of a source: what each file is, and whether it can be read.

Every file is read once; its digest tells whether it is known already. Unknown ones are decoded, and the pixels of
step 1 go into the cache on the way, so that training never decodes again. Knows nothing of labels and splits.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vitreous.data.cache import Cache
from vitreous.data.dataset import Source
from vitreous.data.duplicates import COLUMNS, ROWS, difference_hash, thumbnail
from vitreous.data.image import Facts, Preprocess, decode
from vitreous.data.memory import Memory, Remembered
from vitreous.errors import BadData, UnreadableImage

Progress = Callable[[int, int], None]
"""Called with ``(pictures done, pictures in all)``, never from two threads at once."""

_CHUNK = 16  # pictures a task: enough that the pool costs nothing, few enough that the end is even


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known of each of the n pictures of a source, in its order.

    Attributes:
        digests: SHA-256 of the file's bytes in hexadecimal; empty where the file could not be read at all.
        facts: what the file says about itself; None where it could not be decoded.
        sizes: (n,) bytes.
        thumbnails: (n, 3, 8, 9) uint8 mean colours; zero where there is no picture.
        errors: index to the reason why a picture cannot be used.
        quarantined: index to the reason written in a quarantine list. Those pictures are not even read.
    """

    digests: list[str]
    facts: list[Facts | None]
    sizes: NDArray[np.int64]
    thumbnails: NDArray[np.uint8]
    errors: dict[int, str] = field(default_factory=dict)
    quarantined: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(n,) readable and not in quarantine."""
        return np.array([facts is not None for facts in self.facts], dtype=np.bool_)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """(n,) difference hashes."""
        return difference_hash(self.thumbnails)


def survey(
    source: Source,
    preprocess: Preprocess,
    cache: Cache | None = None,
    *,
    memory: Memory | None = None,
    quarantine: Mapping[str, str] | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Survey:
    """Read and decode every picture of ``source`` with ``workers`` threads.

    Nothing about one file can end the survey: what cannot be read is in ``Survey.errors`` with its reason.

    Args:
        source: the pictures.
        preprocess: step 1 of it decides what the cache keeps.
        cache: receives the step-1 pixels.
        memory: what earlier surveys learned; what is known and cached is not decoded again.
        quarantine: picture name to reason; those pictures are left out unread.
    """
    n = len(source)
    result = Survey(
        digests=[""] * n,
        facts=[None] * n,
        sizes=np.zeros(n, dtype=np.int64),
        thumbnails=np.zeros((n, 3, ROWS, COLUMNS), dtype=np.uint8),
    )
    listed = quarantine or {}
    names = (source.name(i) for i in range(n)) if listed else ()
    result.quarantined.update({i: listed[name] for i, name in enumerate(names) if name in listed})
    pending = [i for i in range(n) if i not in result.quarantined]
    memory = memory or Memory(None, preprocess)
    surveyor = _Surveyor(source, preprocess, cache, memory, result)
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="survey") as pool:
        chunks = [pending[i : i + _CHUNK] for i in range(0, len(pending), _CHUNK)]
        done = n - len(pending)
        try:
            for size in pool.map(surveyor.look, chunks):
                done += size
                if progress:
                    progress(done, n)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # an interrupt must not wait for a million pictures
            raise
        finally:
            memory.save()
            if cache is not None:
                cache.commit()
    return replace(result, errors=dict(sorted(result.errors.items())))  # threads finish in any order


@dataclass(frozen=True)
class _Surveyor:
    """The work of one thread; each index is written by one thread only."""

    source: Source
    preprocess: Preprocess
    cache: Cache | None
    memory: Memory
    result: Survey
    full: threading.Event = field(default_factory=threading.Event)  # the cache takes no more

    def look(self, indices: list[int]) -> int:
        for i in indices:
            try:
                self._look(i, self.source.read(i))
            except UnreadableImage as error:
                self.result.errors[i] = str(error)
            except BadData as error:
                self.result.errors[i] = f"cannot be opened: {error}"
        return len(indices)

    def _look(self, i: int, data: bytes) -> None:
        result = self.result
        digest = hashlib.sha256(data).hexdigest()
        result.digests[i], result.sizes[i] = digest, len(data)
        known = self.memory.get(digest)
        wanted = self.cache is not None and not self.full.is_set() and digest not in self.cache
        if known is None or wanted:
            pixels, facts = decode(data, self.preprocess)
            known = Remembered(facts, thumbnail(pixels.numpy()))
            self.memory.learn(digest, known)
            if self.cache is not None and not self.cache.put(digest, pixels):
                self.full.set()
        result.facts[i], result.thumbnails[i] = known
