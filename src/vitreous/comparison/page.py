"""A comparison as one page. First the plain facts."""

from __future__ import annotations

from vitreous.comparison.result import Comparison


def render(found: Comparison) -> str:
    return found.verdict
