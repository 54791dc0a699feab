"""The ledger of published weights: whose they are, what they may be used for, how pictures must be prepared for them.

A table that can be read. Files are timm's on the Hugging Face hub, ``timm/NAME.TAG``, and tags are timm's; the first of
a name is its default. A licence is the one that timm states for the file, checked against timm 1.0.31 by
bench/ledger.py; where the original release says something else, or nothing, the note does. Accuracies are timm's own
measurements on ImageNet-1k validation, at the size and crop of the row. Importing this file imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from vitreous import models
from vitreous.errors import UsageError
from vitreous.models.costs import Cost, costs

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
UNIT = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
MOST = 384  # pixels; larger pictures than these are not looked at without being asked for
RESTRICTED = {
    "CC-BY-NC-4.0": "not for commercial use",
    "Apple-CVNets": "Apple's own terms, which grant no patents",
}


@dataclass(frozen=True)
class Weights:
    """One file of weights of one model."""

    tag: str
    top1: float | None  # per cent on ImageNet-1k validation; None without a classifier for it
    size: int  # side of the square picture, pixels
    crop: float  # share of the picture's side that the crop in its centre keeps
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET  # mean and deviation of red, green, blue
    licence: str = "Apache-2.0"
    interpolation: str = "bicubic"
    classes: int = 1000  # of the classifier in the file; 0 if there is none
    note: str = ""

    @property
    def usual_size(self) -> int:
        """Side of the pictures they are shown where nothing else is said, pixels: theirs, or what can be afforded."""
        return self.size if self.size <= MOST else 224

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the pixels in [0, 1], a channel."""
        return self.normalisation[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Of the pixels in [0, 1], a channel."""
        return self.normalisation[1]


@dataclass(frozen=True)
class Listed:
    """A model of the catalogue with what is published for it."""

    name: str
    size: int  # side of the square picture it is built for, pixels
    cost: Cost  # at that size
    weights: tuple[Weights, ...]  # the default first


_Make = Callable[..., Weights]
_CC = "CC-BY-NC-4.0"

# Steiner et al. 2022, "How to train your ViT?"
_augreg: _Make = partial(Weights, normalisation=HALF)
# Dosovitskiy et al. 2021
_orig_21k = _augreg("orig_in21k", None, 224, 0.9, classes=0, note="features, trained on 21843 classes")
# self-supervised: Caron et al. 2021 (a maintainer on the licence: facebookresearch/dino issue 108), He et al. 2022
_dino = Weights("dino", None, 224, 0.9, classes=0, note="features, trained without labels")
_mae = Weights("mae", None, 224, 0.9, licence=_CC, classes=0, note="features, trained without labels; fine-tune them")
# Oquab et al. 2024; CC-BY-NC until August 2023 (facebookresearch/dinov2 pull request 182)
_dinov2 = Weights("lvd142m", None, 518, 1.0, classes=0, note="features, trained without labels")
# Touvron et al. 2021; CC-BY-NC until January 2021 (facebookresearch/deit pull request 27)
_deit: _Make = partial(Weights, "fb_in1k")
# Touvron et al. 2022, DeiT III
_deit3: _Make = partial(Weights, "fb_in1k")
_deit3_22k: _Make = partial(Weights, "fb_in22k_ft_in1k", crop=1.0)
# Liu et al. 2021 and 2022
_swin: _Make = partial(Weights, "ms_in1k", crop=0.9, licence="MIT")
_swin_22k: _Make = partial(Weights, "ms_in22k_ft_in1k", crop=0.9, licence="MIT")
_swinv2_22k = Weights("ms_in22k", None, 192, 0.9, licence="MIT", classes=21841)
# Mehta and Rastegari 2022 and 2023; the originals take blue, green, red, timm's files red, green, blue. Whether the
# licence of the code covers the weights was asked in apple/ml-cvnets issue 88, without an answer
_mobilevit: _Make = partial(Weights, "cvnets_in1k", size=256, crop=0.9, normalisation=UNIT, licence="Apple-CVNets")
_mobilevit2: _Make = partial(_mobilevit, crop=0.888)
_mobilevit2_22k: _Make = partial(
    Weights, "cvnets_in22k_ft_in1k", size=256, crop=0.888, normalisation=UNIT, licence="Apple-CVNets"
)
# Cai et al. 2023 (MIT) and Liu et al. 2023 (Microsoft)
_efficientvit: _Make = partial(Weights, crop=0.95)
_efficientvit_ms: _Make = partial(Weights, "r224_in1k", size=224, crop=0.875, licence="MIT")
# torchvision's, under its licence
_tv: _Make = partial(Weights, "tv_in1k", size=224, crop=0.875, licence="BSD-3-Clause", interpolation="bilinear")
_tv2: _Make = partial(Weights, "tv2_in1k", size=224, crop=0.965, licence="BSD-3-Clause", interpolation="bilinear")
# Wightman et al. 2021, "ResNet strikes back"
_a1: _Make = partial(Weights, "a1_in1k", size=224, crop=0.95)

# Liu et al. 2022
_convnext: _Make = partial(Weights, note="licence as timm states it; that of the original release: ask the publisher")

LEDGER: dict[str, tuple[Weights, ...]] = {
    # ---------------------------------------------------------------- ViT
    "vit_tiny_patch16_224": (
        _augreg("augreg_in21k_ft_in1k", 75.45, 224, 0.9),
        _augreg("augreg_in21k", None, 224, 0.9, classes=21843),
    ),
    "vit_tiny_patch16_384": (_augreg("augreg_in21k_ft_in1k", 78.42, 384, 1.0),),
    "vit_small_patch16_224": (
        _augreg("augreg_in21k_ft_in1k", 81.40, 224, 0.9),
        _augreg("augreg_in1k", 78.84, 224, 0.9),
        _augreg("augreg_in21k", None, 224, 0.9, classes=21843),
        _dino,
    ),
    "vit_small_patch16_384": (
        _augreg("augreg_in21k_ft_in1k", 83.80, 384, 1.0),
        _augreg("augreg_in1k", 81.12, 384, 1.0),
    ),
    "vit_small_patch8_224": (_dino,),
    "vit_small_patch32_224": (
        _augreg("augreg_in21k_ft_in1k", 76.01, 224, 0.9),
        _augreg("augreg_in21k", None, 224, 0.9, classes=21843),
    ),
    "vit_small_patch32_384": (_augreg("augreg_in21k_ft_in1k", 80.49, 384, 1.0),),
    "vit_base_patch16_224": (
        _augreg("augreg2_in21k_ft_in1k", 85.11, 224, 0.9),
        _augreg("augreg_in21k_ft_in1k", 84.53, 224, 0.9),
        _augreg("augreg_in1k", 79.15, 224, 0.9),
        _augreg("orig_in21k_ft_in1k", 81.79, 224, 0.9),
        _augreg("augreg_in21k", None, 224, 0.9, classes=21843),
        _dino,
        _mae,
    ),
    "vit_base_patch16_384": (
        _augreg("augreg_in21k_ft_in1k", 86.00, 384, 1.0),
        _augreg("augreg_in1k", 81.10, 384, 1.0),
        _augreg("orig_in21k_ft_in1k", 84.20, 384, 1.0),
    ),
    "vit_base_patch8_224": (
        _augreg("augreg2_in21k_ft_in1k", 86.22, 224, 0.9),
        _augreg("augreg_in21k_ft_in1k", 85.80, 224, 0.9),
        _augreg("augreg_in21k", None, 224, 0.9, classes=21843),
        _dino,
    ),
    "vit_base_patch32_224": (
        _augreg("augreg_in21k_ft_in1k", 80.73, 224, 0.9),
        _augreg("augreg_in1k", 74.91, 224, 0.9),
        _augreg("augreg_in21k", None, 224, 0.9, classes=21843),
    ),
    "vit_base_patch32_384": (
        _augreg("augreg_in21k_ft_in1k", 83.35, 384, 1.0),
        _augreg("augreg_in1k", 78.75, 384, 1.0),
    ),
    "vit_large_patch16_224": (
        _augreg("augreg_in21k_ft_in1k", 85.86, 224, 0.9),
        _augreg("augreg_in21k", None, 224, 0.9, classes=21843),
        _mae,
    ),
    "vit_large_patch16_384": (_augreg("augreg_in21k_ft_in1k", 87.08, 384, 1.0),),
    "vit_large_patch32_224": (_orig_21k,),
    "vit_large_patch32_384": (_augreg("orig_in21k_ft_in1k", 81.51, 384, 1.0),),
    "vit_huge_patch14_224": (_orig_21k, _mae),
    "vit_small_patch14_dinov2": (_dinov2,),
    "vit_base_patch14_dinov2": (_dinov2,),
    "vit_large_patch14_dinov2": (_dinov2,),
    "vit_giant_patch14_dinov2": (_dinov2,),
    "vit_small_patch14_reg4_dinov2": (_dinov2,),
    "vit_base_patch14_reg4_dinov2": (_dinov2,),
    "vit_large_patch14_reg4_dinov2": (_dinov2,),
    "vit_giant_patch14_reg4_dinov2": (_dinov2,),
    # ---------------------------------------------------------------- DeiT
    "deit_tiny_patch16_224": (_deit(72.19, 224, 0.9),),
    "deit_small_patch16_224": (_deit(79.86, 224, 0.9),),
    "deit_base_patch16_224": (_deit(81.98, 224, 0.9),),
    "deit_base_patch16_384": (_deit(83.11, 384, 1.0),),
    "deit_tiny_distilled_patch16_224": (_deit(74.54, 224, 0.9),),
    "deit_small_distilled_patch16_224": (_deit(81.20, 224, 0.9),),
    "deit_base_distilled_patch16_224": (_deit(83.38, 224, 0.9),),
    "deit_base_distilled_patch16_384": (_deit(85.43, 384, 1.0),),
    "deit3_small_patch16_224": (_deit3(81.38, 224, 0.9), _deit3_22k(83.08, 224)),
    "deit3_small_patch16_384": (_deit3(83.43, 384, 1.0), _deit3_22k(84.82, 384)),
    "deit3_medium_patch16_224": (_deit3(83.09, 224, 0.9), _deit3_22k(84.55, 224)),
    "deit3_base_patch16_224": (_deit3(83.79, 224, 0.9), _deit3_22k(85.70, 224)),
    "deit3_base_patch16_384": (_deit3(85.07, 384, 1.0), _deit3_22k(86.74, 384)),
    "deit3_large_patch16_224": (_deit3(84.78, 224, 0.9), _deit3_22k(86.98, 224)),
    "deit3_large_patch16_384": (_deit3(85.81, 384, 1.0), _deit3_22k(87.72, 384)),
    "deit3_huge_patch14_224": (_deit3(85.22, 224, 0.9), _deit3_22k(87.19, 224)),
    # ---------------------------------------------------------------- Swin
    "swin_tiny_patch4_window7_224": (_swin(81.39, 224), _swin_22k(80.97, 224)),
    "swin_small_patch4_window7_224": (_swin_22k(83.30, 224), _swin(83.23, 224)),
    "swin_base_patch4_window7_224": (_swin_22k(85.28, 224), _swin(83.60, 224)),
    "swin_base_patch4_window12_384": (_swin_22k(86.44, 384, crop=1.0), _swin(84.48, 384, crop=1.0)),
    "swin_large_patch4_window7_224": (_swin_22k(86.31, 224),),
    "swin_large_patch4_window12_384": (_swin_22k(87.13, 384, crop=1.0),),
    "swinv2_tiny_window8_256": (_swin(81.82, 256),),
    "swinv2_tiny_window16_256": (_swin(82.80, 256),),
    "swinv2_small_window8_256": (_swin(83.85, 256),),
    "swinv2_small_window16_256": (_swin(84.22, 256),),
    "swinv2_base_window8_256": (_swin(84.25, 256),),
    "swinv2_base_window16_256": (_swin(84.60, 256),),
    "swinv2_base_window12_192": (_swinv2_22k,),
    "swinv2_base_window12to16_192to256": (_swin_22k(86.27, 256),),
    "swinv2_base_window12to24_192to384": (_swin_22k(87.10, 384, crop=1.0),),
    "swinv2_large_window12_192": (_swinv2_22k,),
    "swinv2_large_window12to16_192to256": (_swin_22k(86.95, 256),),
    "swinv2_large_window12to24_192to384": (_swin_22k(87.46, 384, crop=1.0),),
    # ---------------------------------------------------------------- mobile transformers
    "mobilevit_xxs": (_mobilevit(68.94),),
    "mobilevit_xs": (_mobilevit(74.62),),
    "mobilevit_s": (_mobilevit(78.30),),
    "mobilevitv2_050": (_mobilevit2(70.16),),
    "mobilevitv2_075": (_mobilevit2(75.61),),
    "mobilevitv2_100": (_mobilevit2(78.09),),
    "mobilevitv2_125": (_mobilevit2(79.68),),
    "mobilevitv2_150": (_mobilevit2(80.37), _mobilevit2_22k(81.49)),
    "mobilevitv2_175": (_mobilevit2(80.86), _mobilevit2_22k(81.94)),
    "mobilevitv2_200": (_mobilevit2(81.13), _mobilevit2_22k(82.33)),
    "efficientvit_b0": (_efficientvit("r224_in1k", 71.41, 224),),
    "efficientvit_b1": (_efficientvit("r224_in1k", 79.25, 224),),
    "efficientvit_b2": (_efficientvit("r224_in1k", 82.16, 224),),
    "efficientvit_b3": (_efficientvit("r224_in1k", 83.44, 224),),
    "efficientvit_m0": (_efficientvit_ms(63.30),),
    "efficientvit_m1": (_efficientvit_ms(68.34),),
    "efficientvit_m2": (_efficientvit_ms(70.80),),
    "efficientvit_m3": (_efficientvit_ms(73.39),),
    "efficientvit_m4": (_efficientvit_ms(74.34),),
    "efficientvit_m5": (_efficientvit_ms(77.09),),
    # ---------------------------------------------------------------- convolutional yardsticks
    "resnet18": (_a1(71.50, note="73.16 at 288 px"), _tv(69.76)),
    "resnet34": (_a1(76.42, note="77.93 at 288 px"), _tv(73.31)),
    "resnet50": (_a1(80.38, note="81.24 at 288 px"), _tv2(80.85), _tv(76.16)),
    "resnet101": (
        Weights("a1h_in1k", 81.95, 224, 0.95, note="82.80 at 288 px"),
        _tv2(81.89),
        _tv(77.38),
    ),
    "mobilenetv3_large_100": (
        Weights("ra_in1k", 75.78, 224, 0.875),
        Weights("ra4_e3600_r224_in1k", 76.31, 224, 0.95, HALF),
        Weights("miil_in21k_ft_in1k", 77.92, 224, 0.875, UNIT, interpolation="bilinear"),
    ),
    "mobilenetv3_small_050": (Weights("lamb_in1k", 57.91, 224, 0.875),),
    "mobilenetv3_small_075": (Weights("lamb_in1k", 65.23, 224, 0.875),),
    "mobilenetv3_small_100": (Weights("lamb_in1k", 67.66, 224, 0.875),),
    "efficientnet_b0": (
        Weights("ra_in1k", 77.70, 224, 0.875),
        Weights("ra4_e3600_r224_in1k", 78.57, 224, 0.9, HALF),
    ),
    "efficientnet_b1": (
        Weights("ra4_e3600_r240_in1k", 80.41, 240, 0.9, HALF, note="81.44 at 288 px"),
        Weights("ft_in1k", 78.81, 256, 1.0),
    ),
    "efficientnet_b2": (Weights("ra_in1k", 80.61, 288, 1.0),),
    "efficientnet_b3": (Weights("ra2_in1k", 82.30, 320, 1.0),),
    "efficientnet_b4": (Weights("ra2_in1k", 83.47, 384, 1.0),),
    "convnext_atto": (Weights("d2_in1k", 77.01, 288, 0.95),),
    "convnext_femto": (Weights("d1_in1k", 78.72, 288, 0.95),),
    "convnext_pico": (Weights("d1_in1k", 80.41, 288, 0.95),),
    "convnext_nano": (Weights("in12k_ft_in1k", 82.86, 288, 1.0), Weights("d1h_in1k", 81.48, 288, 1.0)),
    "convnext_tiny": (
        Weights("in12k_ft_in1k", 84.19, 224, 0.95, note="84.45 at 288 px"),
        _convnext("fb_in1k", 82.07, 224, 0.875),
    ),
    "convnext_small": (Weights("in12k_ft_in1k", 85.33, 288, 1.0), _convnext("fb_in1k", 83.70, 288, 1.0)),
    "convnext_base": (
        _convnext("fb_in22k_ft_in1k", 86.27, 288, 1.0),
        _convnext("fb_in1k", 84.43, 288, 1.0),
    ),
}


def listed(name: str) -> Listed:
    """The model called ``name`` with all its weights."""
    return Listed(name, models.find(name).size, costs()[name], LEDGER.get(name, ()))


def repository(name: str, weights: Weights) -> str:
    """Where the file lies on the hub."""
    return f"timm/{name}.{weights.tag}"


def find(name: str, tag: str | None = None) -> Weights:
    """The weights of the model called ``name``: those with that tag, or its default ones.

    Raises:
        UsageError: no such model, no published weights for it, or none with that tag; what there is is named.
    """
    models.find(name)
    known = LEDGER.get(name, ())
    if not known:
        raise UsageError(
            f"No published weights of {name} are known; `vitreous models` marks the models that have some."
        )
    for weights in known:
        if tag in (None, weights.tag):
            return weights
    tags = ", ".join(weights.tag for weights in known)
    raise UsageError(f"There are no weights {tag} of {name} in the ledger; it has {tags}.")
