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


@pytest.mark.parametrize("text", ["", "m", "20x", "1h30", "-5m", "0s", "five minutes", "1e3s", "nan", "1 0m"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write for example"):
        seconds(text)


@pytest.mark.parametrize("bare", [10, 10.0, "10", " 10 "])
def test_a_bare_number_is_refused_with_what_it_may_mean(bare: str | float) -> None:
    with pytest.raises(UsageError, match=r"write 10s or 10m\."):
        seconds(bare)


@pytest.mark.parametrize("thing", [0, -5, True, float("nan")])
def test_numbers_that_can_mean_nothing_are_refused_too(thing: float) -> None:
    with pytest.raises(UsageError):
        seconds(thing)


@pytest.mark.parametrize(
    ("value", "text"), [(5.25, "5.2s"), (90, "1m30s"), (5400, "1h30m"), (3600, "1h"), (90061, "1d1h")]
)
def test_show(value: float, text: str) -> None:
    assert show(value) == text
