"""All that ships: preprocessing constants, backbone and head in one module, built from one config.

Knows nothing of data sets, losses or training. Pixels go in; normalisation happens here and nowhere else.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from vitreous import models
from vitreous.config import canonical, must_be
from vitreous.errors import UsageError
from vitreous.heads.classify import ClassifyHead
from vitreous.layers.pack import pack
from vitreous.models.backbone import Backbone
from vitreous.store.tensors import require_finite, write_tensors
from vitreous.types import Features

_OPTIMISED = "An optimised network, whose norms are folded away,"

NOTE = "vitreous"  # among what a safetensors file says beside its tensors: the config of the network they are of

MOST = 2**31 - 1  # classes, and pixels of a side; torch counts no further everywhere

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Which network: a name from the catalogue and what is chosen beside it."""

    model: str
    classes: int
    size: int  # side of the square pictures it is built for
    mean: tuple[float, ...] = IMAGENET_MEAN  # of the pixels in [0, 1], a channel: as many as pictures have
    std: tuple[float, ...] = IMAGENET_STD
    drop_path: float = 0.0
    dropout: float = 0.0  # before the classifier
    options: dict[str, Any] = field(default_factory=dict)  # fields of the family's config, such as pool

    def __post_init__(self) -> None:
        must_be(str, model=self.model)
        must_be(Integral, classes=self.classes, size=self.size)
        must_be(Real, drop_path=self.drop_path, dropout=self.dropout)
        must_be(Mapping, options=self.options)
        if max(self.classes, self.size) > MOST:
            raise UsageError(f"No network has {max(self.classes, self.size)} classes or pixels a side; take fewer.")
        if self.classes < 1:
            raise UsageError(f"A network needs at least 1 class, not {self.classes}.")
        if self.size < 1:
            raise UsageError(f"Pictures have a size of at least 1 pixel, not {self.size}.")
        for name in ("drop_path", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} lies in [0, 1), not {getattr(self, name)}.")
        if not self.mean or len(self.mean) != len(self.std):
            raise UsageError(f"mean {self.mean} and std {self.std} must have one number a channel each.")
        if min(self.std) <= 0:
            raise UsageError(f"std must be positive, not {self.std}.")

    def note(self) -> dict[str, str]:
        """What a file of our own says beside its tensors: the network that they are of, which shapes do not show."""
        return {NOTE: canonical(self)}


class Network(nn.Module):
    """Pixels -> logits. The buffers ``mean`` and ``std`` travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(config.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(config.std).view(1, -1, 1, 1))
        self.backbone = backbone
        self.head = head

    def forward(self, image: Tensor) -> Tensor:
        """(b, c, h, w) uint8, or float in [0, 1] -> logits (b, k)"""
        logits: Tensor = self.head(self.features(image))
        return logits

    def features(self, image: Tensor) -> Features:
        """(b, c, h, w) uint8, or float in [0, 1] -> what the backbone sees in it."""
        features: Features = self.backbone(self.normalise(image))
        return features

    def normalise(self, image: Tensor) -> Tensor:
        """(b, c, h, w) uint8, or float in [0, 1] -> the same with mean 0 and deviation 1, in the backbone's layout.

        Floats are not held against [0, 1]: that would read every pixel once more, and make an accelerator wait. So
        floats up to 255, or pixels that are normalised already, give an answer that means nothing.

        Raises:
            UsageError: other shapes or types of number.
        """
        channels = len(self.config.mean)
        if not isinstance(image, Tensor):
            raise UsageError(f"A batch of pictures is a torch tensor, not {type(image).__name__}; make it one.")
        if image.ndim != 4 or image.shape[1] != channels:
            shape = tuple(image.shape)
            raise UsageError(f"A batch of pictures is (b, {channels}, h, w) here, not {shape}; add or move an axis.")
        if image.shape[2] == 0 or image.shape[3] == 0:
            raise UsageError(f"Pictures of {image.shape[2]} x {image.shape[3]} pixels are empty; leave them out.")
        if image.dtype == torch.uint8:
            scale = 1 / 255
        elif image.is_floating_point():
            scale = 1.0
        else:
            raise UsageError(f"Pixels are uint8 or float in [0, 1], not {image.dtype}; convert them.")
        x = image.to(self.mean.dtype, memory_format=self.backbone.layout)
        return torch.addcmul(-self.mean / self.std, x, scale / self.std)  # (b, c, h, w)

    def pixels(self, image: Tensor) -> Tensor:
        """The inverse of ``normalise``: (b, c, h, w) -> the same in [0, 1], what lies outside cut off."""
        return torch.addcmul(self.mean, image, self.std).clamp(0, 1)

    def optimise(self) -> Network:
        """A copy of this network that answers faster on CPUs, for inference alone: it can neither be trained nor saved.

        Norms and scales are folded into the layers before them, activations are computed within those, and convolutions
        work channels last (``layers.pack``). Logits differ from this network's by less than 1e-4 of the largest; any
        batch and any size of picture may follow. Convert the copy, not the original, to bfloat16.
        """
        return Optimised(self)

    def save(self, file: str | Path) -> None:
        """Write weights, preprocessing and config as one safetensors file, whole or not at all.

        ``vitreous.create(model, weights=file)`` gives this network again.

        Raises:
            UsageError: another suffix than .safetensors, or no folder for it.
            DamagedFile: a weight is not a finite number; nothing is written.
            NoSpace: the disk is full.
        """
        place = Path(file)
        if place.suffix != ".safetensors":
            raise UsageError(f"Weights are saved as safetensors, so {place} must be called {place.stem}.safetensors.")
        if not place.parent.is_dir() or place.is_dir():
            raise UsageError(f"{place} is no place for a file; name one in a folder that exists.")
        tensors = self.state_dict()
        require_finite(tensors, "This network")
        write_tensors(place, tensors, self.config.note())

    def groups(self) -> list[list[str]]:
        """Names of all parameters, one list a depth from the stem to the head: what layer decay goes by."""
        head = [f"head.{name}" for name, _ in self.head.named_parameters()]
        return [[f"backbone.{name}" for name in group] for group in self.backbone.groups()] + [head]


class Optimised(Network):
    """What ``Network.optimise`` gives. The network it was made from keeps its weights."""

    def __init__(self, network: Network) -> None:
        backbone, head = copy.deepcopy(network.backbone), copy.deepcopy(network.head)
        super().__init__(network.config, backbone, head)
        self.mean, self.std = network.mean.clone(), network.std.clone()
        self.requires_grad_(False).eval()
        self.to(memory_format=backbone.layout)  # type: ignore[call-overload]  # torch's stubs lack this form
        pack(self)
        self.backbone.packed = True

    def optimise(self) -> Network:
        """This network: it is already."""
        return self

    def train(self, mode: bool = True) -> Optimised:
        """Evaluation mode only.

        Raises:
            UsageError: training mode is asked for.
        """
        if mode:
            raise UsageError(f"{_OPTIMISED} cannot be trained; train the network it was made from.")
        super().train(False)
        return self

    def __copy__(self) -> Optimised:
        """Another optimised network of the same parts."""
        other = self.__new__(type(self))
        other.__dict__ = dict(self.__dict__)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Optimised:
        """Another optimised network; without this, copying would go through what refuses to be saved."""
        other = memo[id(self)] = self.__new__(type(self))
        other.__dict__ = copy.deepcopy(self.__dict__, memo)
        return other

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Nothing, for ``pickle`` and ``torch.save``.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{_OPTIMISED} cannot be saved; save the network it was made from.")

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{_OPTIMISED} cannot be saved; save the network it was made from.")

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{_OPTIMISED} takes no weights; load them into a network first, then optimise that.")


def build_network(config: NetworkConfig) -> Network:
    """The network that ``config`` describes, with fresh weights.

    Raises:
        UsageError: an unknown model or option, values that contradict each other, or more than fits into memory.
    """
    try:
        return _built(config)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not re.search("allocate|out of memory|overflow", str(error)):
            raise
        asked = f"{config.model} for {config.classes} classes and pictures of {config.size} pixels"
        raise UsageError(f"{asked} does not fit into memory; take fewer classes or a smaller size.") from None


def _built(config: NetworkConfig) -> Network:
    backbone = models.create(
        config.model,
        size=config.size,
        channels=len(config.mean),
        drop_path=config.drop_path,
        options=config.options,
    )
    head = ClassifyHead(backbone.width, config.classes, config.dropout, backbone.summaries)
    network = Network(config, backbone, head)
    network.to(memory_format=backbone.layout)  # type: ignore[call-overload]  # torch's stubs lack this form
    return network
