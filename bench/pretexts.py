"""MAE and SimMIM beside transformers': the same weights, pictures and mask must give the same loss and gradients.

Losses are compared in float32, losses and the gradient of every parameter in float64. ``parity.py`` prints the rows.
What transformers answers to weights that anybody can make again is kept for tests that have no transformers:

    .venv-peers/bin/python bench/pretexts.py > tests/tasks/pretexts.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import AugmentConfig
from vitreous.network import NetworkConfig, build_network
from vitreous.tasks.mae import Mae, MaeConfig
from vitreous.tasks.simmim import Simmim, SimmimConfig
from vitreous.tasks.task import SelfSupervised
from vitreous.types import Batch
from vitreous.weights import foreign

SIZE, PICTURES = 64, 3
WIDTHS = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 384}
VIT = {"width": 96, "depth": 2, "heads": 3}
SWIN = {"width": 24, "depths": (2, 2), "heads": (3, 6), "window": 4}


class Pretext(NamedTuple):
    """One method on one of our models, its peer, and how to ask the peer for its loss of pictures and a mask."""

    model: str
    label: str
    options: dict[str, Any]
    method: MaeConfig | SimmimConfig
    patches: int  # that the mask decides about
    build: Callable[[], nn.Module]
    ask: Callable[[nn.Module, Tensor, Tensor], Tensor]


def ask_mae(peer: nn.Module, image: Tensor, hidden: Tensor) -> Tensor:
    return peer(image, noise=hidden.float()).loss  # the largest noise is hidden


def ask_simmim(peer: nn.Module, image: Tensor, hidden: Tensor) -> Tensor:
    pixels = hidden.sum() * image[0, 0].numel() / hidden.shape[1]
    return peer(image, bool_masked_pos=hidden).loss * (pixels + 1e-5) / pixels  # their denominator has so much more


def pretexts() -> Iterator[Pretext]:
    """Every comparison."""
    decoder = {
        f"decoder_{name}": value for name, value in (WIDTHS | {"hidden_size": 48, "intermediate_size": 192}).items()
    }
    mae = WIDTHS | decoder | {"image_size": SIZE, "patch_size": 16, "layer_norm_eps": 1e-6}
    for normalise in (True, False):
        yield Pretext(
            "vit_tiny_patch16_224",
            f"mae normalise={normalise}",
            VIT,
            MaeConfig(width=48, depth=2, heads=3, normalise=normalise),
            16,
            partial(theirs, "ViTMAEForPreTraining", "ViTMAEConfig", **mae, norm_pix_loss=normalise),
            ask_mae,
        )
    vit = WIDTHS | {"image_size": SIZE, "patch_size": 16, "encoder_stride": 16, "layer_norm_eps": 1e-6}
    build = partial(theirs, "ViTForMaskedImageModeling", "ViTConfig", **vit)
    yield Pretext("vit_tiny_patch16_224", "simmim on ViT", VIT, SimmimConfig(unit=16), 16, build, ask_simmim)
    two = {"embed_dim": 24, "depths": [2, 2], "num_heads": [3, 6], "window_size": 4, "encoder_stride": 8}
    swin = two | {"image_size": SIZE, "drop_path_rate": 0.0}
    build = partial(theirs, "SwinForMaskedImageModeling", "SwinConfig", **swin)
    model = "swin_tiny_patch4_window7_224"
    yield Pretext(model, "simmim on Swin", SWIN, SimmimConfig(unit=4), 256, build, ask_simmim)


def theirs(model: str, config: str, **values: Any) -> nn.Module:
    """A model of transformers, which is imported only now."""
    import peers  # noqa: F401 - before torchvision, which transformers imports
    import transformers

    found: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**values))
    return found


class Unwatched:
    """Nobody looks: ``tasks.task.Watch``."""

    def __call__(self, *_: object) -> dict[str, float]:
        return {}

    def halted(self) -> str:
        return ""

    def metric(self, task: SelfSupervised) -> str:
        return ""


def translated(peer: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """Tensors of a peer, weights or gradients, under the names of our task."""
    ours = {f"network.{name}": t for name, t in foreign.translate(peer, family)[1].tensors.items()}
    names = (
        (r"decoder\.mask_token|\w+\.embeddings\.mask_token", "hidden"),
        (r"decoder\.decoder_embed\.(.+)", r"embed.\1"),
        (r"decoder\.decoder_norm\.(.+)", r"norm.\1"),
        (r"decoder\.(?:decoder_pred|0)\.(.+)", r"paint.\1"),
    )
    for name, tensor in peer.items():
        for pattern, replacement in names:
            if re.fullmatch(pattern, name):
                found = re.sub(pattern, replacement, name)
                ours[found] = tensor.flatten() if found == "hidden" else tensor
    # blocks of the decoder have the names of the encoder's
    blocks = {n.replace("decoder.decoder_", "vit."): t for n, t in peer.items() if n.startswith("decoder.decoder_l")}
    if blocks:
        first = {name: t for name, t in peer.items() if ".embeddings." in name}
        named = foreign.translate(first | blocks, family)[1].tensors
        ours |= {n.removeprefix("backbone."): t for n, t in named.items() if n.startswith("backbone.blocks.")}
    return ours


def made(pretext: Pretext) -> SelfSupervised:
    """Our task, in training mode."""
    network = build_network(NetworkConfig(model=pretext.model, size=SIZE, classes=2, options=pretext.options))
    given = (Preprocess(size=SIZE, store=SIZE), AugmentConfig(), Unwatched())
    method = pretext.method
    task = Mae(network, method, *given) if isinstance(method, MaeConfig) else Simmim(network, method, *given)
    return task.train()


@torch.no_grad()
def prepare(pretext: Pretext, unsettle: Callable[[nn.Module], None]) -> tuple[SelfSupervised, nn.Module]:
    """Our task and the peer, with the same unsettled weights."""
    torch.manual_seed(0)
    peer = pretext.build().train()
    unsettle(peer)
    task = made(pretext)
    if isinstance(task, Mae):
        peer.decoder.decoder_pos_embed[:, 0].zero_()  # as it always is: the class token stands nowhere
    load(task, peer.state_dict())
    return task, peer


@torch.no_grad()
def load(task: SelfSupervised, theirs: dict[str, Tensor]) -> None:
    """Give the task a peer's weights, and positions that are fixed where theirs are."""
    weights = translated(theirs, task.network.config.model.partition("_")[0])
    missing, unexpected = task.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    left = [
        n for n in missing if not n.startswith(("network.head.", "network.mean", "network.std", "steps", "nothing"))
    ]
    assert not left, left
    if isinstance(task, Mae):
        task.position.copy_(theirs["decoder.decoder_pos_embed"][:, 1:])
        task.network.backbone.pos_embed.requires_grad_(False)


def distances(
    pretext: Pretext, unsettle: Callable[[nn.Module], None], nudge: float = 0.0
) -> tuple[float, float, float]:
    """Relative errors: of the loss in float32, of the loss in float64, and of the worst parameter's gradient there.

    Args:
        nudge: is added to one of our weights, to see that it is noticed.
    """
    task, peer = prepare(pretext, unsettle)
    with torch.no_grad():
        task.hidden[0] += nudge
    n = pretext.patches
    hidden = torch.rand(PICTURES, n).argsort(dim=1) >= n // 4
    batch = Batch(torch.rand(PICTURES, 3, SIZE, SIZE), torch.zeros(PICTURES), torch.zeros(PICTURES), hidden=hidden)

    def both() -> tuple[Tensor, Tensor]:
        return task.loss(batch).total, pretext.ask(peer, task.network.normalise(batch.image), hidden)

    single = apart(*both())
    task.double()
    peer.double()
    batch = batch._replace(image=batch.image.double())
    ours, theirs = both()
    ours.backward()
    theirs.backward()
    wanted = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in peer.named_parameters()}
    gradients = translated(wanted, pretext.model.partition("_")[0])
    mine = {n: p.grad for n, p in task.named_parameters() if p.grad is not None}
    assert set(mine) <= set(gradients), set(mine) - set(gradients)
    unmoved = [n for n in gradients if n not in mine and gradients[n].any()]
    assert not unmoved, unmoved
    return single, apart(ours, theirs), max(apart(mine[n], gradients[n]) for n in mine)


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference over the largest absolute value."""
    difference = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-30)
    return float(difference.detach())


@torch.no_grad()
def known(pretext: Pretext) -> tuple[SelfSupervised, Batch]:
    """Our task in float64, and a batch: the same with every version, as NumPy's old generator never changes."""
    task, random, n = made(pretext).double(), np.random.RandomState(0), pretext.patches
    for _, tensor in sorted(task.named_parameters()):
        tensor.copy_(torch.from_numpy(random.uniform(-0.2, 0.2, tensor.shape)))
    image = torch.from_numpy(random.uniform(0, 1, (PICTURES, 3, SIZE, SIZE)))
    hidden = torch.from_numpy(random.uniform(0, 1, (PICTURES, n)).argsort(axis=1) >= n // 4)
    return task, Batch(image, torch.zeros(PICTURES), torch.zeros(PICTURES), hidden=hidden)


@torch.no_grad()
def hand_over(task: SelfSupervised, peer: nn.Module) -> None:
    """Give the peer our weights; where each number of its lands among ours is found by counting them through."""
    state, ours = peer.state_dict(), task.state_dict()
    flat = torch.cat([tensor.double().flatten() for tensor in state.values()])
    sizes = [tensor.numel() for tensor in state.values()]

    def named() -> dict[str, Tensor]:
        parts = zip(state.items(), flat.split(sizes), strict=True)
        return {name: part.view(tensor.shape) for (name, tensor), part in parts}

    values, flat = flat, torch.arange(len(flat), dtype=torch.float64)
    for name, places in translated(named(), task.network.config.model.partition("_")[0]).items():
        values[places.long().flatten()] = ours[name].flatten()
    flat = values
    peer.load_state_dict(named())
    if isinstance(task, Mae):  # which axis comes first is a matter of taste
        peer.decoder.decoder_pos_embed[:, 1:].copy_(task.position)


def kept(pretext: Pretext) -> dict[str, Any]:
    """What the peer answers to ``known`` weights and pictures: its loss, and norms of every fifth gradient."""
    (task, batch), peer = known(pretext), pretext.build().train().double()
    hand_over(task, peer)
    assert batch.hidden is not None
    loss = pretext.ask(peer, task.network.normalise(batch.image), batch.hidden)
    loss.backward()
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in peer.named_parameters()}
    gradients = sorted(translated(found, pretext.model.partition("_")[0]).items())
    return {"loss": float(loss.detach()), "gradients": {n: float(g.norm()) for n, g in gradients[::5] if g.any()}}


if __name__ == "__main__":
    print(json.dumps({pretext.label: kept(pretext) for pretext in pretexts()}, indent=1))
