"""What a finished training amounts to: answers on validation and test, temperature, scores, cost, and the card.

Knows nothing of how the network was trained. The numbers here are the ones that are reported, so they are taken in
float32, through the same preprocessing that prediction uses.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as to_bytes
from torch import Tensor

from vitreous import __version__
from vitreous.analyse.calibration import fit_temperature
from vitreous.analyse.cost import Cost
from vitreous.analyse.scores import Scores, score
from vitreous.config import to_dict
from vitreous.data.dataset import Pictures
from vitreous.data.listing import printable
from vitreous.data.prepare import Prepared, Side
from vitreous.data.preprocess import fit
from vitreous.errors import VitreousError
from vitreous.models.describe import describe
from vitreous.network import Network
from vitreous.predictor import levels
from vitreous.store.checkpoint import OUTPUTS, RunFolder
from vitreous.store.tensors import read_tensors
from vitreous.weights import pretrained

SIDES: tuple[Side, ...] = ("val", "test")
KNOWN: tuple[Side, ...] = ("train", "val")  # what the weights were learned from and chosen on
Known = dict[Side, NDArray[np.int64]]
"""Of each side in ``KNOWN`` the fingerprints of its pictures."""


class Answers(NamedTuple):
    """What the network said of every picture of one side, and what it saw."""

    logits: Tensor  # (n, k) float32
    labels: Tensor  # (n,) int64
    numbers: Tensor  # (n,) int64, which picture of the source
    pooled: Tensor  # (n, d) float32
    levels: Tensor  # (n, e) float32, as ``predictor.levels`` gives them


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The measured end of a run; ``scores`` and ``answers`` hold the sides that have pictures."""

    answers: dict[Side, Answers]
    scores: dict[Side, Scores]
    temperature: float


@torch.inference_mode()
def answer(network: Network, pictures: Pictures, batch: int = 64) -> Answers:
    """Logits of every picture, in the order of the side, from exactly the pixels and the operations of prediction."""
    network = network.optimise()
    device = network.mean.device
    logits, numbers = [torch.zeros(0, network.config.classes)], [torch.zeros(0, dtype=torch.int64)]
    pooled, seen = [torch.zeros(0)], [torch.zeros(0)]  # torch joins an empty vector to anything
    for images, index in _batches(pictures, batch):
        features = network.features(images.to(device))
        logits.append(network.head(features).float().cpu())
        pooled.append(features.pooled.float().cpu())
        seen.append(levels(features).cpu())
        numbers.append(index)
    labels = torch.from_numpy(pictures.labels.copy())
    return Answers(torch.cat(logits), labels, *map(torch.cat, (numbers, pooled, seen)))


def measure(network: Network, prepared: Prepared) -> Outcome:
    """Answer validation and test, if they have labels, and score both.

    The temperature is fitted on validation (Guo et al. 2017, section 4.2).
    """
    sides = SIDES if prepared.classes else ()
    answers = {side: answer(network, prepared.pictures(side)) for side in sides}
    answers = {side: a for side, a in answers.items() if len(a.labels)}
    temperature = fit_temperature(*_numbers(answers["val"])) if "val" in answers else 1.0
    scores = {side: score(*_numbers(a), prepared.classes, temperature) for side, a in answers.items()}
    return Outcome(answers=answers, scores=scores, temperature=temperature)


@torch.inference_mode()
def speed(network: Network, batch: int = 32, repeats: int = 5) -> float:
    """Pictures a second through the forward pass of prediction: the median of a few batches of noise."""
    network = network.optimise()
    shape, own = (batch, 3, network.config.size, network.config.size), torch.Generator()  # draws nothing of others
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=own)
    image = image.to(network.mean.device)
    network(image)  # the first call allocates and chooses kernels
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        network(image).cpu()
        times.append(time.perf_counter() - start)
    return batch / statistics.median(times)


def outputs(outcome: Outcome, prepared: Prepared, inherited: Sequence[Known] = ()) -> dict[str, bytes]:
    """The answers as files of the run folder: outputs.safetensors, and outputs.json with the pictures' names.

    ``train_seen`` and ``val_seen`` tell later which pictures the weights know already, wherever those lie by then.

    Args:
        inherited: what the runs knew that this one began with or was taught by.
    """
    tensors = {
        f"{side}_{name}": tensor.contiguous()
        for side, answers in outcome.answers.items()
        for name, tensor in answers._asdict().items()
        if name in ("logits", "labels", "numbers")
    }
    for known in KNOWN:
        sides: tuple[Side, ...] = (known, "unlabelled") if known == "train" else (known,)
        prints = [_prints(prepared, side) for side in sides] + [of[known] for of in inherited]
        tensors[f"{known}_seen"] = torch.from_numpy(np.unique(np.concatenate(prints)))
    names = {
        side: [printable(prepared.source.name(int(i))) for i in answers.numbers]
        for side, answers in outcome.answers.items()
    }
    return {"outputs.safetensors": to_bytes(tensors), "outputs.json": json.dumps(names).encode()}


def fingerprints(digests: Iterable[str]) -> NDArray[np.int64]:
    """(n,) the first eight bytes of each SHA-256: enough to tell millions of pictures apart."""
    return np.array([int.from_bytes(bytes.fromhex(d[:16]), "big", signed=True) for d in digests], dtype=np.int64)


def known_to(other: RunFolder) -> Known:
    """The pictures that a finished run learned from ("train") and was chosen on ("val"), by their fingerprints.

    Raises:
        UsageError: it has not finished.
        DamagedFile: its files are not what was saved.
    """
    seen = read_tensors(other.path / OUTPUTS, other.load_card()["files"][OUTPUTS]["sha256"])
    none = torch.zeros(0, dtype=torch.int64)  # runs of earlier versions do not say
    return {side: seen.get(f"{side}_seen", none).numpy() for side in KNOWN}


def handed_down(places: Iterable[str]) -> tuple[list[Known], list[str]]:
    """(what the runs among ``places`` know, a sentence on each of which nobody can tell it any more).

    Weights of others say nothing. That a run was removed while another that began with it trained is no error.
    """
    found, lost = [], []
    for place in places:
        if pretrained.parse(place) or Path(place).is_file():
            continue
        try:
            found.append(known_to(RunFolder.open(place)))
        except VitreousError as error:
            lost.append(f"Which pictures {place} knows is lost, so nobody is told of them later: {error}")
    return found, lost


def shown_before(other: RunFolder, prepared: Prepared, who: str) -> list[str]:
    """A sentence on ``who``, if weights of the run ``other`` know test pictures; those measure no longer."""
    told, test = known_to(other), _prints(prepared, "test")
    known = int(np.isin(test, np.concatenate(list(told.values()))).sum())
    if not known:
        return []
    return [f"{who} trained or chosen on {known:,} of the {test.size:,} test pictures: the accuracy on them flatters."]


def chosen_by_known(other: RunFolder, prepared: Prepared, who: str) -> list[str]:
    """A sentence on ``who``, if the run ``other`` learned from pictures of validation; what is best on those misleads.

    That it was chosen on them is no matter: so is whatever is chosen here.
    """
    val = _prints(prepared, "val")
    known = int(np.isin(val, known_to(other)["train"]).sum())
    if not known:
        return []
    return [f"{who} trained on {known:,} of the {val.size:,} validation pictures: the accuracy on those flatters."]


def _prints(prepared: Prepared, side: Side) -> NDArray[np.int64]:
    return fingerprints(prepared.survey.digests[int(i)] for i in prepared.indices(side))


def card(
    network: Network, prepared: Prepared, outcome: Outcome, cost: Cost, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that is known of the weights; ``facts`` adds how they were trained.

    The fields are described in ``vitreous.reports.recorded``.
    """
    source, survey = prepared.source, prepared.survey
    return {
        "vitreous": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "finished",
        "data": {
            "source": source.root,
            "classes": list(prepared.classes),
            "split": "automatic" if source.split is None else "given",
            "counts": prepared.class_counts,
            "pictures": {side: len(prepared.indices(side)) for side in (*KNOWN, "test", "unlabelled")},
            "digests": prepared.digests,
            "unreadable": _reasons(prepared, survey.errors),
            "left_out": _reasons(prepared, survey.quarantined),
            "notices": list(prepared.notices),
        },
        "network": {
            "model": network.config.model,
            "parameters": cost.parameters,
            "macs": cost.macs,
            "size": network.config.size,
            "options": network.config.options,
            "config": to_dict(network.config),
        },
        "preprocess": to_dict(prepared.config.preprocess),
        "calibration": {"temperature": outcome.temperature},
        "metrics": {side: s.summary() for side, s in outcome.scores.items()},
        "cost": asdict(cost),
        **facts,
    }


def cost(network: Network, *, seconds: float, images_per_second: float | None, peak: float | None) -> Cost:
    """What the run took; MACs by the convention of ``vitreous.models.describe``."""
    config = network.config
    described = describe(config.model, config.size, config.classes, config.options)
    return Cost(
        parameters=sum(p.numel() for p in network.parameters()),
        macs=described.macs,
        minutes=seconds / 60,
        images_per_second_train=images_per_second,
        images_per_second_predict=speed(network),
        peak_memory_mb=peak,
    )


def _batches(pictures: Pictures, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(pictures), batch):
        samples = [pictures[i] for i in range(start, min(start + batch, len(pictures)))]
        images = torch.stack([fit(s.image, pictures.preprocess) for s in samples])
        yield images, torch.tensor([s.index for s in samples])


def _numbers(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    return answers.logits.numpy(), answers.labels.numpy()


def _reasons(prepared: Prepared, reasons: Mapping[int, str]) -> list[list[str]]:
    return [[printable(prepared.source.name(i)), reason] for i, reason in sorted(reasons.items())]
