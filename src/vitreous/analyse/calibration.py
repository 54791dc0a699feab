"""How far a confidence can be believed: temperature scaling, calibration error, reliability bins.

Guo et al. 2017, "On Calibration of Modern Neural Networks": sections 2 (reliability, ECE) and 4.2 (temperature).
Knows logits and labels; nothing of classes' names or of pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[Any]

COLDEST, HOTTEST = 0.01, 100.0
"""Temperatures outside of this range say nothing more: answers are already certain, or already uniform."""


def log_softmax(logits: Numbers, temperature: float = 1.0) -> Floats:
    """Log-probabilities of ``logits / temperature``, in double precision.

    Args:
        logits: (n, k), finite.
        temperature: above 0; larger is less certain.

    Returns:
        (n, k)

    Raises:
        ValueError: the logits are not a finite matrix, or the temperature is not above 0.
    """
    scaled = np.asarray(logits, dtype=np.float64)
    if scaled.ndim != 2 or not np.isfinite(scaled).all():
        raise ValueError(f"logits must be a finite matrix (n, k); this one has shape {scaled.shape}.")
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}.")
    scaled = scaled / temperature
    scaled -= scaled.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)), dtype=np.float64)


def softmax(logits: Numbers, temperature: float = 1.0) -> Floats:
    """Probabilities of ``logits / temperature``: (n, k), rows sum to 1."""
    return np.asarray(np.exp(log_softmax(logits, temperature)), dtype=np.float64)


def log_loss(logits: Numbers, labels: Numbers, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of ``labels`` (n,), in nats; 0 for no pictures."""
    if not len(labels):
        return 0.0
    return float(-log_softmax(logits, temperature)[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: Numbers, labels: Numbers) -> float:
    """The one number that, dividing the logits, makes held-out labels most likely (Guo et al. 2017, section 4.2).

    The loss is convex in the inverse temperature, so its slope crosses zero at most once and bisection finds it.
    One imagined picture, whose label is equally likely to be any class, is spread over the set (the rule of
    succession): without it a small set on which every answer is right would ask for infinite confidence. Its weight
    is 1 in n + 1 and vanishes with more pictures.

    Args:
        logits: (n, k) of pictures that were not trained on.
        labels: (n,) class indices.

    Returns:
        The temperature, within [0.01, 100]; 1.0 when the pictures cannot tell (none, or all logits equal).
    """
    z = np.asarray(logits, dtype=np.float64)
    n, k = z.shape
    if n == 0 or k < 2 or np.ptp(z, axis=1).max() < 1e-12:
        return 1.0
    z = z - z.mean(axis=1, keepdims=True)  # the uniform picture's logit is then 0
    wanted = float(z[np.arange(n), labels].mean()) * n / (n + 1)

    def slope(log_inverse: float) -> float:
        expected = (softmax(z, float(np.exp(-log_inverse))) * z).sum(axis=1).mean()
        return float(expected - wanted)

    low, high = -float(np.log(HOTTEST)), -float(np.log(COLDEST))
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The pictures whose confidence lies in ``(low, high]``."""

    low: float
    high: float
    count: int
    correct: int
    confidence: float  # mean confidence; the middle of the bin when it is empty

    @property
    def accuracy(self) -> float | None:
        """Share that was right, or None in an empty bin."""
        return self.correct / self.count if self.count else None


def reliability(probabilities: Numbers, labels: Numbers, bins: int = 15) -> list[Bin]:
    """Pictures grouped by the confidence of their answer, in ``bins`` equally wide bins over [0, 1].

    Args:
        probabilities: (n, k), rows sum to 1.
        labels: (n,)
        bins: how many.
    """
    confidence = probabilities.max(axis=1, initial=0.0).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    correct = np.bincount(place, weights=right, minlength=bins)
    total = np.bincount(place, weights=confidence, minlength=bins)
    mean = np.where(count > 0, total / np.maximum(count, 1), (edges[:-1] + edges[1:]) / 2)
    return [
        Bin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(count[i]),
            correct=int(correct[i]),
            confidence=float(mean[i]),
        )
        for i in range(bins)
    ]


def expected_calibration_error(probabilities: Numbers, labels: Numbers, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy, weighted by the bins' counts (Guo et al. 2017, eq. 3); in [0, 1]."""
    groups = [b for b in reliability(probabilities, labels, bins) if b.count]
    total = sum(b.count for b in groups)
    return sum(abs(b.correct - b.count * b.confidence) for b in groups) / total if total else 0.0
