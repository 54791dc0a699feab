"""Numbers and names as they are written."""

from __future__ import annotations

import pytest

from vitreous.reports.text import (
    brief,
    count,
    duration,
    interval,
    large,
    named,
    percent,
    sentence,
    shortened,
    shown,
)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.7124, "71.2 %"), (0.0, "0 %"), (1.0, "100 %"), (0.00001, "< 0.1 %"), (0.99999, "> 99.9 %"), (None, "–")],
)
def test_percent(share: float | None, text: str) -> None:
    assert percent(share).replace("\N{NARROW NO-BREAK SPACE}", " ") == text


def test_other_numbers() -> None:
    assert interval(0.6583, 0.76).startswith("65.8–76.0")
    assert [count(1, "picture"), count(1234, "picture"), count(2, "class", "classes")] == [
        "1 picture",
        "1,234 pictures",
        "2 classes",
    ]
    assert [large(5_717_416), large(1.258e9), large(61), large(0.5)] == ["5.72 M", "1.26 G", "61", "0.5"]
    assert [duration(0.5), duration(4.25), duration(59.6), duration(73.2)] == [
        "30 s",
        "4.2 min",
        "1 h 00 min",
        "1 h 13 min",
    ]


def test_names_cannot_disguise_themselves() -> None:
    assert shown("a\u202eb\x1b[0m\udcff") == r"a\u202eb\x1b[0m\udcff"
    assert shown("naïve 猫 👩‍🔬") == "naïve 猫 👩‍🔬"
    assert sentence("{} {}", "a\u202eb", named("\x00")) == r'a\u202eb <bdi class="name">\x00</bdi>'
    assert sentence("<b>{}</b> {}", "<i>", named("&")) == '<b>&lt;i&gt;</b> <bdi class="name">&amp;</bdi>'


def test_names_break_at_their_joints_and_lose_their_middle() -> None:
    assert brief("american_bulldog") == "<bdi>american_<wbr>bulldog</bdi>"
    assert brief("a/<b>.jpg") == "<bdi>a/&lt;b&gt;.<wbr>jpg</bdi>"
    assert brief("_a__b_") == "<bdi>_<wbr>a_<wbr>_<wbr>b_<wbr></bdi>".replace("b_<wbr>", "b_")
    assert brief("x" * 32) == f"<bdi>{'x' * 32}</bdi>"
    long = "a" * 20 + "\u202e" + "z" * 20
    assert brief(long, 11) == f'<bdi title="{shown(long)}">aaaaa…zzzzz</bdi>'
    assert shortened("abcdefgh", 8) == "abcdefgh" and shortened("abcdefghi", 8) == "abcd…ghi"
