"""Named tensors to safetensors files and back, checked: no pickle, no silent damage, no half-fitting weights.

Knows nothing of runs or checkpoints. Neither torch nor safetensors notices a flipped bit, so whoever writes a file
here keeps the SHA-256 it gets and hands it back when reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from vitreous.errors import DamagedFile, UsageError
from vitreous.store.files import write_atomic


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> dict[str, int | str]:
    """Write ``tensors`` atomically and return ``{"bytes", "sha256"}`` of the file.

    Equal tensors under equal names give equal bytes. Tensors that share memory are stored once each.

    Args:
        about: a note for whoever reads the file. One, because the format writes several in any order.

    Raises:
        NoSpace: the disk is full.
    """
    data = safetensors.torch.save(_separate(tensors), dict(about or {"format": "pt"}))
    write_atomic(path, data)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of ``path`` on the CPU; with ``sha256`` only if the file is exactly the one that was written.

    Raises:
        DamagedFile: missing, cut short, changed, or not safetensors.
    """
    try:
        data = path.read_bytes()  # read once: what is checked is what is parsed
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing.") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise DamagedFile(f"{path} is not what was written: it was changed or cut short.")
    try:
        return safetensors.torch.load(data)
    # the parser's own error, and what torch says of impossible shapes and unknown types
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError, TypeError, OverflowError) as error:
        raise DamagedFile(f"{path} is not a sound safetensors file ({error}).") from None


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy ``tensors`` into ``module``; every name and shape must fit, and every number must be finite.

    Raises:
        UsageError: names are missing or left over, or shapes differ; names them all.
        DamagedFile: a weight is NaN or infinite.
    """
    wanted = module.state_dict()
    problems = [f"{n} is missing" for n in wanted if n not in tensors]
    problems += [f"{n} is not known" for n in tensors if n not in wanted]
    problems += [
        f"{n} is {tuple(t.shape)} and should be {tuple(wanted[n].shape)}"
        for n, t in tensors.items()
        if n in wanted and t.shape != wanted[n].shape
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise UsageError(f"The weights of {origin} do not fit this network: {shown}.")
    require_finite(tensors, origin)
    module.load_state_dict(dict(tensors))


def require_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        DamagedFile: names the first tensor that holds one.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DamagedFile(f"{origin} holds NaN or infinity in {name}; its weights cannot be used, train it again.")


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and no two in the same memory, as the format wants."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        separate[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return separate
