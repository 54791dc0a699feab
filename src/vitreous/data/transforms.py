"""From samples to a batch: the declared preprocessing, or a random view of it for training.

The crop is cut and resized picture by picture, on uint8 through torch's antialiased kernel; everything after it
works on the whole batch. Image and mask move together. Knows nothing of how the random numbers are seeded
(data/loader.py), of mixing pictures (data/mix.py) or of any task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vitreous.data.augment import IGNORE, apply
from vitreous.data.policy import Policy, randaugment, three_augment, trivialaugment
from vitreous.data.preprocess import Preprocess, fit
from vitreous.errors import UsageError
from vitreous.types import Batch, Sample

PolicyName = Literal["none", "randaugment", "trivial", "three"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)


class Transform(Protocol):
    """How samples become a batch."""

    def __call__(self, samples: Sequence[Sample], rng: Sequence[np.random.Generator]) -> Batch:
        """One batch, in the order of ``samples``.

        Args:
            samples: decoded pictures of any size.
            rng: ``rng[i]`` belongs to ``samples[i]`` alone, so that a view never depends on its batch mates.
        """
        ...


class Evaluate(Transform):
    """The declared preprocessing and nothing random: what evaluation, prediction and serving see."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(self, samples: Sequence[Sample], rng: Sequence[np.random.Generator]) -> Batch:
        """``fit`` of each picture: image (b, 3, size, size) uint8, mask (b, size, size) int64 if there is one."""
        image = torch.stack([fit(sample.image, self.preprocess) for sample in samples])
        masks = [fit_mask(sample.mask, self.preprocess) for sample in samples if sample.mask is not None]
        return _batch(samples, image, torch.stack(masks) if masks else None)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Which random views training sees.

    Raises:
        UsageError: a value outside its range.
    """

    crop_scale: tuple[float, float] = (0.35, 1.0)  # share of the picture's area that a crop keeps
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width over height of a crop, before it is made square
    pad: int = 0  # above 0: the fitted picture is padded by so much and cut at a random place instead
    flip: float = 0.5  # probability of a left-right mirror image
    policy: PolicyName = "none"
    magnitude: float = 9.0  # of randaugment, 0..10
    num_ops: int = 2  # of randaugment: operations a picture
    erase: float = 0.0  # probability that a random rectangle is replaced by noise
    off_after: float = 1.0  # share of training after which policy and erasing end; crops and mirror images stay

    def __post_init__(self) -> None:
        smallest, largest = self.crop_scale
        narrowest, widest = self.crop_ratio
        checks = {
            "crop_scale": (0 < smallest <= largest <= 1, "two shares in order, such as 0.35,1.0"),
            "crop_ratio": (0 < narrowest <= widest, "two ratios in order, such as 0.75,1.33"),
            "pad": (self.pad >= 0, "0 or more pixels"),
            "flip": (0 <= self.flip <= 1, "a probability from 0 to 1"),
            "policy": (self.policy in POLICIES, f"one of {', '.join(POLICIES)}"),
            "magnitude": (0 <= self.magnitude <= 10, "a number from 0 to 10"),
            "num_ops": (self.num_ops >= 1, "1 or more (or choose policy none)"),
            "erase": (0 <= self.erase <= 1, "a probability from 0 to 1"),
            "off_after": (0 <= self.off_after <= 1, "a share from 0 to 1"),
        }
        for name, (fine, wanted) in checks.items():
            if not fine:
                raise UsageError(f"Augmentation {name} = {getattr(self, name)} cannot be; give {wanted}.")

    def at(self, done: float) -> AugmentConfig:
        """What is left of it when a share ``done`` of training is over."""
        return self if done < self.off_after else replace(self, policy="none", erase=0.0)


class Augment(Transform):
    """Random crop, mirror image, a policy of operations, and erasing, in this order.

    The random crop takes the place of the declared step from stored pixels to the square. Where that step shows a
    picture whole (``letterbox``, ``squash``), the crop is cut from what it makes of the picture, at the stored size:
    out of an elongated picture itself only its middle could be cut. Padding and exposed corners take the declared
    ``fill``. Masks follow every movement by nearest neighbour. Where a mask's pixel shows
    nothing of the picture (padding, exposed corners, erased rectangles) it becomes ``IGNORE``.
    """

    def __init__(self, config: AugmentConfig, preprocess: Preprocess) -> None:
        self.config = config
        self.preprocess = preprocess
        self._whole = replace(preprocess, size=max(preprocess.size, preprocess.store))
        self._policy = _policy(config, preprocess.size)

    def __call__(self, samples: Sequence[Sample], rng: Sequence[np.random.Generator]) -> Batch:
        """A random view of each picture: image (b, 3, size, size) uint8, mask (b, size, size) int64 if there is one."""
        side = self.preprocess.size
        image = torch.empty((len(samples), 3, side, side), dtype=torch.uint8)
        mask = None if samples[0].mask is None else torch.empty((len(samples), side, side), dtype=torch.uint8)
        for i, (sample, random) in enumerate(zip(samples, rng, strict=True)):
            view, labels = self._crop(sample, random)
            mirrored = random.random() < self.config.flip
            image[i] = view.flip(-1) if mirrored else view
            if mask is not None:
                assert labels is not None, "either every sample of a data set has a mask or none"
                mask[i] = labels.flip(-1) if mirrored else labels
        if self._policy is not None:
            apply(image, mask, [self._policy(random) for random in rng], self.preprocess.fill)
        if self.config.erase > 0:
            for i, random in enumerate(rng):
                erase(image[i], None if mask is None else mask[i], self.config.erase, random)
        return _batch(samples, image, mask)

    def _crop(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        side, pad = self.preprocess.size, self.config.pad
        if pad == 0:
            image, mask = self._uncropped(sample)
            box = random_box(image.shape[-2], image.shape[-1], self.config, rng)
            return resize(box.of(image), side), None if mask is None else _nearest(box.of(mask), side, side)
        top, left = rng.integers(2 * pad + 1, size=2)
        box = Box(int(top), int(left), side, side)
        view = F.pad(fit(sample.image, self.preprocess), (pad,) * 4, value=self.preprocess.fill)
        if sample.mask is None:
            return box.of(view), None
        return box.of(view), box.of(F.pad(fit_mask(sample.mask, self.preprocess), (pad,) * 4, value=IGNORE))

    def _uncropped(self, sample: Sample) -> tuple[Tensor, Tensor | None]:
        """What random boxes are cut from."""
        if self.preprocess.policy == "crop":
            return sample.image, sample.mask
        return fit(sample.image, self._whole), None if sample.mask is None else fit_mask(sample.mask, self._whole)


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: Tensor) -> Tensor:
        """The view (..., height, width) of ``pixels`` (..., h, w)."""
        return pixels[..., self.top : self.top + self.height, self.left : self.left + self.width]


def fit_mask(mask: Tensor, preprocess: Preprocess) -> Tensor:
    """What ``preprocess.fit`` does to the picture, by nearest neighbour: (h, w) uint8 -> (size, size) uint8.

    Letterbox bars become ``IGNORE``.
    """
    size = preprocess.size
    height, width = mask.shape
    if preprocess.policy == "squash":
        return _nearest(mask, size, size)
    if preprocess.policy == "letterbox":
        scale = size / max(height, width)
        inner = _nearest(mask, max(1, round(height * scale)), max(1, round(width * scale)))
        box = Box((size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2, inner.shape[0], inner.shape[1])
        canvas = torch.full((size, size), IGNORE, dtype=torch.uint8)
        box.of(canvas).copy_(inner)
        return canvas
    side = max(1, round(min(height, width) * preprocess.crop))
    return _nearest(Box((height - side) // 2, (width - side) // 2, side, side).of(mask), size, size)


def random_box(height: int, width: int, config: AugmentConfig, rng: np.random.Generator) -> Box:
    """A random crop of uniform area and log-uniform shape (Szegedy et al. 2015, section 6).

    A shape that does not fit is drawn again; after ten attempts the largest centred crop of an allowed shape is taken.
    """
    narrowest, widest = config.crop_ratio
    for _ in range(10):
        area = height * width * rng.uniform(config.crop_scale[0], config.crop_scale[1])
        ratio = math.exp(rng.uniform(math.log(narrowest), math.log(widest)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
    w, h = min(width, max(1, round(height * widest))), min(height, max(1, round(width / narrowest)))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def erase(image: Tensor, mask: Tensor | None, probability: float, rng: np.random.Generator) -> None:
    """Random erasing (Zhong et al. 2017, section 3.2), in place: a rectangle becomes noise, its mask ``IGNORE``.

    Area 2 to 40 % of the picture, aspect ratio 0.3 to 3.3: the paper's settings.

    Args:
        image: (3, h, w) uint8.
        mask: (h, w) uint8, or None.
    """
    if rng.random() >= probability:
        return
    height, width = image.shape[-2:]
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 0.4)
        ratio = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w < width and 0 < h < height:
            box = Box(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
            box.of(image).copy_(torch.from_numpy(rng.integers(256, size=(3, h, w), dtype=np.uint8)))
            if mask is not None:
                box.of(mask).fill_(IGNORE)
            return


def _policy(config: AugmentConfig, side: int) -> Policy | None:
    match config.policy:
        case "randaugment":
            return randaugment(config.num_ops, config.magnitude)
        case "trivial":
            return trivialaugment(side)
        case "three":
            return three_augment
        case "none":
            return None


def resize(pixels: Tensor, side: int) -> Tensor:
    """(3, h, w) uint8 -> (3, side, side) uint8, bilinear and antialiased, in torch's integer kernel."""
    if pixels.stride(0) != 1:  # a cut-out of planes: the kernel reads rows of a compact copy a fifth faster
        pixels = pixels.contiguous()
    return F.interpolate(pixels[None], (side, side), mode="bilinear", antialias=True)[0]


def _nearest(mask: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(mask[None, None], (height, width), mode="nearest-exact")[0, 0]


def _batch(samples: Sequence[Sample], image: Tensor, mask: Tensor | None) -> Batch:
    label = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
    index = torch.tensor([sample.index for sample in samples], dtype=torch.int64)
    return Batch(image, label, index, mask=None if mask is None else mask.long())
