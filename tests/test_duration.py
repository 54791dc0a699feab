"""Spans of time as people write them."""

from __future__ import annotations

import pytest

from vitreous.duration import seconds, show
from vitreous.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), (" 5 M ", 300)]
)
def test_read(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "20", "m", "20x", "1h30", "-5m", "0s", "five minutes", "1e3s", "nan"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write for example"):
        seconds(text)


@pytest.mark.parametrize(
    ("value", "text"), [(5.25, "5.2s"), (90, "1m30s"), (5400, "1h30m"), (3600, "1h"), (90061, "1d1h")]
)
def test_show(value: float, text: str) -> None:
    assert show(value) == text
