"""What tells, beside the scores, how far to trust a run: strange pictures, doubtful labels, copies across its sides.

All of it comes from the finished network's features and from what the survey found. Labels of test pictures are
judged here too; nothing that ships depends on what comes of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as to_bytes

from vitreous.analyse.familiar import MOST_KEPT, Familiar, remember
from vitreous.analyse.label_errors import LabelErrors, find_label_errors
from vitreous.data.duplicates import exact_groups, near_groups
from vitreous.data.listing import printable
from vitreous.data.prepare import Prepared
from vitreous.data.quarantine import to_csv
from vitreous.data.split import LEFT_OUT, SIDES
from vitreous.network import Network
from vitreous.run.outcome import Outcome, answer
from vitreous.store.checkpoint import LABELS, REFERENCE

MOST_WORK = 2_000_000_000
"""Pictures times features times classes that the labels are judged with: seconds. Beyond, fewer pictures are judged."""

MOST_LISTED = 100
"""Suspects in the card; the table of labels holds them all."""

PAIRS = 6


class Trust(NamedTuple):
    """What a run folder keeps of it."""

    facts: dict[str, Any]  # for the card
    files: dict[str, bytes]


def examine(network: Network, prepared: Prepared, found: Outcome) -> Trust:
    """Look at up to ``MOST_KEPT`` training pictures once more, and at the answers on validation and test.

    Which training pictures hangs on their contents alone: the indices of a side are in the order of its digests.
    """
    trained = answer(network, prepared.subset(prepared.indices("train")[:MOST_KEPT]))
    answers = {"train": trained, **found.answers}
    numbers = torch.cat([a.numbers for a in answers.values()]).numpy()
    features = torch.cat([a.pooled for a in answers.values()]).numpy()
    most = max(1, MOST_WORK // (features.shape[1] * len(prepared.classes)))
    judged = np.argsort([prepared.survey.digests[int(i)] for i in numbers])[:most]
    errors = find_label_errors(
        features[judged], prepared.source.labels[numbers[judged]], prepared.groups[numbers[judged]]
    )
    errors_of = numbers[judged][errors.index]
    doubtful = dict(_reasons(prepared, errors, errors_of))
    files = {LABELS: to_csv(doubtful)} if doubtful else {}
    if "val" in found.answers:
        held_out = found.answers["val"].levels.numpy()
        files[REFERENCE] = _reference(remember(trained.levels.numpy(), held_out, len(prepared.classes)))
    return Trust({"labels": _labels(prepared, errors, errors_of), "copies": copies(prepared)}, files)


def copies(prepared: Prepared) -> dict[str, Any]:
    """How many pictures look alike, what became of them, and a few pairs: the ``copies`` of a card.

    ``across`` counts the validation and test pictures that look like one on a side nearer to training all the same.
    """
    seen = prepared.survey
    near = near_groups(exact_groups(seen.digests, prepared.groups >= 0), seen.hashes, seen.thumbnails)
    used = np.flatnonzero(near >= 0)
    _, number, sizes = np.unique(near[used], return_inverse=True, return_counts=True)
    alike = used[sizes[number] > 1]
    families = [alike[near[alike] == g] for g in np.unique(near[alike])]
    pairs = sorted(_pairs(prepared, families), key=lambda p: p[0])
    return {
        "groups": len(families),
        "pictures": len(alike),
        "left_out": int((prepared.split[alike] == LEFT_OUT).sum()),
        "across": sum(_across(prepared.split[family]) for family in families),
        "pairs": [[printable(prepared.source.name(i)) for i in two] + [how] for _, two, how in pairs[:PAIRS]],
    }


def _across(sides: NDArray[np.int8]) -> int:
    """Of pictures that look alike: how many lie further from training than another of them."""
    held = sides[sides != LEFT_OUT]
    return int((held > held.min()).sum()) if len(held) else 0


def _pairs(prepared: Prepared, families: list[NDArray[np.int64]]) -> Iterator[tuple[int, tuple[int, int], str]]:
    """One pair of each family, in order of how much they matter: ``(order, two numbers, what became of them)``."""
    for family in families:
        sides = prepared.split[family]
        low, high = family[int(sides.argmin())], family[int(sides.argmax())]
        if _across(sides):
            held = family[sides != LEFT_OUT]
            low = held[int(prepared.split[held].argmin())]
            yield 0, (int(low), int(high)), f"one in {_side(prepared, low)}, one in {_side(prepared, high)}"
        elif sides.min() < sides.max():
            yield 1, (int(low), int(high)), f"one left out, one in {_side(prepared, high)}"
        else:
            digests = [prepared.survey.digests[int(i)] for i in family]
            other = next((i for i, d in zip(family, digests, strict=True) if d != digests[0]), family[1])
            order = 3 if digests[0] == prepared.survey.digests[int(other)] else 2
            yield order, (int(family[0]), int(other)), f"both in {_side(prepared, family[0])}"


def _side(prepared: Prepared, i: np.int64) -> str:
    names = {"train": "training", "val": "validation", "test": "test"}
    return names[SIDES[int(prepared.split[i])]]


def _reference(familiar: Familiar) -> bytes:
    return to_bytes(
        {
            "features": torch.from_numpy(familiar.features),
            "distances": torch.from_numpy(familiar.distances),
            "neighbours": torch.tensor(familiar.neighbours),
        }
    )


def _labels(prepared: Prepared, errors: LabelErrors, numbers: NDArray[np.int64]) -> dict[str, Any]:
    """The ``labels`` of a card."""
    source = prepared.source
    rows = zip(numbers, errors.suggested, errors.given_share, errors.suggested_share, strict=True)
    return {
        "checked": errors.checked,
        "agreement": errors.agreement,
        "pictures": sum(map(sum, prepared.class_counts.values())),
        "suspects": len(numbers),
        "list": [
            {
                "name": printable(source.name(int(i))),
                "side": SIDES[int(prepared.split[i])],
                "given": source.classes[source.labels[i]],
                "suggested": source.classes[suggested],
                "shares": [round(float(given), 4), round(float(best), 4)],
            }
            for i, suggested, given, best in list(rows)[:MOST_LISTED]
        ],
    }


def _reasons(prepared: Prepared, errors: LabelErrors, numbers: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
    """Names and reasons, without test: to leave out pictures that the model contradicts would only flatter it."""
    source = prepared.source
    for i, suggested, best in zip(numbers, errors.suggested, errors.suggested_share, strict=True):
        if SIDES[int(prepared.split[i])] == "test":
            continue
        given = source.classes[source.labels[i]]
        yield source.name(int(i)), f"labelled {given}, looks like {source.classes[suggested]} ({best:.0%} sure)"
