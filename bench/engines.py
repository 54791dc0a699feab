"""The networks that are timed, each as image -> logits: ours, timm's and transformers'. One engine a process.

All start at normalised pixels and end at 1000 logits. timm's random weights are read by ours, whose first answers must
agree; transformers' network keeps its own random weights and must have as many parameters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vitreous.models import create, find
from vitreous.network import NetworkConfig, build_network
from vitreous.weights import foreign

CLASSES = 1000


class Job(NamedTuple):
    """One row of a comparison."""

    work: str  # "forward" or "train"
    model: str
    batch: int
    bfloat16: bool = False
    size: int = 0  # side of the picture; 0: the one that the model is built for

    @property
    def side(self) -> int:
        return self.size or find(self.model).size

    @property
    def label(self) -> str:
        return f"{self.model}{' bf16' if self.bfloat16 else ''}"


_VIT: dict[str, Any] = {"num_hidden_layers": 12, "layer_norm_eps": 1e-6}
# model: (prefix of the classes, fields of the config that differ from transformers' own)
TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit_tiny_patch16_224": (
        "ViT", {**_VIT, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    ),
    "vit_small_patch16_224": (
        "ViT", {**_VIT, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    ),
    "swin_tiny_patch4_window7_224": ("Swin", {}),
    "swinv2_tiny_window8_256": ("Swinv2", {"image_size": 256, "window_size": 8}),
    "mobilevit_s": ("MobileViT", {}),
    "mobilevitv2_100": ("MobileViTV2", {}),
    "efficientnet_b0": (
        "EfficientNet", {"image_size": 224, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
    ),
    "resnet50": ("ResNet", {}),
    "convnext_tiny": ("ConvNext", {}),
}  # fmt: skip
# family: what timm's constructor needs to be told for pictures of another size
TIMM_SIZED = {"vit": "img_size", "swin": "img_size", "swinv2": "img_size"}


def engines(job: Job) -> tuple[str, ...]:
    """Who takes part; ours first."""
    return ("vitreous", "timm", *(("transformers",) if job.model in TRANSFORMERS else ()))


def build(engine: str, job: Job, weights: str) -> nn.Module:
    """The engine's network for the job; timm writes the file ``weights`` and ours reads it."""
    torch.manual_seed(0)
    network = {"vitreous": _ours, "timm": _timm, "transformers": _transformers}[engine](job, weights)
    network.train(job.work == "train")
    if job.work == "forward" and job.bfloat16:
        network = network.bfloat16()
    return network if engine == "vitreous" else network.to(memory_format=layout(job.model))


def layout(model: str) -> torch.memory_format:
    """The memory layout in which the family runs fastest, for every engine: channels last for convolutions."""
    with torch.device("meta"):
        return create(model).layout


def _ours(job: Job, weights: str) -> nn.Module:
    whole = build_network(NetworkConfig(model=job.model, classes=CLASSES, size=job.side))
    foreign.load(whole, weights)
    if job.work == "forward":
        whole = whole.optimise()
    return nn.Sequential(whole.backbone, whole.head)


def _timm(job: Job, weights: str) -> nn.Module:
    import peers  # noqa: F401 - before timm
    import timm

    sized = TIMM_SIZED.get(find(job.model).family) if job.size else None
    network: nn.Module = timm.create_model(job.model, num_classes=CLASSES, **({sized: job.size} if sized else {}))
    save_file(network.state_dict(), weights)
    return network


class _Logits(nn.Module):
    """A network of transformers as others are: image -> logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).logits


def _transformers(job: Job, weights: str) -> nn.Module:
    import peers  # noqa: F401 - before torchvision
    import transformers

    prefix, fields = TRANSFORMERS[job.model]
    config = getattr(transformers, f"{prefix}Config")(**fields, num_labels=CLASSES)
    network = _Logits(getattr(transformers, f"{prefix}ForImageClassification")(config))
    ours = build_network(NetworkConfig(model=job.model, classes=CLASSES, size=job.side))
    counts = [sum(p.numel() for p in n.parameters()) for n in (ours, network)]
    assert abs(counts[0] / counts[1] - 1) < 0.005, f"{job.label}: {counts[0]} and {counts[1]} parameters"
    return network
