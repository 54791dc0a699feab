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
            (r"(?:resnet\.)?embedder\.embedder\.convolution\.(.+)", r"backbone.conv1.\1"),
            (r"(?:resnet\.)?embedder\.embedder\.normalization\.(.+)", r"backbone.bn1.\1"),
            (_HF + r"shortcut\.convolution\.(.+)", r"backbone.layer\1+.\2.downsample.0.\3"),
            (_HF + r"shortcut\.normalization\.(.+)", r"backbone.layer\1+.\2.downsample.1.\3"),
            (_HF + r"layer\.(\d)\.convolution\.(.+)", r"backbone.layer\1+.\2.conv\3+.\4"),
            (_HF + r"layer\.(\d)\.normalization\.(.+)", r"backbone.layer\1+.\2.bn\3+.\4"),
            (r"classifier\.1\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="ResNet",  # torchvision, timm and the CIFAR networks of akamaster/pytorch_resnet_cifar10
        family="resnet",
        marks=(r"layer1\.0\.conv1\.weight",),
        rules=(
            (r"((?:conv1|bn1|layer\d)\..+)", r"backbone.\1"),
            (r"(?:fc|linear)\.(weight|bias)", r"head.fc.\1"),
        ),
    ),
)
