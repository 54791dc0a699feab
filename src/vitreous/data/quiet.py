"""Silence for Pillow's warnings while a picture is decoded: damaged files are answered with notices and reasons.

``warnings.catch_warnings`` swaps the whole filter list and is not safe with several decoding threads. Here one
filter, limited to Pillow's own modules, is added when the first thread enters and removed when the last one leaves.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_lock = threading.Lock()
_inside = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings raised by Pillow's modules inside the block; safe to enter from many threads at once."""
    filters: list[tuple[object, ...]] = warnings.filters  # type: ignore[assignment]
    global _inside  # noqa: PLW0603 - the filter list is one for the process, so is the count of its users
    with _lock:
        _inside += 1
        if _FILTER not in filters:
            filters.insert(0, _FILTER)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                with suppress(ValueError):  # somebody restored an older list meanwhile
                    warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]
