"""Run folders whose weights were learned without labels: what a comparison has to know of them.

Whether that was worth its time is asked of such weights alone, so they bring arms of their own (``arms``), and a
sentence (``worth``).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vitreous.comparison.question import Question
from vitreous.config import from_dict
from vitreous.network import NetworkConfig
from vitreous.store.checkpoint import CARD, WEIGHTS, RunFolder


class Learned(NamedTuple):
    """Weights that were learned without labels."""

    place: str
    network: NetworkConfig
    seconds: float  # that learning them took
    sha256: str  # of the weights


def learned(question: Question) -> list[Learned]:
    """Those among the run folders that ``question`` begins with.

    Raises:
        DamagedFile: what a run folder says of itself was changed.
    """
    cards = {place: RunFolder(place).load_card() for place in question.init if (Path(place) / CARD).is_file()}
    return [
        Learned(
            place,
            from_dict(NetworkConfig, card["network"]["config"]),
            60 * float(card["cost"]["minutes"]),
            card["files"][WEIGHTS]["sha256"],
        )
        for place, card in cards.items()
        if "pretrain" in card
    ]
