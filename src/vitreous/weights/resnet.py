"""Names of ResNet's tensors: torchvision's, which timm and the CIFAR networks share, and Hugging Face's."""

from __future__ import annotations

from vitreous.weights.dialect import Dialect

_HF = r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\."

DIALECTS = (
    Dialect(
        name="Hugging Face ResNet",
        family="resnet",
        marks=(r"(?:resnet\.)?embedder\.embedder\.convolution\.weight",),
        rules=(
            (r"(?:resnet\.)?embedder\.embedder\.convolution\.(.+)", r"backbone.conv1.conv.\1"),
            (r"(?:resnet\.)?embedder\.embedder\.normalization\.(.+)", r"backbone.conv1.norm.\1"),
            (_HF + r"shortcut\.convolution\.(.+)", r"backbone.layer\1+.\2.downsample.conv.\3"),
            (_HF + r"shortcut\.normalization\.(.+)", r"backbone.layer\1+.\2.downsample.norm.\3"),
            (_HF + r"layer\.(\d)\.convolution\.(.+)", r"backbone.layer\1+.\2.conv\3+.conv.\4"),
            (_HF + r"layer\.(\d)\.normalization\.(.+)", r"backbone.layer\1+.\2.conv\3+.norm.\4"),
            (r"classifier\.1\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="ResNet",  # torchvision, timm and the CIFAR networks of akamaster/pytorch_resnet_cifar10
        family="resnet",
        marks=(r"layer1\.0\.conv1\.weight",),
        rules=(
            (r"((?:layer\d\.\d+\.)?)conv(\d)\.(.+)", r"backbone.\1conv\2.conv.\3"),
            (r"((?:layer\d\.\d+\.)?)bn(\d)\.(.+)", r"backbone.\1conv\2.norm.\3"),
            (r"(layer\d\.\d+)\.downsample\.0\.(.+)", r"backbone.\1.downsample.conv.\2"),
            (r"(layer\d\.\d+)\.downsample\.1\.(.+)", r"backbone.\1.downsample.norm.\2"),
            (r"(?:fc|linear)\.(weight|bias)", r"head.fc.\1"),
        ),
    ),
)
