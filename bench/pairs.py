"""Who is compared with whom: each of our models beside the same architecture in somebody else's library.

For timm the list is the catalogue itself: every name that timm knows, with timm's own constructor. transformers and
torchvision are listed by hand. Each pair says how to ask the peer for what our ``Features`` hold.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple
from unittest.mock import patch

import peers  # noqa: F401 - before timm and torchvision
import timm
import torch
import torch.nn.functional as F
import torchvision
import transformers
from torch import Tensor, nn

from vitreous.models import CATALOGUE, find

CLASSES = 10
NOTHING: Mapping[str, object] = MappingProxyType({})
TENSORFLOW = {"padding": "same", "eps": 1e-3}  # of mobile networks trained there


class Answer(NamedTuple):
    """What a network says of a picture; a peer may give more maps than we have, and None where it has no such thing."""

    logits: Tensor | None
    maps: tuple[Tensor, ...]  # (b, d, h, w)
    pooled: Tensor | None


class Pair(NamedTuple):
    """One of our models, its peer, and how to ask the peer; ``sizes`` are (h, w), the first is the built one."""

    library: str
    model: str
    build: Callable[[], nn.Module]
    ask: Callable[[nn.Module, Tensor], Answer]
    sizes: tuple[tuple[int, int], ...]
    options: Mapping[str, object] = NOTHING


# ---------------------------------------------------------------- timm

# family: what timm's constructor needs to be told so that other sizes work
TIMM_OPTIONS: dict[str, dict[str, object]] = {
    "vit": {"dynamic_img_size": True, "dynamic_img_pad": True},
    "swin": {"drop_path_rate": 0.0},
    "swinv2": {"drop_path_rate": 0.0},
}
# family: a second size, where timm cannot take any, perhaps by the first; None where it has none that means the same
Size = tuple[int, int]
SECOND: dict[str, Size | Callable[[int], Size] | None] = {
    "vit": (150, 250),
    "swin": lambda side: (side, 2 * side),  # whole windows: timm's see what fills up others; no smaller ones: its
    "swinv2": lambda side: (side // 2, side),  # table of biases is stretched along a curve, not bicubic
    "efficientvit_ms": None,
}
# family: the same few blocks in both, for the models too large to compare whole every time
SHALLOW: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "vit": ({"depth": 2}, {"depth": 2}),
    "swin": ({"depths": (2, 2, 2, 2)}, {"depths": (2, 2, 2, 2)}),
    "swinv2": ({"depths": (2, 2, 2, 2)}, {"depths": (2, 2, 2, 2)}),
}
# of the base models at higher resolution, the same at a lower one is compared whole
LARGE = (
    "*_large_*",
    "*_huge_*",
    "*_giant_*",
    "*_gigantic_*",
    "*_base_*384",
    "*_base_*dinov2",
    "swinv2_base_*",
    "*window16*",
)


def ask_timm(peer: nn.Module, x: Tensor) -> Answer:
    """What every model of timm understands."""
    last = peer.forward_features(x)
    pooled = peer.forward_head(last, pre_logits=True)
    maps = peer.forward_intermediates(x, output_fmt="NCHW", norm=hasattr(peer, "cls_token"), intermediates_only=True)
    if last.ndim == 4 and all(m.shape != last.shape for m in maps):
        maps = [*maps, last]
    return Answer(peer.forward_head(last), tuple(maps), pooled if pooled.ndim == 2 else None)


def ask_timm_swin(peer: nn.Module, x: Tensor) -> Answer:
    """The same, with the windows it was built with, where the picture is large enough for them."""
    if not hasattr(peer, "built"):
        peer.built = [stage.blocks[0].window_size for stage in peer.layers]
    peer.set_input_size(img_size=tuple(x.shape[-2:]), window_size=peer.built)
    return ask_timm(peer, x)


def ask_timm_mobilevitv2(peer: nn.Module, x: Tensor) -> Answer:
    """The same, with the maps that it stretches to even sides brought back to their strides, as ours are."""
    answer = ask_timm(peer, x)
    strides = [2 ** (i + 1) for i in range(len(answer.maps))]
    sizes = [[-(-side // stride) for side in x.shape[-2:]] for stride in strides]
    resized = zip(answer.maps, sizes, strict=True)
    maps = tuple(F.interpolate(m, size, mode="bilinear", align_corners=True) for m, size in resized)
    return answer._replace(maps=maps)


def ask_timm_efficientvit(peer: nn.Module, x: Tensor) -> Answer:
    """The same, without its rounding to float32 where everything else is float64."""
    rounds = Tensor.float
    with patch.object(Tensor, "float", lambda t: t if t.dtype == torch.float64 else rounds(t)):
        return ask_timm(peer, x)


def ask_timm_efficientvit_ms(peer: nn.Module, x: Tensor) -> Answer:
    """The same, with the norm that its classifier begins with."""
    answer = ask_timm(peer, x)
    return answer._replace(pooled=peer.head.bn(answer.pooled))


# family: how to ask, where what timm calls a map or pooled is not what ours is
TIMM_ASK: dict[str, Callable[[nn.Module, Tensor], Answer]] = {
    "swin": ask_timm_swin,
    "swinv2": ask_timm_swin,
    "mobilevitv2": ask_timm_mobilevitv2,
    "efficientvit": ask_timm_efficientvit,
    "efficientvit_ms": ask_timm_efficientvit_ms,
}


def timm_pairs(full: bool) -> Iterator[Pair]:
    """Every name of the catalogue that timm has; the large ones with few blocks unless ``full``."""
    for name, row in CATALOGUE.items():
        if not timm.is_model(name):
            continue
        theirs, ours = {}, {}
        if not full and any(fnmatch.fnmatch(name, pattern) for pattern in LARGE):
            theirs, ours = SHALLOW.get(row.family, ({}, {}))
        given = TIMM_OPTIONS.get(row.family, {}) | theirs
        second = SECOND.get(row.family, (row.size - 64, row.size + 32))
        second = second(row.size) if callable(second) else second
        sizes = ((row.size, row.size), *([second] if second else []))
        ask = TIMM_ASK.get(row.family, ask_timm)
        yield Pair("timm", name, _timm(name, given), ask, sizes, ours)
    variants: list[tuple[str, dict[str, object], dict[str, object]]] = [
        ("vit_tiny_patch16_224", {"init_values": 0.1}, {"layer_scale": 0.1}),
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg", "fc_norm": False}, {"pool": "avg"}),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, {"pool": "mae"}),
    ]
    for name, theirs, ours in variants:
        family = find(name).family
        build = _timm(name, TIMM_OPTIONS.get(family, {}) | theirs)
        yield Pair("timm", name, build, ask_timm, ((224, 224), SECOND[family]), ours)
    for name in ("efficientnet_b0", "efficientnet_b3", "mobilenetv3_large_100", "mobilenetv3_small_100"):
        yield Pair("timm", name, _timm(f"tf_{name}", {}), ask_timm, ((224, 224), (161, 250)), TENSORFLOW)
    for side in (112, 448):  # windows of other sides; none reaches over an edge, where timm lets queries see zeros
        build = _timm("efficientvit_m0", {"img_size": side})
        yield Pair("timm", "efficientvit_m0", build, ask_timm_efficientvit_ms, ((side, side),))


def _timm(name: str, options: Mapping[str, object]) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES, **options)


# ---------------------------------------------------------------- torchvision


def ask_torchvision_vit(peer: nn.Module, x: Tensor) -> Answer:
    tokens = torch.cat([peer.class_token.expand(len(x), -1, -1), peer._process_input(x)], dim=1)
    tokens = peer.encoder(tokens)
    return Answer(peer.heads(tokens[:, 0]), (plane(tokens[:, 1:], x, peer.patch_size),), tokens[:, 0])


def ask_torchvision_resnet(peer: nn.Module, x: Tensor) -> Answer:
    maps = []
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        x = getattr(peer, name)(x)
        maps.append(x)
    pooled = peer.avgpool(x).flatten(1)
    return Answer(peer.fc(pooled), tuple(maps), pooled)


def ask_torchvision_convnext(peer: nn.Module, x: Tensor) -> Answer:
    maps = []
    for part in peer.features:
        x = part(x)
        maps.append(x)
    pooled = peer.classifier[:2](peer.avgpool(x))
    return Answer(peer.classifier[2](pooled), tuple(maps), pooled)


def ask_torchvision_mobile(peer: nn.Module, x: Tensor) -> Answer:
    maps = []
    for layer in peer.features:
        x = layer(x)
        maps.append(x)
    x = peer.avgpool(x).flatten(1)
    pooled = peer.classifier[:-1](x)
    return Answer(peer.classifier[-1](pooled), tuple(maps), pooled)


def build_torchvision_swin(make: Callable[..., nn.Module]) -> nn.Module:
    """torchvision's Swin without the stochastic depth that it sets by itself."""
    peer = make(num_classes=CLASSES)
    for module in peer.modules():
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
    return peer


def ask_torchvision_swin(peer: nn.Module, x: Tensor) -> Answer:
    maps = []
    for part in peer.features:
        x = part(x)
        maps.append(x.permute(0, 3, 1, 2))
    pooled = peer.norm(x).mean((1, 2))
    return Answer(peer.head(pooled), tuple(maps), pooled)


def torchvision_pairs() -> Iterator[Pair]:
    """The architectures whose torchvision weights people have."""
    tv = torchvision.models
    vit = lambda: tv.VisionTransformer(224, 16, 12, 3, 192, 768, num_classes=CLASSES)  # noqa: E731
    yield Pair("torchvision", "vit_tiny_patch16_224", vit, ask_torchvision_vit, ((224, 224),))
    resnet = lambda: tv.resnet50(num_classes=CLASSES)  # noqa: E731
    yield Pair("torchvision", "resnet50", resnet, ask_torchvision_resnet, ((224, 224), (97, 130)))
    convnext = lambda: tv.convnext_tiny(num_classes=CLASSES, stochastic_depth_prob=0.0)  # noqa: E731
    yield Pair("torchvision", "convnext_tiny", convnext, ask_torchvision_convnext, ((224, 224), (160, 256)))
    for name, make, side in (
        ("swin_tiny_patch4_window7_224", tv.swin_t, 224),
        ("swinv2_tiny_window8_256", tv.swin_v2_t, 256),
    ):
        yield Pair(
            "torchvision",
            name,
            partial(build_torchvision_swin, make),
            ask_torchvision_swin,
            ((side, side), (side, 2 * side)),
        )
    mobiles = [
        ("mobilenetv3_large_100", tv.mobilenet_v3_large, {"dropout": 0.0}, {"eps": 1e-3}),
        ("mobilenetv3_small_100", tv.mobilenet_v3_small, {"dropout": 0.0}, {"eps": 1e-3}),
        ("efficientnet_b0", tv.efficientnet_b0, {"dropout": 0.0, "stochastic_depth_prob": 0.0}, {}),
        ("efficientnet_b2", tv.efficientnet_b2, {"dropout": 0.0, "stochastic_depth_prob": 0.0}, {}),
    ]
    for name, make, still, ours in mobiles:
        build = partial(make, num_classes=CLASSES, **still)
        yield Pair("torchvision", name, build, ask_torchvision_mobile, ((224, 224), (97, 130)), ours)


# ---------------------------------------------------------------- transformers


def ask_transformers_vit(peer: nn.Module, x: Tensor) -> Answer:
    tokens = peer.vit(x).last_hidden_state
    maps = (plane(tokens[:, 1:], x, peer.config.patch_size),)
    return Answer(peer.classifier(tokens[:, 0]), maps, tokens[:, 0])


def ask_transformers_deit(peer: nn.Module, x: Tensor) -> Answer:
    tokens = peer.deit(x).last_hidden_state
    maps = (plane(tokens[:, 2:], x, peer.config.patch_size),)
    return Answer(peer(x).logits, maps, tokens[:, :2].flatten(1))


def ask_transformers_dinov2(peer: nn.Module, x: Tensor) -> Answer:
    tokens = peer.base_model(x).last_hidden_state
    patches = tokens[:, 1 + getattr(peer.config, "num_register_tokens", 0) :]
    pooled = torch.cat([tokens[:, 0], patches.mean(1)], dim=1)
    return Answer(peer(x).logits, (plane(patches, x, peer.config.patch_size),), pooled)


def build_dinov2(registers: bool, options: Mapping[str, object]) -> nn.Module:
    """transformers' DINOv2 for pictures of 70 pixels."""
    hf = transformers
    kind = hf.Dinov2WithRegistersConfig if registers else hf.Dinov2Config
    config = kind(**options, image_size=70, patch_size=14, layer_norm_eps=1e-6, num_labels=CLASSES)
    if not registers:
        return hf.Dinov2ForImageClassification(config)
    peer = hf.Dinov2WithRegistersForImageClassification(config)
    # translated, the class token is the sum of token and position: to be exact, and its gradient to be counted once
    embeddings = peer.dinov2_with_registers.embeddings

    def coarsen(*_: object) -> None:
        for p in (embeddings.cls_token, embeddings.position_embeddings):
            p.data.mul_(4096).round_().div_(4096)

    embeddings.register_forward_pre_hook(coarsen)
    first = torch.arange(5 * 5 + 1)[None, :, None] == 0
    embeddings.position_embeddings.register_hook(lambda g: g.masked_fill(first, 0))
    return peer


def ask_transformers_resnet(peer: nn.Module, x: Tensor) -> Answer:
    out = peer.resnet(x, output_hidden_states=True)
    return Answer(peer.classifier(out.pooler_output), out.hidden_states, out.pooler_output.flatten(1))


def ask_transformers_convnext(peer: nn.Module, x: Tensor) -> Answer:
    out = peer.convnext(x, output_hidden_states=True)
    return Answer(peer.classifier(out.pooler_output), out.hidden_states, out.pooler_output)


def ask_transformers_swin(peer: nn.Module, x: Tensor) -> Answer:
    maps: list[Tensor] = []

    def keep(block: nn.Module, args: object, output: tuple[Tensor, ...]) -> None:
        maps.append(plane(output[0], x, 4 * 2 ** len(maps)))

    hooks = [stage.blocks[-1].register_forward_hook(keep) for stage in peer.base_model.encoder.layers]
    pooled = peer.base_model(x).pooler_output
    for hook in hooks:
        hook.remove()
    return Answer(peer.classifier(pooled), tuple(maps), pooled)


def ask_transformers_mobilevit(peer: nn.Module, x: Tensor) -> Answer:
    out = peer.mobilevit(x.flip(1), output_hidden_states=True)  # its weights see BGR
    maps = (*out.hidden_states, out.last_hidden_state)
    return Answer(peer.classifier(out.pooler_output), maps, out.pooler_output)


def ask_transformers_mobilevitv2(peer: nn.Module, x: Tensor) -> Answer:
    out = peer.mobilevitv2(x, output_hidden_states=True)
    return Answer(peer.classifier(out.pooler_output), out.hidden_states, out.pooler_output)


def ask_transformers_efficientnet(peer: nn.Module, x: Tensor) -> Answer:
    out = peer.efficientnet(x, output_hidden_states=True)
    return Answer(peer.classifier(out.pooler_output), out.hidden_states, out.pooler_output)


def transformers_pairs() -> Iterator[Pair]:
    """The architectures that Hugging Face transformers has too."""
    hf = transformers
    sizes = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
    config = hf.ViTConfig(**sizes, layer_norm_eps=1e-6, num_labels=CLASSES)
    vit = lambda: hf.ViTForImageClassification(config)  # noqa: E731
    # one size only: transformers resamples positions with another bicubic kernel (a = -0.75, no antialiasing) than timm
    yield Pair("transformers", "vit_tiny_patch16_224", vit, ask_transformers_vit, ((224, 224),))
    deit_config = hf.DeiTConfig(**sizes, layer_norm_eps=1e-6, num_labels=CLASSES)
    deit = lambda: hf.DeiTForImageClassificationWithTeacher(deit_config)  # noqa: E731
    yield Pair("transformers", "deit_tiny_distilled_patch16_224", deit, ask_transformers_deit, ((224, 224),))
    small = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
    giant = {"hidden_size": 1536, "num_hidden_layers": 2, "num_attention_heads": 24, "use_swiglu_ffn": True}
    for name, sizes in (("small", small), ("giant", giant)):
        for registers, middle in ((False, ""), (True, "reg4_")):
            ours = {"pool": "both", "depth": sizes["num_hidden_layers"]}
            dinov2 = partial(build_dinov2, registers, sizes)
            model = f"vit_{name}_patch14_{middle}dinov2"
            yield Pair("transformers", model, dinov2, ask_transformers_dinov2, ((70, 70),), ours)
    resnet = lambda: hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=CLASSES))  # noqa: E731
    yield Pair("transformers", "resnet50", resnet, ask_transformers_resnet, ((224, 224), (97, 130)))
    # with its default of 1e-12, the last norm there has another eps than everybody's, the authors' included
    convnext_config = hf.ConvNextConfig(num_labels=CLASSES, layer_norm_eps=1e-6)
    convnext = lambda: hf.ConvNextForImageClassification(convnext_config)  # noqa: E731
    yield Pair("transformers", "convnext_tiny", convnext, ask_transformers_convnext, ((224, 224), (160, 256)))
    # a second size only where every stage shifts at both: theirs does not settle that anew for each picture
    still = {"drop_path_rate": 0.0, "num_labels": CLASSES}
    two = {"embed_dim": 24, "depths": [2, 2], "num_heads": [3, 6]} | still
    ours = {"width": 24, "depths": (2, 2), "heads": (3, 6)}
    swin = lambda given: lambda: hf.SwinForImageClassification(hf.SwinConfig(**given))  # noqa: E731
    name = "swin_tiny_patch4_window7_224"
    yield Pair("transformers", name, swin(still), ask_transformers_swin, ((224, 224),))
    small = swin({"image_size": 112} | two)
    yield Pair("transformers", name, small, ask_transformers_swin, ((112, 112), (168, 224)), ours)
    swinv2 = lambda given: lambda: hf.Swinv2ForImageClassification(hf.Swinv2Config(window_size=8, **given))  # noqa: E731
    name = "swinv2_tiny_window8_256"
    yield Pair("transformers", name, swinv2({"image_size": 256} | still), ask_transformers_swin, ((256, 256),))
    small = swinv2({"image_size": 128} | two)
    yield Pair("transformers", name, small, ask_transformers_swin, ((128, 128), (192, 256)), ours)
    # without dropout, which training mode would draw
    still = {"num_labels": CLASSES, "hidden_dropout_prob": 0.0}
    mobilevit = lambda: hf.MobileViTForImageClassification(hf.MobileViTConfig(**still))  # noqa: E731
    yield Pair("transformers", "mobilevit_s", mobilevit, ask_transformers_mobilevit, ((256, 256), (192, 288)))
    # of this one only sizes with whole patches: it leaves out the last row and column of an odd map
    mobilevitv2 = lambda: hf.MobileViTV2ForImageClassification(hf.MobileViTV2Config(num_labels=CLASSES))  # noqa: E731
    yield Pair("transformers", "mobilevitv2_100", mobilevitv2, ask_transformers_mobilevitv2, ((256, 256), (192, 320)))
    # sizes at which its fixed padding is TensorFlow's; its stochastic depth is another one, element by element; of
    # weights as small as it draws them (0.02) nothing would be left after 16 blocks
    factors = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
    fixed = {"drop_connect_rate": 0.0, "initializer_range": 0.3, "num_labels": CLASSES}
    efficientnet_config = hf.EfficientNetConfig(**factors, **fixed)
    efficientnet = lambda: hf.EfficientNetForImageClassification(efficientnet_config)  # noqa: E731
    both = ((224, 224), (160, 256))
    yield Pair("transformers", "efficientnet_b0", efficientnet, ask_transformers_efficientnet, both, TENSORFLOW)


def plane(tokens: Tensor, image: Tensor, patch: int) -> Tensor:
    """(b, n, d) -> (b, d, h / patch, w / patch)"""
    return tokens.transpose(1, 2).reshape(len(image), -1, image.shape[2] // patch, image.shape[3] // patch)


def pairs(full: bool = False) -> Iterator[Pair]:
    """Every comparison."""
    yield from timm_pairs(full)
    yield from torchvision_pairs()
    yield from transformers_pairs()
