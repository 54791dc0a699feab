"""How numbers, names and sentences are written on the page. Knows nothing of runs."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from markupsafe import Markup

THIN = "\N{NARROW NO-BREAK SPACE}"
BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def shown(text: str) -> str:
    """``text`` with everything that could break or disguise a page made visible.

    Control characters, lone surrogates (bytes of a file name that are not UTF-8) and direction overrides become
    escapes; letters of every script, emoji and line feeds stay.
    """
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def _harmless(character: str) -> bool:
    if character == "\n":
        return True
    return character not in BIDI and unicodedata.category(character) not in ("Cc", "Cs")


def sentence(template: str, *values: Any) -> Markup:
    """``template`` (ours, may hold tags) filled with ``values`` (anybody's, escaped)."""
    return Markup(template).format(*(shown(v) if type(v) is str else v for v in values))


def named(name: str, limit: int | None = None) -> Markup:
    """A name inside a sentence, whatever its direction of writing; shortened to ``limit`` letters."""
    return sentence('<bdi class="name">{}</bdi>', name if limit is None else shortened(name, limit))


def shortened(name: str, limit: int = 32) -> str:
    """``name`` with its middle left out where it is longer than ``limit``: names of classes often differ at the end."""
    if len(name) <= limit:
        return name
    head = limit // 2
    return f"{name[:head]}…{name[len(name) - (limit - head - 1) :]}"


def brief(name: str, limit: int = 32) -> Markup:
    """A class or file name in a table: it breaks where it has joints, and shows in full when it is pointed at."""
    short = shortened(shown(name), limit)
    parts = re.split(r"(?<=[_/.\-])(?=\w)", short)
    told = Markup("<wbr>").join(Markup.escape(part) for part in parts)
    return sentence("<bdi>{}</bdi>", told) if short == shown(name) else sentence('<bdi title="{}">{}</bdi>', name, told)


def percent(share: float | None, digits: int = 1) -> str:
    """0.7124 -> "71.2 %". Only exactly nothing and exactly all are written 0 % and 100 %."""
    if share is None:
        return "–"
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", THIN + "%")
    text = f"{100 * share:.{digits}f}"
    step = 10.0**-digits
    if float(text) == 0:
        return f"< {step:g}{THIN}%"
    if float(text) == 100:
        return f"> {100 - step:g}{THIN}%"
    return f"{text}{THIN}%"


def interval(low: float, high: float, digits: int = 1) -> str:
    """(0.658, 0.760) -> "65.8–76.0 %"."""
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}{THIN}%"


def count(number: int, noun: str = "", plural: str = "") -> str:
    """1234, "picture" -> "1,234 pictures"."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def large(number: float) -> str:
    """5_717_416 -> "5.72 M"."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g}"


def duration(minutes: float) -> str:
    """73.2 -> "1 h 13 min"."""
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    if minutes < 10:
        return f"{minutes:.1f} min"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest:02d} min" if hours else f"{rest} min"
