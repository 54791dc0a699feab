"""Run folders that a comparison begins with: what it has to know of them.

Whether learning without labels was worth its time is asked of such weights alone, so they bring arms of their own
(``arms``), and a sentence (``worth``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vitreous.comparison.question import Question
from vitreous.config import from_dict
from vitreous.network import NetworkConfig
from vitreous.store.checkpoint import CARD, WEIGHTS, RunFolder


class Begun(NamedTuple):
    """A run whose weights arms begin with."""

    place: str
    network: NetworkConfig
    seconds: float  # that it took
    sha256: str  # of the weights
    unlabelled: bool  # learned without labels


def begun(question: Question) -> list[Begun]:
    """The finished runs that ``question`` begins with.

    Raises:
        DamagedFile: what a run folder says of itself was changed.
    """
    cards = {place: RunFolder(place).load_card() for place in question.init if (Path(place) / CARD).is_file()}
    return [
        Begun(
            place,
            from_dict(NetworkConfig, card["network"]["config"]),
            60 * float(card["cost"]["minutes"]),
            card["files"][WEIGHTS]["sha256"],
            "pretrain" in card,
        )
        for place, card in cards.items()
    ]


def learned(runs: Sequence[Begun]) -> list[Begun]:
    """Those whose weights were learned without labels."""
    return [run for run in runs if run.unlabelled]
