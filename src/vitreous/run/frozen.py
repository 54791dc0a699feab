"""The first answer from weights that others trained, before they are trained: what frozen features are worth.

Each picture goes through the network once. Nearest neighbours and logistic regression answer validation from its
pooled features, and the classifier begins with the regression's solution: the linear probe that fine-tuning should
start from (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", LP-FT), here solved instead of trained.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from vitreous.analyse.calibration import log_loss
from vitreous.analyse.probe import PENALTIES, Linear, Numbers, logistic, neighbours, right
from vitreous.data.prepare import Prepared
from vitreous.data.remarks import counted
from vitreous.duration import show
from vitreous.errors import UsageError
from vitreous.heads.classify import ClassifyHead
from vitreous.network import Network
from vitreous.run.outcome import answer

MOST = 10_000
"""Training pictures whose features are taken; more would cost minutes and hardly change the answer."""

FILE = "frozen.json"  # what a run folder keeps of it

_AT_ONCE = 64  # pictures between two looks at the clock
_LOOKING = 0.7  # of the time; the rest is for the regression


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the features amount to, as shares of the validation pictures that are right; None without such pictures."""

    neighbours: float | None
    logistic: float | None
    classifier: float | None  # of the one that came with the weights; None if there is none for these classes
    head: str  # what the network's classifier is now: "logistic regression", or "its own"
    penalty: float  # of the regression, on the mean loss of a picture
    pictures: int  # of training, that were looked at
    seconds: float

    def told(self) -> str:
        """In one sentence."""
        known = {"k-NN": self.neighbours, "logistic regression": self.logistic, "own classifier": self.classifier}
        said = ", ".join(f"{name} {share:.3f}" for name, share in known.items() if share is not None)
        looked = f"{counted(self.pictures)} of training, {show(self.seconds)}"
        return f"frozen features: {said} on validation ({looked})" if said else f"frozen features: {looked}"

    def facts(self) -> dict[str, Any]:
        """For the card."""
        return asdict(self)


def probe(
    network: Network,
    prepared: Prepared,
    *,
    fresh: bool,
    balanced: bool = False,
    pictures: int | None = None,
    penalty: float | None = None,
    seconds: float = math.inf,
    pace: float = math.inf,
) -> Baseline:
    """Measure the features of ``network``, and give its head the logistic regression on them.

    Args:
        fresh: its classifier knows nothing. One that came with the weights stays if it is as good on validation.
        balanced: every class counts the same in the regression.
        pictures: of training, that are looked at; as many as time allows, up to ``MOST``, if None.
        penalty: of the regression; chosen if None.
        seconds: about how long all of it may take.
        pace: pictures a second that ``network`` can look at.

    Raises:
        UsageError: ``seconds`` do not hold as much as the validation pictures.
    """
    begin, k = time.monotonic(), network.config.classes
    if len(prepared.val) / pace > _LOOKING * seconds:
        raise UsageError(
            f"To look at {counted(len(prepared.val))} of validation takes about {show(len(prepared.val) / pace)} with "
            f"this network, too much of the budget, and training does so often; give a longer --budget or less --size."
        )
    val = answer(network, prepared.val)
    held = (val.pooled.numpy(), val.labels.numpy())
    features, labels = _look(network, prepared, pictures, begin + _LOOKING * seconds)
    solved = logistic(
        features,
        labels,
        held if len(val.labels) else None,
        classes=k,
        balanced=balanced,
        penalties=PENALTIES if penalty is None else (penalty,),
        seconds=begin + seconds - time.monotonic(),
    )
    shares: dict[str, float | None] = {"neighbours": None, "logistic": None, "classifier": None}
    own = False
    if len(val.labels):
        shares["neighbours"] = right(neighbours(features, labels, held[0], classes=k), held[1])
        shares["logistic"] = right(solved.logits(held[0]), held[1])
        if not fresh:
            shares["classifier"] = right(val.logits.numpy(), held[1])
            own = _worth(val.logits.numpy(), held[1]) >= _worth(solved.logits(held[0]), held[1])
    if not own:
        take(network, solved)
    return Baseline(
        **shares,
        head="its own" if own else "logistic regression",
        penalty=solved.penalty,
        pictures=len(labels),
        seconds=time.monotonic() - begin,
    )


def take(network: Network, solved: Linear) -> None:
    """Let the head of ``network`` answer as ``solved`` does."""
    assert isinstance(network.head, ClassifyHead)
    network.head.take(torch.from_numpy(solved.weight), torch.from_numpy(solved.bias))


def _look(network: Network, prepared: Prepared, pictures: int | None, end: float) -> tuple[Numbers, Numbers]:
    """Features (n, d) and labels (n,) of the first training pictures: in the order of their digests, so at random."""
    indices = prepared.indices("train")[: pictures or MOST]
    features, labels = [], []
    for start in range(0, len(indices), _AT_ONCE):
        found = answer(network, prepared.subset(indices[start : start + _AT_ONCE]))
        features.append(found.pooled.numpy())
        labels.append(found.labels.numpy())
        if pictures is None and time.monotonic() > end:
            break
    return np.concatenate(features), np.concatenate(labels)


def _worth(said: Numbers, labels: Numbers) -> tuple[float, float]:
    return right(said, labels), -log_loss(said, labels)
