"""Pictures in, answers out: a trained network with the preprocessing it was trained with.

Knows nothing of training. Unreadable pictures are answered with their reason instead of stopping the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitreous import config
from vitreous.analyse.conformal import conformity, prediction_sets, threshold
from vitreous.analyse.familiar import Familiar
from vitreous.data.given import Picture, Seen, files, is_named, look_at
from vitreous.data.image import is_opened
from vitreous.data.preprocess import Preprocess
from vitreous.errors import UnreadableImage, UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.results import Classes
from vitreous.store.checkpoint import OUTPUTS, REFERENCE, RunFolder
from vitreous.store.tensors import read_tensors
from vitreous.types import Features


class Predictor:
    """A trained run, ready to answer.

    Args:
        network: in eval mode.
        preprocess: what was declared at training; applied here unchanged.
        classes: names, in the order of the logits.
        temperature: the logits are divided by it before the softmax (Guo et al. 2017, section 4.2).
        card: what the run folder says of itself.
        folder: where the run lies, if it lies anywhere.
    """

    def __init__(
        self,
        network: Network,
        preprocess: Preprocess,
        classes: Sequence[str],
        *,
        temperature: float = 1.0,
        card: dict[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.network = network.eval()
        self.preprocess = preprocess
        self.classes = tuple(classes)
        self.temperature = temperature
        self.card = card or {}
        self.folder = folder

    @classmethod
    def load(cls, folder: str | Path) -> Predictor:
        """Open a finished run folder, after checking every file in it against its hash.

        Raises:
            DamagedFile: a file is not what was saved.
            UsageError: not a run folder, or one whose training has not finished.
        """
        run = RunFolder.open(folder)
        run.verify()
        card = run.load_card()
        network = build_network(config.from_dict(NetworkConfig, card["network"]["config"]))
        run.load_weights(network)
        return cls(
            network,
            config.from_dict(Preprocess, card["preprocess"]),
            card["data"]["classes"],
            temperature=card["calibration"]["temperature"],
            card=card,
            folder=Path(folder),
        )

    def __repr__(self) -> str:
        measured = self.metrics.get("accuracy")
        said = f"{len(self.classes) or 'no'} classes"
        said += "" if measured is None else f", accuracy {100 * measured:.1f} %"
        return f"<{self.network.config.model} for {said}{f', in {self.folder}' if self.folder else ''}>"

    @property
    def metrics(self) -> dict[str, Any]:
        """The measured test metrics, or those of validation when there was no test split."""
        measured: dict[str, dict[str, Any]] = self.card.get("metrics", {})
        return measured.get("test") or measured.get("val") or {}

    def predict(
        self, pictures: Picture | Sequence[Picture], *, batch: int = 32, coverage: float | None = None
    ) -> Classes | list[Classes]:
        """Classify one picture, or several.

        Args:
            pictures: a file, the bytes of one, a pair of its name and these bytes, uint8 pixels (h, w[, 3]), a Pillow
                image, a list of these; or the name of a folder, or a glob pattern, which give a list. Any other tuple
                is a list.
            batch: pictures that go through the network at once.
            coverage: also name the classes among which the right one is, with at least this probability over pictures
                like those of validation (split conformal prediction: ``vitreous.analyse.conformal``).

        Returns:
            One answer for one picture, else a list in the order of the pictures.

        Raises:
            BadData: nothing matches.
            UsageError: ``batch`` is less than 1, or the run cannot give that coverage.
            UnreadableImage: the one picture asked for cannot be decoded; in a list it is answered with its ``error``.
        """
        if isinstance(pictures, (str, Path)):
            found = files(pictures)
            if found != [Path(pictures)]:
                return list(self.stream(found, batch=batch, coverage=coverage))
        if isinstance(pictures, (str, Path, bytes, np.ndarray)) or is_named(pictures) or is_opened(pictures):
            (answer,) = self.stream([pictures], batch=min(batch, 1), coverage=coverage)
            if answer.error is not None:
                raise UnreadableImage(f"{answer.name}: {answer.error}")
            return answer
        return list(self.stream(pictures, batch=batch, coverage=coverage))

    def stream(
        self, pictures: Iterable[Picture], *, batch: int = 32, coverage: float | None = None
    ) -> Iterator[Classes]:
        """Answers one after another in the order of ``pictures``; memory does not grow with their number.

        Raises:
            UsageError: ``batch`` is less than 1, or the run cannot give that coverage.
        """
        if batch < 1:
            raise UsageError(f"A batch of {batch} pictures answers nothing; give 1 or more.")
        self.require_classes()
        lowest = None if coverage is None else self.threshold(coverage)
        with ThreadPoolExecutor(max_workers=2) as pool:
            todo = iter(pictures)
            ahead = [pool.submit(look_at, p, self.preprocess) for p in islice(todo, batch)]
            while ahead:
                ready = [future.result() for future in ahead]
                # the next batch is decoded while this one is in the network
                ahead = [pool.submit(look_at, p, self.preprocess) for p in islice(todo, batch)]
                yield from self._answer(ready, lowest)

    def require_classes(self) -> None:
        """Refuse a run that has learned without any label.

        Raises:
            UsageError: it has no classifier; says what to do.
        """
        if not self.classes:
            raise UsageError(
                f"{self.folder or 'This run'} has learned without labels and has no classifier; give it one with "
                f"vitreous train LABELLED-PICTURES --weights {self.folder or 'RUN'}."
            )

    def probabilities(self, image: Tensor) -> Tensor:
        """(b, 3, size, size) uint8, preprocessed -> calibrated probabilities (b, k) float32."""
        return self._look(image)[0]

    def threshold(self, coverage: float) -> float:
        """The probability from which on a class is named, for the right one to be named with this probability.

        Raises:
            UsageError: the run has too few validation pictures for it, or none; says how many it takes.
            DamagedFile: its answers on validation are not what was written.
        """
        return threshold(self._conformity, coverage)

    @cached_property
    def familiar(self) -> Familiar | None:
        """What tells strange pictures; None for a run that kept nothing of the kind."""
        kept = self._kept(REFERENCE)
        if kept is None:
            return None
        features, distances = kept["features"].numpy(), kept["distances"].numpy()
        return Familiar(features, distances, int(kept["neighbours"]))

    @cached_property
    def _conformity(self) -> np.ndarray:
        kept = self._kept(OUTPUTS) or {}
        if "val_logits" not in kept:
            return np.zeros(0)
        chances = torch.softmax(kept["val_logits"] / self.temperature, dim=1)
        return conformity(chances.numpy(), kept["val_labels"].numpy())

    def detach(self) -> None:
        """Read what answers still need of the run folder, which may then go."""
        _ = self.familiar, self._conformity
        self.folder = None

    def _kept(self, name: str) -> dict[str, Tensor] | None:
        """The tensors of a file that the card vouches for; None if it names no such file."""
        file = self.card.get("files", {}).get(name)
        if file is None or self.folder is None:
            return None
        return read_tensors(self.folder / name, file["sha256"])

    def _look(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(b, 3, size, size) uint8 -> probabilities (b, k) and ``levels`` (b, d), float32, of one pass."""
        with torch.inference_mode():
            features = self._optimised.features(image)
            logits = self._optimised.head(features).float()
            return torch.softmax(logits / self.temperature, dim=1), levels(features)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled; the network is optimised anew where it answers."""
        return {key: value for key, value in self.__dict__.items() if key != "_optimised"}

    @cached_property
    def _optimised(self) -> Network:
        """What answers; measuring a run (``run.outcome.answer``) uses the same form of it."""
        return self.network.optimise()

    def _answer(self, ready: list[Seen], lowest: float | None) -> Iterator[Classes]:
        images = [pixels for _, pixels, _, _ in ready if pixels is not None]
        told = iter(self._tell(torch.stack(images), lowest) if images else ())
        for name, pixels, error, notices in ready:
            found = {} if pixels is None else next(told)
            yield Classes(name=name, classes=self.classes, error=error, notices=notices, **found)

    def _tell(self, image: Tensor, lowest: float | None) -> Iterator[dict[str, Any]]:
        """What is said of each picture of a batch, as fields of ``Classes``."""
        chances, features = (x.numpy() for x in self._look(image))
        strange = self.familiar.unfamiliar(features).tolist() if self.familiar else [None] * len(chances)
        sets = None if lowest is None else prediction_sets(chances, lowest)
        for i, row in enumerate(chances):
            held = None
            if sets is not None:
                order = np.argsort(-row, kind="stable")
                held = tuple(self.classes[j] for j in order if sets[i, j])
            yield {"probabilities": row, "covering": held, "unfamiliar": strange[i]}


def levels(features: Features) -> Tensor:
    """(b, d) float32: what each level of the network saw on average, by which strange pictures are told.

    The mean of every map, with the pooled vector in place of the last, each of unit length. The last alone, of which a
    network keeps what tells its classes apart, can look familiar where the others do not (Lee, Lee, Lee and Shin 2018,
    "A Simple Unified Framework for Detecting Out-of-Distribution Samples", section 2.2).
    """
    means = [level.float().mean(dim=(2, 3)) for level in features.maps[:-1]]
    return torch.cat([functional.normalize(part, dim=1) for part in (*means, features.pooled.float())], dim=1)
