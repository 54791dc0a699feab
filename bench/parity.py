"""The same numbers as timm, torchvision and Hugging Face transformers, from the same weights.

    scripts/peers && .venv-peers/bin/python bench/parity.py

Each peer is built with random weights, every tensor moved away from its special values, and read through
``models.foreign``. Compared are logits, the last map, the pooled vector (float32), and the gradient of every parameter
in training mode (float64), at the size it is built for and, where the peer can, at another. An error is the largest
absolute difference divided by the largest absolute value. Exits with 1 if one is above its limit.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import peers  # noqa: F401 - before timm and torchvision
import timm
import torch
import torchvision
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from vitreous.models import foreign
from vitreous.network import Network, NetworkConfig, build_network

FORWARD_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-9
CLASSES = 10

warnings.simplefilter("ignore")


class Answer(NamedTuple):
    logits: Tensor
    last: Tensor  # (b, d, h, w)
    pooled: Tensor


class Pair(NamedTuple):
    """One of our models, its peer, and how to ask the peer; ``sizes`` are (h, w), the first is the built one."""

    library: str
    model: str
    peer: nn.Module
    ask: Callable[[nn.Module, Tensor], Answer]
    sizes: tuple[tuple[int, int], ...]
    options: Mapping[str, object] = MappingProxyType({})


def ask_timm_vit(peer: nn.Module, x: Tensor) -> Answer:
    tokens = peer.forward_features(x)  # (b, p + n, d)
    p = peer.patch_embed.patch_size[0]
    plane = tokens[:, peer.num_prefix_tokens :].transpose(1, 2)
    return Answer(
        peer.forward_head(tokens),
        plane.reshape(len(x), -1, x.shape[2] // p, x.shape[3] // p),
        peer.forward_head(tokens, pre_logits=True),
    )


def ask_timm_resnet(peer: nn.Module, x: Tensor) -> Answer:
    last = peer.forward_features(x)
    return Answer(peer.forward_head(last), last, peer.forward_head(last, pre_logits=True))


def ask_torchvision_vit(peer: nn.Module, x: Tensor) -> Answer:
    tokens = torch.cat([peer.class_token.expand(len(x), -1, -1), peer._process_input(x)], dim=1)
    tokens = peer.encoder(tokens)
    side = x.shape[-1] // peer.patch_size
    plane = tokens[:, 1:].transpose(1, 2).reshape(len(x), -1, side, side)
    return Answer(peer.heads(tokens[:, 0]), plane, tokens[:, 0])


def ask_torchvision_resnet(peer: nn.Module, x: Tensor) -> Answer:
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        x = getattr(peer, name)(x)
    pooled = peer.avgpool(x).flatten(1)
    return Answer(peer.fc(pooled), x, pooled)


def ask_transformers_vit(peer: nn.Module, x: Tensor) -> Answer:
    tokens = peer.vit(x).last_hidden_state
    p = peer.config.patch_size
    plane = tokens[:, 1:].transpose(1, 2).reshape(len(x), -1, x.shape[2] // p, x.shape[3] // p)
    return Answer(peer.classifier(tokens[:, 0]), plane, tokens[:, 0])


def ask_transformers_resnet(peer: nn.Module, x: Tensor) -> Answer:
    out = peer.resnet(x)
    return Answer(peer.classifier(out.pooler_output), out.last_hidden_state, out.pooler_output.flatten(1))


def pairs() -> Iterator[Pair]:
    """Every comparison, built one at a time."""
    for name in ("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch32_224", "deit_tiny_patch16_224"):
        peer = timm.create_model(name, num_classes=CLASSES, dynamic_img_size=True)
        yield Pair("timm", name, peer, ask_timm_vit, ((224, 224), (160, 256)))
    peer = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, init_values=0.1, dynamic_img_size=True)
    yield Pair("timm", "vit_tiny_patch16_224", peer, ask_timm_vit, ((224, 224), (96, 96)), {"layer_scale": 0.1})
    gap = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    peer = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, dynamic_img_size=True, **gap)
    yield Pair("timm", "vit_tiny_patch16_224", peer, ask_timm_vit, ((224, 224), (96, 128)), {"pool": "avg"})
    for name in ("resnet18", "resnet50"):
        peer = timm.create_model(name, num_classes=CLASSES)
        yield Pair("timm", name, peer, ask_timm_resnet, ((224, 224), (97, 130)))
    vit = torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768, num_classes=CLASSES)
    yield Pair("torchvision", "vit_tiny_patch16_224", vit, ask_torchvision_vit, ((224, 224),))
    peer = torchvision.models.resnet50(num_classes=CLASSES)
    yield Pair("torchvision", "resnet50", peer, ask_torchvision_resnet, ((224, 224), (97, 130)))
    sizes = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
    config = transformers.ViTConfig(**sizes, layer_norm_eps=1e-6, num_labels=CLASSES)
    peer = transformers.ViTForImageClassification(config)
    # one size only: transformers resamples positions with another bicubic kernel (a = -0.75, no antialiasing) than timm
    yield Pair("transformers", "vit_tiny_patch16_224", peer, ask_transformers_vit, ((224, 224),))
    peer = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=CLASSES))
    yield Pair("transformers", "resnet50", peer, ask_transformers_resnet, ((224, 224), (97, 130)))


def unsettle(peer: nn.Module) -> None:
    """Move every parameter and statistic away from zeros and ones, keeping activations in range."""
    with torch.no_grad():
        for name, t in [*peer.named_parameters(), *peer.named_buffers()]:
            if name.endswith("running_var"):
                t.mul_(torch.rand_like(t) + 0.5)
            elif t.is_floating_point():
                t.add_(torch.randn_like(t) * 0.02)


def error(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference, relative to the largest absolute value."""
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp_min(1e-30))


def forward_errors(network: Network, pair: Pair, size: tuple[int, int]) -> list[float]:
    """Errors of logits, last map and pooled vector in evaluation mode, float32."""
    image = torch.rand(2, 3, *size)
    network.eval()
    pair.peer.eval()
    with torch.no_grad():
        features = network.features(image)
        ours = Answer(network.head(features), features.maps[-1], features.pooled)
        theirs = pair.ask(pair.peer, network.normalise(image))
    return [error(a, b) for a, b in zip(ours, theirs, strict=True)]


def gradient_error(network: Network, pair: Pair, size: tuple[int, int]) -> float:
    """The worst error of any parameter's gradient, in training mode, float64."""
    network.double().train()
    pair.peer.double().train()
    image, weight = torch.rand(2, 3, *size, dtype=torch.float64), torch.randn(2, CLASSES, dtype=torch.float64)
    network.zero_grad()
    pair.peer.zero_grad()
    (network(image) * weight).sum().backward()
    (pair.ask(pair.peer, network.normalise(image)).logits * weight).sum().backward()
    _, theirs = foreign.translate({n: p.grad for n, p in pair.peer.named_parameters() if p.grad is not None})
    ours = {n: p.grad for n, p in network.named_parameters()}
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    # a key's bias has no gradient in exact arithmetic, so it is judged with the rest of its qkv tensor
    worst = max(error(ours[n], theirs[n]) for n in ours)
    network.float()
    pair.peer.float()
    return worst


def compare(pair: Pair) -> Iterator[tuple[str, list[float], bool]]:
    """(size, errors, within limits) for each size of one pair."""
    unsettle(pair.peer)
    config = NetworkConfig(model=pair.model, classes=CLASSES, size=pair.sizes[0][0], options=dict(pair.options))
    network = build_network(config)
    foreign.load(network, pair.peer.state_dict())
    for h, w in pair.sizes:
        errors = forward_errors(network, pair, (h, w))
        gradient = gradient_error(network, pair, (h, w))
        yield f"{h}x{w}", [*errors, gradient], max(errors) <= FORWARD_LIMIT and gradient <= GRADIENT_LIMIT


def control() -> bool:
    """Whether one weight changed by a thousandth is noticed everywhere: the proof that the comparison can fail."""
    pair = next(pairs())
    (_, before, _), *_ = compare(pair)
    network = build_network(NetworkConfig(model=pair.model, classes=CLASSES, size=224))
    foreign.load(network, pair.peer.state_dict())
    with torch.no_grad():
        network.backbone.get_parameter("blocks.0.attn.qkv.weight")[-1, 0] += 1e-3
    size = pair.sizes[0]
    after = [*forward_errors(network, pair, size), gradient_error(network, pair, size)]
    return all(b > 10 * a and b > 1e-7 for a, b in zip(before, after, strict=True))


def main() -> int:
    """Print the table; the exit status."""
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    table = Table(title="Largest relative error against peers, same weights")
    for column in ("library", "model", "size", "logits", "last map", "pooled", "gradients", ""):
        table.add_column(column, justify="right" if column in ("logits", "last map", "pooled", "gradients") else "left")
    good = control()
    if not good:
        Console().print("The comparison did not notice a changed weight: its other answers mean nothing.")
    for pair in pairs():
        shown = " ".join([pair.model, *(f"{k}={v}" for k, v in pair.options.items())])
        for size, errors, within in compare(pair):
            good &= within
            table.add_row(pair.library, shown, size, *(f"{e:.1e}" for e in errors), "ok" if within else "TOO FAR")
    Console(width=120).print(table)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
