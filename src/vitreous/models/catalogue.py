"""The catalogue of backbones: a table that can be read. Importing it imports no torch.

Names are timm's where timm has the model. One section a family; a variant is a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One model: the family that builds it, the picture size it is meant for, and what its family's config says."""

    family: str
    size: int
    options: Mapping[str, Any]


FAMILIES = {
    # name: (module, backbone, config)
    "vit": ("vitreous.models.vit", "ViT", "ViTConfig"),
    "cct": ("vitreous.models.cct", "CCT", "CCTConfig"),
    "swin": ("vitreous.models.swin", "Swin", "SwinConfig"),
    "swinv2": ("vitreous.models.swinv2", "SwinV2", "SwinV2Config"),
    "hybrid": ("vitreous.models.hybrid", "Hybrid", "HybridConfig"),
    "resnet": ("vitreous.models.resnet", "ResNet", "ResNetConfig"),
    "efficientvit": ("vitreous.models.efficientvit", "EfficientViT", "EfficientViTConfig"),
    "efficientvit_ms": ("vitreous.models.efficientvit_ms", "EfficientViTMS", "EfficientViTMSConfig"),
    "mobilevit": ("vitreous.models.mobilevit", "MobileViT", "MobileViTConfig"),
    "mobilevitv2": ("vitreous.models.mobilevitv2", "MobileViTv2", "MobileViTv2Config"),
    "mobilenet": ("vitreous.models.mobilenet", "MobileNetV3", "MobileNetV3Config"),
    "efficientnet": ("vitreous.models.efficientnet", "EfficientNet", "EfficientNetConfig"),
    "convnext": ("vitreous.models.convnext", "ConvNeXt", "ConvNeXtConfig"),
}

_PICO = {"width": 128, "depth": 6, "heads": 4, "pool": "avg", "position": "sincos"}
_NANO = {"width": 192, "depth": 9, "heads": 6, "pool": "avg", "position": "sincos"}
_HYBRID_SMALL = {"widths": (32, 64, 128, 192)}
_TINY = {"width": 192, "depth": 12, "heads": 3}
_SMALL = {"width": 384, "depth": 12, "heads": 6}
_BASE = {"width": 768, "depth": 12, "heads": 12}
_LARGE = {"width": 1024, "depth": 24, "heads": 16}
_HUGE = {"width": 1280, "depth": 32, "heads": 16}
_DEIT3 = {"layer_scale": 1e-6, "class_position": False}
_DINOV2 = {"patch": 14, "layer_scale": 1e-5}
_REG4 = {**_DINOV2, "registers": 4, "class_position": False}
_GIANT2 = {"width": 1536, "depth": 40, "heads": 24, "mlp": "swiglu"}
_CCT2 = {"width": 128, "depth": 2, "heads": 2, "mlp_ratio": 1.0}
_CCT4 = {**_CCT2, "depth": 4}
_CCT6 = {"width": 256, "depth": 6, "heads": 4, "mlp_ratio": 2.0}
_CCT7 = {**_CCT6, "depth": 7}
_CCT14 = {"width": 384, "depth": 14, "heads": 6, "mlp_ratio": 3.0}
_SWIN_T = {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
_SWIN_S = {"width": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24)}
_SWIN_B = {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)}
_SWIN_L = {"width": 192, "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48)}
_MOBILEVIT_XXS = {"widths": (16, 24, 48, 64, 80), "dims": (64, 80, 96), "head": 320, "expansion": 2}
_MOBILEVIT_XS = {"widths": (32, 48, 64, 80, 96), "dims": (96, 120, 144), "head": 384}
_MOBILEVIT_S = {"widths": (32, 64, 96, 128, 160), "dims": (144, 192, 240), "head": 640}
_EFFICIENTVIT_B0 = {"widths": (8, 16, 32, 64, 128), "depths": (1, 2, 2, 2, 2), "head_dim": 16, "head": (1024, 1280)}
_EFFICIENTVIT_B1 = {"widths": (16, 32, 64, 128, 256), "depths": (1, 2, 3, 3, 4), "head_dim": 16, "head": (1536, 1600)}
_EFFICIENTVIT_B2 = {"widths": (24, 48, 96, 192, 384), "depths": (1, 3, 4, 4, 6), "head_dim": 32, "head": (2304, 2560)}
_EFFICIENTVIT_B3 = {"widths": (32, 64, 128, 256, 512), "depths": (1, 4, 6, 6, 9), "head_dim": 32, "head": (2304, 2560)}
_EFFICIENTVIT_M0 = {"depths": (1, 2, 3), "kernels": (5, 5, 5, 5)}
_EFFICIENTVIT_M1 = {"depths": (1, 2, 3), "kernels": (7, 5, 3, 3)}
_EFFICIENTVIT_M5 = {"depths": (1, 3, 4), "kernels": (7, 5, 3, 3)}
_CIFAR = {"widths": (16, 32, 64), "stem": "cifar", "shortcut": "pad", "zero_init": False}

CATALOGUE: dict[str, Row] = {
    # Dosovitskiy et al. 2021; Ti and S are Touvron et al. 2021's (DeiT)
    "vit_tiny_patch16_224": Row("vit", 224, {**_TINY, "patch": 16}),
    "vit_tiny_patch16_384": Row("vit", 384, {**_TINY, "patch": 16}),
    "vit_small_patch8_224": Row("vit", 224, {**_SMALL, "patch": 8}),
    "vit_small_patch16_224": Row("vit", 224, {**_SMALL, "patch": 16}),
    "vit_small_patch16_384": Row("vit", 384, {**_SMALL, "patch": 16}),
    "vit_small_patch32_224": Row("vit", 224, {**_SMALL, "patch": 32}),
    "vit_small_patch32_384": Row("vit", 384, {**_SMALL, "patch": 32}),
    "vit_base_patch8_224": Row("vit", 224, {**_BASE, "patch": 8}),
    "vit_base_patch16_224": Row("vit", 224, {**_BASE, "patch": 16}),
    "vit_base_patch16_384": Row("vit", 384, {**_BASE, "patch": 16}),
    "vit_base_patch32_224": Row("vit", 224, {**_BASE, "patch": 32}),
    "vit_base_patch32_384": Row("vit", 384, {**_BASE, "patch": 32}),
    "vit_large_patch14_224": Row("vit", 224, {**_LARGE, "patch": 14}),
    "vit_large_patch16_224": Row("vit", 224, {**_LARGE, "patch": 16}),
    "vit_large_patch16_384": Row("vit", 384, {**_LARGE, "patch": 16}),
    "vit_large_patch32_224": Row("vit", 224, {**_LARGE, "patch": 32}),
    "vit_large_patch32_384": Row("vit", 384, {**_LARGE, "patch": 32}),
    "vit_huge_patch14_224": Row("vit", 224, {**_HUGE, "patch": 14}),
    # Zhai et al. 2022, "Scaling Vision Transformers"
    "vit_giant_patch14_224": Row(
        "vit", 224, {"width": 1408, "depth": 40, "heads": 16, "mlp_ratio": 48 / 11, "patch": 14}
    ),
    "vit_gigantic_patch14_224": Row(
        "vit", 224, {"width": 1664, "depth": 48, "heads": 16, "mlp_ratio": 64 / 13, "patch": 14}
    ),
    # Touvron et al. 2021, DeiT: the same networks, and those with a distillation token
    "deit_tiny_patch16_224": Row("vit", 224, {**_TINY, "patch": 16}),
    "deit_small_patch16_224": Row("vit", 224, {**_SMALL, "patch": 16}),
    "deit_base_patch16_224": Row("vit", 224, {**_BASE, "patch": 16}),
    "deit_base_patch16_384": Row("vit", 384, {**_BASE, "patch": 16}),
    "deit_tiny_distilled_patch16_224": Row("vit", 224, {**_TINY, "patch": 16, "pool": "distilled"}),
    "deit_small_distilled_patch16_224": Row("vit", 224, {**_SMALL, "patch": 16, "pool": "distilled"}),
    "deit_base_distilled_patch16_224": Row("vit", 224, {**_BASE, "patch": 16, "pool": "distilled"}),
    "deit_base_distilled_patch16_384": Row("vit", 384, {**_BASE, "patch": 16, "pool": "distilled"}),
    # Touvron et al. 2022, DeiT III
    "deit3_small_patch16_224": Row("vit", 224, {**_SMALL, **_DEIT3, "patch": 16}),
    "deit3_small_patch16_384": Row("vit", 384, {**_SMALL, **_DEIT3, "patch": 16}),
    "deit3_medium_patch16_224": Row("vit", 224, {**_DEIT3, "width": 512, "depth": 12, "heads": 8, "patch": 16}),
    "deit3_base_patch16_224": Row("vit", 224, {**_BASE, **_DEIT3, "patch": 16}),
    "deit3_base_patch16_384": Row("vit", 384, {**_BASE, **_DEIT3, "patch": 16}),
    "deit3_large_patch16_224": Row("vit", 224, {**_LARGE, **_DEIT3, "patch": 16}),
    "deit3_large_patch16_384": Row("vit", 384, {**_LARGE, **_DEIT3, "patch": 16}),
    "deit3_huge_patch14_224": Row("vit", 224, {**_HUGE, **_DEIT3, "patch": 14}),
    # Oquab et al. 2023, DINOv2, and the same with registers (Darcet et al. 2024); 518 is the size of their positions
    "vit_small_patch14_dinov2": Row("vit", 518, {**_SMALL, **_DINOV2}),
    "vit_base_patch14_dinov2": Row("vit", 518, {**_BASE, **_DINOV2}),
    "vit_large_patch14_dinov2": Row("vit", 518, {**_LARGE, **_DINOV2}),
    "vit_giant_patch14_dinov2": Row("vit", 518, {**_GIANT2, **_DINOV2}),
    "vit_small_patch14_reg4_dinov2": Row("vit", 518, {**_SMALL, **_REG4}),
    "vit_base_patch14_reg4_dinov2": Row("vit", 518, {**_BASE, **_REG4}),
    "vit_large_patch14_reg4_dinov2": Row("vit", 518, {**_LARGE, **_REG4}),
    "vit_giant_patch14_reg4_dinov2": Row("vit", 518, {**_GIANT2, **_REG4}),
    # ours, for small pictures: mean pooling and fixed positions, after Beyer et al. 2022
    "vit_pico_patch4_32": Row("vit", 32, {**_PICO, "patch": 4}),
    "vit_pico_patch8_64": Row("vit", 64, {**_PICO, "patch": 8}),
    "vit_pico_patch8_96": Row("vit", 96, {**_PICO, "patch": 8}),
    "vit_nano_patch4_32": Row("vit", 32, {**_NANO, "patch": 4}),
    "vit_nano_patch8_64": Row("vit", 64, {**_NANO, "patch": 8}),
    "vit_nano_patch8_96": Row("vit", 96, {**_NANO, "patch": 8}),
    "vit_nano_patch16_224": Row("vit", 224, {**_NANO, "patch": 16}),
    # ours, for small sets: convolutions first, attention among the last few cells
    "hybrid_tiny_32": Row("hybrid", 32, {}),
    "hybrid_tiny_64": Row("hybrid", 64, {"halvings": 1}),
    "hybrid_tiny_96": Row("hybrid", 96, {"halvings": 1}),
    "hybrid_tiny_224": Row("hybrid", 224, {"halvings": 2}),
    "hybrid_small_32": Row("hybrid", 32, _HYBRID_SMALL),
    "hybrid_small_64": Row("hybrid", 64, {**_HYBRID_SMALL, "halvings": 1}),
    "hybrid_small_96": Row("hybrid", 96, {**_HYBRID_SMALL, "halvings": 1}),
    "hybrid_small_224": Row("hybrid", 224, {**_HYBRID_SMALL, "halvings": 2}),
    # Hassani et al. 2021; names of the authors' release
    "cct_2_3x2_32": Row("cct", 32, {**_CCT2, "convolutions": 2}),
    "cct_4_3x2_32": Row("cct", 32, {**_CCT4, "convolutions": 2}),
    "cct_6_3x1_32": Row("cct", 32, _CCT6),
    "cct_7_3x1_32": Row("cct", 32, _CCT7),
    "cct_7_3x2_32": Row("cct", 32, {**_CCT7, "convolutions": 2}),
    "cct_7_7x2_224": Row("cct", 224, {**_CCT7, "kernel": 7, "convolutions": 2}),
    "cct_14_7x2_224": Row("cct", 224, {**_CCT14, "kernel": 7, "convolutions": 2}),
    "cct_14_7x2_384": Row("cct", 384, {**_CCT14, "kernel": 7, "convolutions": 2}),
    # He et al. 2016, for ImageNet
    "resnet18": Row("resnet", 224, {"block": "basic", "depths": (2, 2, 2, 2)}),
    "resnet34": Row("resnet", 224, {"block": "basic", "depths": (3, 4, 6, 3)}),
    "resnet50": Row("resnet", 224, {"block": "bottleneck", "depths": (3, 4, 6, 3)}),
    "resnet101": Row("resnet", 224, {"block": "bottleneck", "depths": (3, 4, 23, 3)}),
    # the same for small pictures: no stride and no max pooling in the stem
    "resnet18_cifar": Row("resnet", 32, {"block": "basic", "depths": (2, 2, 2, 2), "stem": "cifar"}),
    # He et al. 2016, section 4.2
    "resnet20_cifar": Row("resnet", 32, {**_CIFAR, "depths": (3, 3, 3)}),
    "resnet32_cifar": Row("resnet", 32, {**_CIFAR, "depths": (5, 5, 5)}),
    "resnet44_cifar": Row("resnet", 32, {**_CIFAR, "depths": (7, 7, 7)}),
    "resnet56_cifar": Row("resnet", 32, {**_CIFAR, "depths": (9, 9, 9)}),
    # Mehta and Rastegari 2022 (MobileViT)
    "mobilevit_xxs": Row("mobilevit", 256, _MOBILEVIT_XXS),
    "mobilevit_xs": Row("mobilevit", 256, _MOBILEVIT_XS),
    "mobilevit_s": Row("mobilevit", 256, _MOBILEVIT_S),
    # Mehta and Rastegari 2022 (separable self-attention)
    "mobilevitv2_050": Row("mobilevitv2", 256, {"multiplier": 0.5}),
    "mobilevitv2_075": Row("mobilevitv2", 256, {"multiplier": 0.75}),
    "mobilevitv2_100": Row("mobilevitv2", 256, {"multiplier": 1.0}),
    "mobilevitv2_125": Row("mobilevitv2", 256, {"multiplier": 1.25}),
    "mobilevitv2_150": Row("mobilevitv2", 256, {"multiplier": 1.5}),
    "mobilevitv2_175": Row("mobilevitv2", 256, {"multiplier": 1.75}),
    "mobilevitv2_200": Row("mobilevitv2", 256, {"multiplier": 2.0}),
    # Liu et al. 2022; atto to nano are timm's
    "convnext_atto": Row("convnext", 224, {"depths": (2, 2, 6, 2), "widths": (40, 80, 160, 320)}),
    "convnext_femto": Row("convnext", 224, {"depths": (2, 2, 6, 2), "widths": (48, 96, 192, 384)}),
    "convnext_pico": Row("convnext", 224, {"depths": (2, 2, 6, 2), "widths": (64, 128, 256, 512)}),
    "convnext_nano": Row("convnext", 224, {"depths": (2, 2, 8, 2), "widths": (80, 160, 320, 640)}),
    "convnext_tiny": Row("convnext", 224, {"depths": (3, 3, 9, 3), "widths": (96, 192, 384, 768)}),
    "convnext_small": Row("convnext", 224, {"depths": (3, 3, 27, 3), "widths": (96, 192, 384, 768)}),
    "convnext_base": Row("convnext", 224, {"depths": (3, 3, 27, 3), "widths": (128, 256, 512, 1024)}),
    # Liu et al. 2021
    "swin_tiny_patch4_window7_224": Row("swin", 224, _SWIN_T),
    "swin_small_patch4_window7_224": Row("swin", 224, _SWIN_S),
    "swin_base_patch4_window7_224": Row("swin", 224, _SWIN_B),
    "swin_base_patch4_window12_384": Row("swin", 384, {**_SWIN_B, "window": 12}),
    "swin_large_patch4_window7_224": Row("swin", 224, _SWIN_L),
    "swin_large_patch4_window12_384": Row("swin", 384, {**_SWIN_L, "window": 12}),
    # Liu et al. 2022; 12to16 is trained on windows of 12 cells and goes on with 16
    "swinv2_tiny_window8_256": Row("swinv2", 256, _SWIN_T),
    "swinv2_tiny_window16_256": Row("swinv2", 256, {**_SWIN_T, "window": 16}),
    "swinv2_small_window8_256": Row("swinv2", 256, _SWIN_S),
    "swinv2_small_window16_256": Row("swinv2", 256, {**_SWIN_S, "window": 16}),
    "swinv2_base_window8_256": Row("swinv2", 256, _SWIN_B),
    "swinv2_base_window16_256": Row("swinv2", 256, {**_SWIN_B, "window": 16}),
    "swinv2_base_window12_192": Row("swinv2", 192, {**_SWIN_B, "window": 12}),
    "swinv2_base_window12to16_192to256": Row("swinv2", 256, {**_SWIN_B, "window": 16, "trained": (12, 12, 12, 6)}),
    "swinv2_base_window12to24_192to384": Row("swinv2", 384, {**_SWIN_B, "window": 24, "trained": (12, 12, 12, 6)}),
    "swinv2_large_window12_192": Row("swinv2", 192, {**_SWIN_L, "window": 12}),
    "swinv2_large_window12to16_192to256": Row("swinv2", 256, {**_SWIN_L, "window": 16, "trained": (12, 12, 12, 6)}),
    "swinv2_large_window12to24_192to384": Row("swinv2", 384, {**_SWIN_L, "window": 24, "trained": (12, 12, 12, 6)}),
    # Howard et al. 2019
    "mobilenetv3_large_075": Row("mobilenet", 224, {"table": "large", "multiplier": 0.75}),
    "mobilenetv3_large_100": Row("mobilenet", 224, {"table": "large"}),
    "mobilenetv3_small_050": Row("mobilenet", 224, {"table": "small", "multiplier": 0.5}),
    "mobilenetv3_small_075": Row("mobilenet", 224, {"table": "small", "multiplier": 0.75}),
    "mobilenetv3_small_100": Row("mobilenet", 224, {"table": "small"}),
    # Tan & Le 2019; the sizes are those at which timm's default weights were trained
    "efficientnet_b0": Row("efficientnet", 224, {}),
    "efficientnet_b1": Row("efficientnet", 240, {"deeper": 1.1}),
    "efficientnet_b2": Row("efficientnet", 256, {"wider": 1.1, "deeper": 1.2}),
    "efficientnet_b3": Row("efficientnet", 288, {"wider": 1.2, "deeper": 1.4}),
    "efficientnet_b4": Row("efficientnet", 320, {"wider": 1.4, "deeper": 1.8}),
    # Cai et al. 2023 (MIT)
    "efficientvit_b0": Row("efficientvit", 224, _EFFICIENTVIT_B0),
    "efficientvit_b1": Row("efficientvit", 224, _EFFICIENTVIT_B1),
    "efficientvit_b2": Row("efficientvit", 224, _EFFICIENTVIT_B2),
    "efficientvit_b3": Row("efficientvit", 224, _EFFICIENTVIT_B3),
    # Liu et al. 2023 (Microsoft)
    "efficientvit_m0": Row("efficientvit_ms", 224, {**_EFFICIENTVIT_M0, "widths": (64, 128, 192), "heads": (4, 4, 4)}),
    "efficientvit_m1": Row("efficientvit_ms", 224, {**_EFFICIENTVIT_M1, "widths": (128, 144, 192), "heads": (2, 3, 3)}),
    "efficientvit_m2": Row("efficientvit_ms", 224, {**_EFFICIENTVIT_M1, "widths": (128, 192, 224), "heads": (4, 3, 2)}),
    "efficientvit_m3": Row("efficientvit_ms", 224, {**_EFFICIENTVIT_M0, "widths": (128, 240, 320), "heads": (4, 3, 4)}),
    "efficientvit_m4": Row("efficientvit_ms", 224, {**_EFFICIENTVIT_M1, "widths": (128, 256, 384), "heads": (4, 4, 4)}),
    "efficientvit_m5": Row("efficientvit_ms", 224, {**_EFFICIENTVIT_M5, "widths": (192, 288, 384), "heads": (3, 3, 4)}),
}
