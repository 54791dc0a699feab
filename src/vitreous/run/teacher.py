"""The teacher of a run: where it comes from, what it may say of these pictures, and what it said, kept in a file.

    RUN/teacher/               a run of its own, where the teacher was trained first
        teacher.json           what is known of it: sealed
        teacher.safetensors    its answers to the training pictures, or their mean and deviation

How answers become a loss stands in tasks/distill.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitreous import config as configs
from vitreous import models
from vitreous.data.dataset import Pictures
from vitreous.data.loader import Loader
from vitreous.data.prepare import Prepared
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Evaluate
from vitreous.duration import show
from vitreous.errors import UsageError
from vitreous.network import Network
from vitreous.run.outcome import answer, speed
from vitreous.store.checkpoint import RunFolder
from vitreous.store.sealed import read_sealed, seal
from vitreous.store.tensors import read_tensors, write_tensors
from vitreous.tasks.distill import Answers, DistillConfig
from vitreous.training.device import Device
from vitreous.training.schedule import Plan
from vitreous.types import Batch

if TYPE_CHECKING:
    from vitreous.run.plan import Run

FOLDER, FACTS, ANSWERS = "teacher", "teacher.json", "teacher.safetensors"
SAMPLE = 1024  # pictures that the mean and deviation of features are taken over


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Who teaches, and how.

    Attributes:
        place: a run folder; published weights as ``hub:NAME.TAG@SHA256``; or a model, which is trained first on the
            same pictures, as the run itself is but for ``share`` and the smoothing of labels, which spoils what a
            teacher knows of their likeness (Mueller et al. 2019, section 4).
        sha256: of the weights of a run folder, so that no other teacher takes its place.
        share: of the time budget that a model trained first takes; where the length is one of steps or epochs, so much
            of that, beside the run's own.
        plan: of that training in a finished run, which is thereby repeated.
        view: "same": the teacher answers the very pictures that the network sees, cropped and mixed (Beyer et al. 2022,
            section 3); "whole": it is asked once for each training picture as prediction sees it, averaged with its
            mirror image where training mirrors, and its answers are looked up.

    Raises:
        UsageError: a value outside its range.
    """

    place: str
    sha256: str | None = None
    share: float = 0.4
    plan: Plan | None = None
    view: Literal["same", "whole"] = "same"
    distill: DistillConfig = field(default_factory=DistillConfig)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"teacher.share = {self.share} must be a share between 0 and 1; 0.4 is usual.")
        if self.view == "whole" and self.distill.at == "map":
            raise UsageError("Maps of whole pictures do not lie over crops of them; set teacher.view=same.")

    @property
    def is_model(self) -> bool:
        """Whether the teacher is yet to be trained."""
        return self.place in models.CATALOGUE and not Path(self.place).is_dir()

    def width(self, network: Network) -> int:
        """Of the features of ``network`` that are looked at."""
        return network.backbone.width if self.distill.at == "pooled" else network.backbone.dims[-1]


class Teacher:
    """A frozen network that is asked beside the labels: what ``Distill`` takes. ``study`` comes before any answer.

    Args:
        network: None where its answers are kept already.
        columns: of its logits, in the order of the run's classes; None where its classes are others.
        facts: what the card says of it: its name, and where there is one its licence; and notices for the user.
    """

    def __init__(
        self,
        config: TeacherConfig,
        network: Network | None,
        preprocess: Preprocess,
        columns: Sequence[int] | None,
        facts: dict[str, Any],
    ) -> None:
        self.config = config
        self.preprocess = preprocess
        self.columns = columns
        says = "features" if columns is None else "logits and features"
        self.facts = facts if network is None else {**facts, "says": says, "width": config.width(network)}
        self.tensors: dict[str, Tensor] = {}
        self.network = network
        self._rows = torch.zeros(0, dtype=torch.int64)

    @property
    def width(self) -> int:
        """Of its features."""
        return int(self.facts["width"])

    @property
    def network(self) -> Network | None:
        """In evaluation mode, without gradients."""
        return self._network

    @network.setter
    def network(self, network: Network | None) -> None:
        self._network = None if network is None else network.eval().requires_grad_(False)

    def __call__(self, batch: Batch) -> Answers:
        """What it says of a training batch."""
        place = batch.image.device
        if self._rows.device != place:
            self._rows = self._rows.to(place)
            self.tensors = {name: tensor.to(place) for name, tensor in self.tensors.items()}
        if self.config.view == "whole":
            rows = self._rows[batch.index]
            logits = self.tensors["logits"][rows].float() if "logits" in self.tensors else None
            return Answers(logits, self.tensors["features"][rows].float()[:, :, None, None])
        with torch.no_grad():
            logits, features = self._look(batch.image)
        return Answers(logits, (features - self.tensors["mean"]) / self.tensors["std"])

    def _look(self, image: Tensor) -> tuple[Tensor | None, Tensor]:
        """(logits (b, k), features (b, d, h, w)), both float32, of pictures (b, c, h', w') of any size."""
        assert self.network is not None
        side = self.preprocess.size
        if image.shape[-1] != side:
            image = F.interpolate(image.float() / 255, (side, side), mode="bilinear", antialias=True)
        found = self.network.features(image)
        features = found.maps[-1] if self.config.distill.at == "map" else found.pooled[:, :, None, None]
        logits = None if self.columns is None else self.network.head(found).float()[:, self.columns]
        return logits, features.float()

    # ------------------------------------------------------------ before the first batch

    def require_time(self, run: Run, prepared: Prepared, device: Device, seconds: float) -> None:
        """Refuse to look at all training pictures where that takes most of the ``seconds`` that are left.

        Raises:
            UsageError: names what would do.
        """
        if self.network is None or self.config.view != "whole" or seconds == float("inf"):
            return
        left = seconds * (1 - self.config.share) if self.config.is_model else seconds
        views = len(prepared.train) * (2 if run.task.augment.flip > 0 else 1)
        needed = device.agree(views / speed(self.network.to(device.place), batch=8, repeats=3))
        if needed > left / 2:
            raise UsageError(
                f"To ask the teacher once about each training picture takes about {show(needed)} of the {show(left)} "
                "that are left of the budget; give a longer --budget, a smaller teacher, or teacher.view=same."
            )

    def study(self, run: Run, prepared: Prepared, folder: RunFolder, device: Device, spent: float = 0.0) -> None:
        """Look at the training pictures once, or recall what was kept of that; the first process writes.

        Args:
            spent: seconds that training the teacher has taken.
        """
        if device.is_first and not is_kept(folder, self.config, prepared):
            assert self.network is not None
            self.network.to(device.place)
            begin = time.monotonic()
            tensors = self._observe(run, prepared, device)
            known = {
                **self.facts,
                "accuracy": self.facts["accuracy"] if "accuracy" in self.facts else self._accuracy(prepared),
                "seconds": spent + time.monotonic() - begin,
                "pictures": prepared.digests["train"],
                "config": configs.to_dict(replace(self.config, plan=None)),
                "files": {ANSWERS: write_tensors(folder.path / ANSWERS, tensors)},
            }
            folder.write(FACTS, seal(known))
        device.barrier()
        if self.network is not None:
            self.network.to(device.place)
        self.facts = read_sealed(folder.path / FACTS)
        self.tensors = read_tensors(folder.path / ANSWERS, self.facts["files"][ANSWERS]["sha256"])
        # rows are in the order of the pictures' digests: numbers in the source change with what else lies there
        self._rows = torch.full((len(prepared.source),), -1)
        self._rows[torch.from_numpy(prepared.indices("train"))] = torch.arange(len(prepared.indices("train")))

    @torch.inference_mode()
    def _observe(self, run: Run, prepared: Prepared, device: Device) -> dict[str, Tensor]:
        whole = self.config.view == "whole"
        # mean and deviation need no more; the order of indices is that of digests, so the first are drawn at random
        most = None if whole else SAMPLE
        pictures = _pictures(prepared, prepared.indices("train")[:most], self.preprocess)
        loader = Loader(pictures, Evaluate(self.preprocess), batch=64, train=False, workers=run.workers)
        logits, features, count = [], [], 0
        total = square = torch.zeros(self.width, dtype=torch.float64)
        for batch in loader.evaluate():
            image = batch.image.to(device.place)
            views = [image, image.flip(-1)] if whole and run.task.augment.flip > 0 else [image]
            said, seen = zip(*(self._look(view) for view in views), strict=True)
            grid = torch.stack(seen).mean(0).cpu()  # (b, d, h, w)
            cells = grid.double().flatten(2)
            count += cells[:, 0].numel()
            total, square = total + cells.sum((0, 2)), square + (cells**2).sum((0, 2))
            if whole:
                features.append(grid[:, :, 0, 0])
                logits += [] if self.columns is None else [torch.stack(said).mean(0).cpu().half()]
        mean = total / count
        std = (square / count - mean**2).clamp(min=0).sqrt().clamp(min=1e-6)
        if not whole:
            return {"mean": mean.float()[:, None, None], "std": std.float()[:, None, None]}
        kept = {"features": ((torch.cat(features) - mean) / std).half()}
        return kept | ({"logits": torch.cat(logits)} if logits else {})

    def told(self, seconds: float) -> dict[str, Any]:
        """What the card of a run that took ``seconds`` says of it."""
        facts = {name: self.facts.get(name) for name in ("name", "says", "accuracy", "licence")}
        took = float(self.facts["seconds"])
        values = {**facts, "minutes": took / 60, "share_of_time": took / max(seconds, 1e-9)}
        values["settings"] = configs.to_dict(self.config)
        return {name: value for name, value in values.items() if value is not None}

    def _accuracy(self, prepared: Prepared) -> float | None:
        """On validation; None where there is none, or its classes are others."""
        pictures = _pictures(prepared, prepared.indices("val"), self.preprocess)
        if self.columns is None or self.network is None or not len(pictures):
            return None
        guess = answer(self.network, pictures).logits[:, self.columns].argmax(1)
        return float((guess.numpy() == pictures.labels).mean())


def is_kept(folder: RunFolder, config: TeacherConfig, prepared: Prepared) -> bool:
    """Whether what ``config`` says of these very pictures is in ``folder``."""
    if not (folder.path / FACTS).exists():
        return False
    facts = read_sealed(folder.path / FACTS)
    same = facts["config"] == configs.to_dict(replace(config, plan=None))
    return bool(same and facts["pictures"] == prepared.digests["train"])


def _pictures(prepared: Prepared, indices: NDArray[np.int64], preprocess: Preprocess) -> Pictures:
    """Some pictures as a teacher with ``preprocess`` sees them."""
    if preprocess == prepared.config.preprocess:
        return prepared.subset(indices)
    return Pictures(prepared.source, indices, preprocess)


def earlier(folder: RunFolder) -> float:
    """Seconds that earlier sessions have spent on the teacher of the run in ``folder``."""
    own = RunFolder(folder.path / FOLDER)
    if (folder.path / FACTS).exists():
        return float(read_sealed(folder.path / FACTS)["seconds"])
    if own.is_sealed():
        return float(own.load_card()["cost"]["minutes"]) * 60
    checkpoint = own.latest(fallback=True) if own.steps() else None
    return 0.0 if checkpoint is None else float(checkpoint.facts["seconds"])
