"""Spans of time as people write them: ``20m``, ``1h30m``, ``90s``."""

from __future__ import annotations

import re

from vitreous.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str | float) -> float:
    """``"1h30m"`` -> 5400.0. A bare number is refused: whether it means seconds or minutes is a guess.

    Raises:
        UsageError: not a positive span of time.
    """
    said = str(text).strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", said):
        number = f"{float(said):g}"
        raise UsageError(f"{text!r} is a span of time without a unit; write {number}s or {number}m.")
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", said)
    if not parts or "".join(n + u for n, u in parts) != re.sub(r"\s", "", said):
        raise UsageError(f"{text!r} is not a span of time; write for example 90s, 20m or 1h30m.")
    value = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 < value < 1e9:
        raise UsageError(f"A time budget must be positive, not {text!r}; write for example 20m.")
    return value


def show(value: float) -> str:
    """5400 -> ``1h30m``; the two largest units are enough for people."""
    if value < 10:
        return f"{value:.1f}s"
    left, parts = round(value), []
    for unit in "dhms":
        size = int(_UNITS[unit])
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join(parts[:2])
