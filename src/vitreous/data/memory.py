"""What earlier surveys learned, filed under the digest of a picture's bytes: a file that is known is not decoded again.

Only a convenience: a memory that is missing, damaged or cannot be written costs time and nothing else. Failures are
not remembered, so that a better decoder gets its chance. Knows nothing of where pictures come from.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitreous.data.duplicates import COLUMNS, ROWS
from vitreous.data.image import Facts, Preprocess, step_one
from vitreous.errors import NoSpace
from vitreous.store.files import write_atomic

_MOST = 2_000_000  # pictures; the oldest are forgotten first


class Remembered(NamedTuple):
    """What is known of one picture."""

    facts: Facts
    thumbnail: NDArray[np.uint8]  # (3, 8, 9)


class Memory:
    """A dictionary from digest to ``Remembered`` that survives the process. Safe to ``learn`` from threads."""

    def __init__(self, folder: Path | None, preprocess: Preprocess) -> None:
        """Recall what is in ``folder`` for the step 1 of ``preprocess``; None keeps nothing between processes."""
        self._known: dict[str, Remembered] = {}
        self._path: Path | None = None
        self._learned = False
        if folder is not None:
            # whatever decides pixels or facts decides the file: a new decoder begins with a new memory
            key = f"memory=1 {step_one(preprocess)} max_pixels={preprocess.max_pixels}"
            self._path = folder / f"facts-{hashlib.sha256(key.encode()).hexdigest()[:16]}.jsonl"
            self._recall(self._path)

    def get(self, digest: str) -> Remembered | None:
        """What is known of ``digest``, if anything."""
        return self._known.get(digest)

    def learn(self, digest: str, remembered: Remembered) -> None:
        """Remember one picture."""
        self._known[digest] = remembered
        self._learned = True

    def save(self) -> None:
        """Write everything down if there is anything new; a place that cannot be written to is no error."""
        if self._path is None or not self._learned:
            return
        lines = [_line(digest, known) for digest, known in list(self._known.items())[-_MOST:]]
        with contextlib.suppress(OSError, NoSpace):
            write_atomic(self._path, b"".join(lines))
            self._learned = False

    def _recall(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            # a damaged line is a picture not known
            with contextlib.suppress(ValueError, TypeError, KeyError):
                digest, known = _parse(line)
                self._known[digest] = known


def _line(digest: str, known: Remembered) -> bytes:
    cells = base64.b64encode(known.thumbnail.tobytes()).decode()
    values = {"digest": digest, "cells": cells, "facts": dataclasses.asdict(known.facts)}
    text = json.dumps(values, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> tuple[str, Remembered]:
    check, _, text = line.partition(b" ")
    if int(check, 16) != zlib.crc32(text):
        raise ValueError("a damaged line")
    values = json.loads(text)
    thumbnail = np.frombuffer(base64.b64decode(values["cells"]), dtype=np.uint8).reshape(3, ROWS, COLUMNS)
    facts = Facts(**{**values["facts"], "notices": tuple(values["facts"]["notices"])})
    return values["digest"], Remembered(facts, thumbnail)
