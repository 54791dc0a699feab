"""Other people's weights in our names: timm, torchvision, Hugging Face, CIFAR ResNets, and our own earlier runs.

Every tensor of the file and every tensor of the network is accounted for; what does not fit is refused by name. Nothing
is executed from a file: safetensors, or .pt and .pth with ``weights_only=True`` and no way round it. Knows nothing of
where files come from.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vitreous.errors import DamagedFile, UsageError
from vitreous.layers.position import resample

Tensors = Mapping[str, Tensor]
Rules = tuple[tuple[str, str], ...]

_TV = r"encoder\.layers\.encoder_layer_(\d+)\."
_HF = r"(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\."
_HR = r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\."
_BLOCK = r"backbone.blocks.\1."

DIALECTS: dict[str, tuple[str, Rules]] = {
    # name: (a key that only this dialect has, (their key, ours)...); "#k" marks the k-th part of a joined tensor
    "vitreous": (
        r"backbone\..+",
        ((r"(backbone\..+|head\..+|mean|std)", r"\1"),),
    ),
    "timm ViT": (
        r"patch_embed\.proj\.weight",
        (
            (r"((?:cls_token|pos_embed|patch_embed\.|blocks\.|norm\.).*)", r"backbone.\1"),
            (r"head\.(weight|bias)", r"head.fc.\1"),
        ),
    ),
    "torchvision ViT": (
        r"conv_proj\.weight",
        (
            (r"class_token", r"backbone.cls_token"),
            (r"encoder\.pos_embedding", r"backbone.pos_embed"),
            (r"conv_proj\.(.+)", r"backbone.patch_embed.proj.\1"),
            (_TV + r"ln_([12])\.(.+)", _BLOCK + r"norm\2.\3"),
            (_TV + r"self_attention\.in_proj_(.+)", _BLOCK + r"attn.qkv.\2"),
            (_TV + r"self_attention\.out_proj\.(.+)", _BLOCK + r"attn.proj.\2"),
            (_TV + r"mlp\.(?:0|linear_1)\.(.+)", _BLOCK + r"mlp.fc1.\2"),
            (_TV + r"mlp\.(?:3|linear_2)\.(.+)", _BLOCK + r"mlp.fc2.\2"),
            (r"encoder\.ln\.(.+)", r"backbone.norm.\1"),
            (r"heads\.head\.(.+)", r"head.fc.\1"),
        ),
    ),
    "Hugging Face ViT": (
        r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.weight",
        (
            (r"(?:vit\.)?embeddings\.cls_token", r"backbone.cls_token"),
            (r"(?:vit\.)?embeddings\.position_embeddings", r"backbone.pos_embed"),
            (r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.(.+)", r"backbone.patch_embed.proj.\1"),
            (_HF + r"layernorm_before\.(.+)", _BLOCK + r"norm1.\2"),
            (_HF + r"layernorm_after\.(.+)", _BLOCK + r"norm2.\2"),
            (_HF + r"attention\.(?:attention\.query|q_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#0"),
            (_HF + r"attention\.(?:attention\.key|k_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#1"),
            (_HF + r"attention\.(?:attention\.value|v_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#2"),
            (_HF + r"attention\.(?:output\.dense|o_proj)\.(.+)", _BLOCK + r"attn.proj.\2"),
            (_HF + r"(?:intermediate\.dense|mlp\.fc1)\.(.+)", _BLOCK + r"mlp.fc1.\2"),
            (_HF + r"(?:output\.dense|mlp\.fc2)\.(.+)", _BLOCK + r"mlp.fc2.\2"),
            (r"(?:vit\.)?layernorm\.(.+)", r"backbone.norm.\1"),
            (r"classifier\.(.+)", r"head.fc.\1"),
        ),
    ),
    "Hugging Face ResNet": (
        r"(?:resnet\.)?embedder\.embedder\.convolution\.weight",
        (
            (r"(?:resnet\.)?embedder\.embedder\.convolution\.(.+)", r"backbone.conv1.\1"),
            (r"(?:resnet\.)?embedder\.embedder\.normalization\.(.+)", r"backbone.bn1.\1"),
            (_HR + r"shortcut\.convolution\.(.+)", r"backbone.layer\1+.\2.downsample.0.\3"),
            (_HR + r"shortcut\.normalization\.(.+)", r"backbone.layer\1+.\2.downsample.1.\3"),
            (_HR + r"layer\.(\d)\.convolution\.(.+)", r"backbone.layer\1+.\2.conv\3+.\4"),
            (_HR + r"layer\.(\d)\.normalization\.(.+)", r"backbone.layer\1+.\2.bn\3+.\4"),
            (r"classifier\.1\.(.+)", r"head.fc.\1"),
        ),
    ),
    "ResNet": (  # torchvision, timm and the CIFAR networks of akamaster/pytorch_resnet_cifar10
        r"layer1\.0\.conv1\.weight",
        (
            (r"((?:conv1|bn1|layer\d)\..+)", r"backbone.\1"),
            (r"(?:fc|linear)\.(weight|bias)", r"head.fc.\1"),
        ),
    ),
}


class Loaded(NamedTuple):
    """What ``load`` did."""

    dialect: str
    tensors: int  # how many of the network's tensors came from the file
    dropped: tuple[str, ...]  # keys of the file left out because a new head was asked for
    resampled: tuple[int, int] | None  # positions: side of the file's grid and of the network's, where they differ


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt or .pth file, on the CPU, under the names they have there.

    Raises:
        UsageError: no such file, another kind of file, or nothing in it that is a set of weights.
        DamagedFile: the file is truncated or broken, or holds more than tensors and is not trusted.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"There is no file {path}; check the path of the weights.")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, ValueError, OSError) as error:
            raise DamagedFile(f"{path} is not a whole safetensors file ({error}); fetch it again.") from None
    if path.suffix not in (".pt", ".pth"):
        raise UsageError(f"{path} must end in .safetensors, .pt or .pth; convert it first.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a strange protocol either loads or raises
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a broken or hostile file raises is anybody's guess
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise DamagedFile(
            f"{path} is broken or holds more than tensors ({reason}); fetch it again or convert it to safetensors."
        ) from None
    return _unwrap(content, path)


def translate(tensors: Tensors) -> tuple[str, dict[str, Tensor]]:
    """(dialect, the same tensors under our names: ``backbone.*`` and ``head.*``).

    Raises:
        UsageError: no dialect is recognised, or keys that the dialect does not explain; they are named.
    """
    tensors = _without_prefix(tensors)
    dialect = next((d for d, (key, _) in DIALECTS.items() if any(re.fullmatch(key, k) for k in tensors)), None)
    if dialect is None:
        raise UsageError(f"These weights are of no architecture known here: they begin with {_list(tensors)}.")
    ours: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in tensors.items():
        name = _rename(key, DIALECTS[dialect][1])
        if name is None:
            unknown.append(key)
        else:
            ours[name] = tensor
    if unknown:
        raise UsageError(f"These {dialect} weights have parts this architecture lacks: {_list(unknown)}.")
    return dialect, _joined(ours)


def load(network: nn.Module, source: str | Path | Tensors, *, keep_head: bool = True) -> Loaded:
    """Put foreign weights into ``network`` (a ``Network``: ``backbone`` and ``head.fc``), in place, all or nothing.

    Positions of another grid are resampled: bicubic with antialias, prefix token kept. Without ``keep_head`` the
    network's own classifier stays as it is. Counters of batches, which older files lack, may be missing.

    Raises:
        UsageError: the weights belong to another architecture or number of classes; every key is named.
        DamagedFile: the file is broken, or holds values that are not numbers.
    """
    tensors = source if isinstance(source, Mapping) else read(source)
    broken = [key for key, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise DamagedFile(f"The weights hold values that are not finite numbers in {_list(broken)}; fetch them again.")
    dialect, theirs = translate(tensors)
    own = network.state_dict()
    dropped = () if keep_head else tuple(key for key in theirs if key.startswith("head."))
    theirs = {key: t for key, t in theirs.items() if key not in dropped}
    resampled = _fit_positions(theirs, own)
    wanted = own if keep_head else {key: t for key, t in own.items() if not key.startswith("head.")}
    _refuse_misfits(dialect, theirs, wanted)
    network.load_state_dict(own | theirs)
    return Loaded(dialect, len(theirs), dropped, resampled)


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside the usual envelopes."""
    for envelope in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(envelope), Mapping):
            content = content[envelope]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise UsageError(f"{path} holds no plain set of weights; save the model's state_dict() and load that.")
    return dict(content)


def _without_prefix(tensors: Tensors) -> Tensors:
    """Names without what parallel and compiled wrappers put before all of them."""
    for prefix in ("module.", "_orig_mod."):
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): t for key, t in tensors.items()}
    return tensors


def _rename(key: str, rules: Rules) -> str | None:
    for theirs, ours in rules:
        match = re.fullmatch(theirs, key)
        if match:
            # "1+" is an index that they count from 0 and we count from 1
            return re.sub(r"(\d+)\+", lambda m: str(int(m[1]) + 1), match.expand(ours))
    return None


def _joined(tensors: Tensors) -> dict[str, Tensor]:
    """Parts ``name#0``, ``name#1``, ``name#2`` as one tensor ``name``; an incomplete set keeps its odd names."""
    whole = {key: t for key, t in tensors.items() if "#" not in key}
    for name in dict.fromkeys(key.partition("#")[0] for key in tensors if "#" in key):
        parts = {key: tensors[key] for key in (f"{name}#{i}" for i in range(3)) if key in tensors}
        whole |= {name: torch.cat(list(parts.values()))} if len(parts) == 3 else parts
    return whole


def _fit_positions(theirs: dict[str, Tensor], own: Tensors) -> tuple[int, int] | None:
    """Resample their positions to the network's grid, in place, if both grids are squares."""
    name = "backbone.pos_embed"
    if name not in theirs or name not in own or theirs[name].ndim != 3 or theirs[name].shape == own[name].shape:
        return None
    prefix = int("backbone.cls_token" in own)
    old, new = (math.isqrt(max(table.shape[1] - prefix, 0)) for table in (theirs[name], own[name]))
    if old == 0 or prefix + old * old != theirs[name].shape[1] or prefix + new * new != own[name].shape[1]:
        return None
    theirs[name] = resample(theirs[name], (old, old), (new, new))
    return old, new


def _refuse_misfits(dialect: str, theirs: Tensors, wanted: Tensors) -> None:
    """Raise UsageError unless names and shapes agree."""
    optional = ("mean", "std")
    missing = [k for k in wanted if k not in theirs and k not in optional and not k.endswith("num_batches_tracked")]
    extra = [k for k in theirs if k not in wanted]
    shapes = [
        f"{k} {tuple(theirs[k].shape)} instead of {tuple(wanted[k].shape)}"
        for k in theirs
        if k in wanted and theirs[k].shape != wanted[k].shape
    ]
    constants = [k for k in optional if k in theirs and not torch.allclose(theirs[k].float(), wanted[k].float())]
    if shapes and not missing and not extra and all(text.startswith("head.fc.") for text in shapes):
        raise UsageError(
            f"The weights are for {theirs['head.fc.bias'].shape[0]} classes and the network for "
            f"{wanted['head.fc.bias'].shape[0]}; load them without their head (keep_head=False)."
        )
    problems = [
        f"{what}: {_list(found)}"
        for what, found in (
            ("missing", missing),
            ("not in this network", extra),
            ("of another shape", shapes),
            ("trained with other preprocessing", constants),
        )
        if found
    ]
    if problems:
        raise UsageError(
            f"These {dialect} weights do not fit; choose the model they were made for. {'; '.join(problems)}."
        )


def _list(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
