"""JSON that knows when it was changed: one object whose last field is the SHA-256 of the rest.

Knows nothing of what it holds. A reader that does not care about the seal reads it as ordinary JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitreous.config import canonical, to_dict
from vitreous.errors import DamagedFile

SEAL = "seal"


def seal(content: Mapping[str, Any]) -> bytes:
    """``content`` as indented JSON with its seal; numbers that are not finite become null."""
    plain: dict[str, Any] = _finite(to_dict({k: v for k, v in content.items() if k != SEAL}))
    plain[SEAL] = hashlib.sha256(canonical(plain).encode()).hexdigest()
    return (json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "surrogatepass")


def read_sealed(path: Path) -> dict[str, Any]:
    """What was sealed into ``path``, without the seal.

    Raises:
        DamagedFile: a single bit is other than what ``seal`` wrote, or the file is missing.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing.") from None
    try:
        content = json.loads(data)
        # writing it again must give the very same bytes: that covers spaces and the case of hexadecimal digits too
        sound = isinstance(content, dict) and seal(content) == data
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        raise DamagedFile(f"{path} is not what was written: it was changed or cut short.")
    del content[SEAL]
    return dict(content)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
