"""Files of weights to named tensors. Nothing is executed from a file, and there is no way round that."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vitreous.errors import DamagedWeights, Unfit, UsageError, VitreousError

SAFETENSORS = ".safetensors"
SAVED_BY_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar")


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of one that torch saved, on the CPU, under the names they have there.

    Raises:
        UsageError: no such file, or another kind of file.
        Unfit: nothing in it is a set of weights.
        DamagedWeights: the file is truncated or broken, or holds more than tensors and is not trusted.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"weights must be the path of a file, not {path!r}.")
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the file of weights in it, such as {path / 'model.safetensors'}.")
    if not path.is_file():
        raise UsageError(f"There is no file {path}; check the path of the weights.")
    suffix = path.suffix.lower()
    if suffix == SAFETENSORS:
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, ValueError, OSError) as error:
            raise DamagedWeights(f"{path} is not a whole safetensors file ({error}); fetch it again.") from None
    if suffix not in SAVED_BY_TORCH:
        raise UsageError(f"{path} must end in .safetensors or {', '.join(SAVED_BY_TORCH)}; rename or convert it.")
    with path.open("rb") as file:
        head = file.read(9)
        if head[8:] == b"{":  # where that format has its header, after 8 bytes of length
            raise Unfit(f"{path} is a safetensors file by its contents; call it {path.with_suffix(SAFETENSORS).name}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a strange protocol either loads or raises
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a broken file raises is anybody's guess, and torch's advice is to trust it
        raise DamagedWeights(_why_unread(path, head, str(error))) from None
    return _unwrap(content, path)


def _why_unread(path: Path, head: bytes, said: str) -> str:
    """What torch's restricted unpickler has ``said``, as a sentence with a remedy."""
    asked = re.search(r"GLOBAL:? ([\w.]+)", said)
    cut = not head.startswith(b"\x80") and not zipfile.is_zipfile(path)  # torch takes half an archive for a pickle
    if asked is None and (cut or "Unsupported" not in said):
        return f"{path} is cut short or broken; fetch it again."
    what = f"asks for {asked[1]}" if asked else "holds more than tensors"
    return (
        f"{path} {what}, and nothing in a file of weights is executed here; save the model's state_dict() as "
        "safetensors where you trust it, or take another file."
    )


def constants(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation of the pixels that one of our own files states beside its weights; None if it does not."""
    try:
        return constants_among(read(path))
    except VitreousError:
        return None  # whoever reads the weights says what is wrong with them


def constants_among(tensors: Mapping[str, Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation of the pixels among weights; None if they are not there."""
    if not {"mean", "std"} <= set(tensors):
        return None
    mean, std = (tuple(round(v, 6) for v in tensors[k].float().flatten().tolist()) for k in ("mean", "std"))
    return mean, std


def note(path: Path, key: str) -> str | None:
    """What a safetensors file says beside its tensors under ``key``; None if it does not."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(key)
    except (safetensors.SafetensorError, OSError):
        return None  # another kind of file


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict inside the usual envelopes."""
    for envelope in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(envelope), Mapping):
            content = content[envelope]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise Unfit(f"{path} holds no plain set of weights; save the model's state_dict() and load that.")
    refuse_unreadable(content, str(path))
    return dict(content)


def refuse_unreadable(tensors: Mapping[Any, Tensor], place: str) -> None:
    """Raise Unfit unless every tensor has a name and one number in memory for each of its entries."""
    unnamed = [key for key in tensors if not isinstance(key, str)]
    if unnamed:
        raise Unfit(f"{place} holds tensors that have no names ({unnamed[0]!r}); save a model's state_dict().")
    odd = [k for k, t in tensors.items() if t.layout != torch.strided or t.is_meta or t.is_quantized or t.is_nested]
    if odd:
        raise Unfit(
            f"{place} holds sparse, nested, quantised or empty (meta) tensors, {odd[0]} among them; save dense ones.",
            odd,
        )
