"""The same numbers as timm, torchvision and Hugging Face transformers, from the same weights.

    scripts/peers && .venv-peers/bin/python bench/parity.py [--models PATTERN ...] [--full]

Each peer is built with random weights, every tensor moved away from its special values, and read through
``weights.foreign``. Compared are logits, every stage's map, the pooled vector (float32), and the gradient of every
parameter in training mode (float64), at the size it is built for and, where the peer can, at another. An error is the
largest absolute difference divided by the largest absolute value. The largest models are compared with a few of their
blocks; ``--full`` compares them whole, above 400 million parameters without gradients. Methods that learn without
labels follow, with their losses and gradients (``pretexts.py``). Exits with 1 if an error is above its limit.
"""

from __future__ import annotations

import argparse
import fnmatch
import math
import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, repeat
from multiprocessing import get_context

import torch
import transformers
from pairs import CLASSES, Answer, Pair, pairs
from pretexts import Pretext, distances, pretexts
from torch import Tensor, nn

from vitreous.models import find
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.weights import foreign

FORWARD_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-9
GRADIENTS = 400_000_000  # parameters; of more, both networks with gradients in float64 take over 20 GB
ROUNDING = 1e-13  # of the network's largest gradient: what float64 makes of a zero

warnings.simplefilter("ignore")


def unsettle(peer: nn.Module) -> None:
    """Move every parameter and statistic away from zeros and ones, keeping activations in range."""
    with torch.no_grad():
        for name, t in [*peer.named_parameters(), *peer.named_buffers()]:
            if name.endswith("running_var"):
                t.mul_(torch.rand_like(t) + 0.5)
            elif name.endswith("running_mean") or (isinstance(t, nn.Parameter) and t.is_floating_point()):
                t.add_(torch.randn_like(t) * 0.02)


def error(ours: Tensor, theirs: Tensor, whole: float = 0.0) -> float:
    """Largest absolute difference, relative to the largest absolute value; to ``whole`` where that is mere rounding."""
    largest = float(theirs.double().abs().max())
    scale = largest if largest > ROUNDING * whole else whole
    return float((ours.double() - theirs.double()).abs().max()) / max(scale, 1e-30)


def ask_ours(network: Network, image: Tensor) -> Answer:
    features = network.features(image)
    return Answer(network.head(features), features.maps, features.pooled)


def map_error(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """The worst of our maps, each beside the peer's last one of the same shape.

    Raises:
        ValueError: the peer has no map of that shape.
    """
    worst = 0.0
    for x in ours:
        same = [y for y in theirs if y.shape == x.shape]
        if not same:
            raise ValueError(f"no map of shape {tuple(x.shape)} among {[tuple(y.shape) for y in theirs]}")
        worst = max(worst, error(x, same[-1]))
    return worst


def forward_errors(network: Network, peer: nn.Module, pair: Pair, size: tuple[int, int]) -> list[float]:
    """Errors of logits, maps and pooled vector in evaluation mode, float32."""
    image = torch.rand(2, len(network.config.mean), *size)
    network.eval()
    peer.eval()
    with torch.no_grad():
        ours, theirs = ask_ours(network, image), pair.ask(peer, network.normalise(image))
    pooled = ours.pooled
    if theirs.pooled is not None and theirs.pooled.shape[1] * 2 == pooled.shape[1]:  # they average two tokens
        pooled = torch.stack(pooled.chunk(2, dim=1)).mean(0)
    return [
        float("nan") if theirs.logits is None else error(ours.logits, theirs.logits),
        map_error(ours.maps, theirs.maps),
        float("nan") if theirs.pooled is None else error(pooled, theirs.pooled),
    ]


def gradient_error(network: Network, peer: nn.Module, pair: Pair, size: tuple[int, int]) -> float:
    """The worst error of any parameter's gradient, in training mode, float64."""
    network.double().train()
    peer.double().train()
    normed = any(isinstance(m, nn.BatchNorm2d) for m in network.modules())  # such networks need more than one picture
    image = torch.rand(1 + normed, len(network.config.mean), *size, dtype=torch.float64)
    network.zero_grad()
    peer.zero_grad()
    ours, theirs = ask_ours(network, image), pair.ask(peer, network.normalise(image))
    which = "logits" if theirs.logits is not None else "pooled"
    weight = torch.randn_like(getattr(ours, which))
    (getattr(ours, which) * weight).sum().backward()
    (getattr(theirs, which) * weight).sum().backward()
    mine = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    grads = {n: p.grad if p.grad is not None else torch.zeros_like(p) for n, p in peer.named_parameters()}
    translated = foreign.translate(grads, find(pair.model).family)[1].tensors
    assert set(mine) <= set(translated), set(mine) - set(translated)
    unmoved = [n for n in translated if n not in mine and translated[n].any()]
    assert not unmoved, unmoved
    # a key's bias has no gradient in exact arithmetic, so it is judged with the rest of its qkv tensor; nor has a bias
    # that a batch norm takes away again, so a gradient that is rounding alone is judged by the largest of all
    whole = max(float(g.abs().max()) for g in translated.values())
    worst = max(error(mine[n], translated[n], whole) for n in mine)
    network.float()  # this rounds the gradients as well
    peer.float()
    return worst


def prepare(pair: Pair) -> tuple[Network, nn.Module]:
    """Our network and the peer, with the same unsettled weights."""
    torch.manual_seed(0)
    peer = pair.build()
    unsettle(peer)
    classes = 1 if pair.ask(peer.eval(), torch.rand(1, 3, *pair.sizes[0])).logits is None else CLASSES
    network = build_network(
        NetworkConfig(model=pair.model, classes=classes, size=pair.sizes[0][0], options=dict(pair.options))
    )
    foreign.load(network, peer.state_dict(), keep_head=classes == CLASSES)
    return network, peer


def compare(pair: Pair) -> Iterator[tuple[str, list[float], bool]]:
    """(size, errors, within limits) for each size of one pair; gradients at the size with the fewest pixels."""
    network, peer = prepare(pair)
    smallest = min(pair.sizes, key=lambda size: size[0] * size[1])
    for size in pair.sizes:
        errors = forward_errors(network, peer, pair, size)
        judged = size == smallest and sum(p.numel() for p in peer.parameters()) < GRADIENTS
        gradient = gradient_error(network, peer, pair, size) if judged else float("nan")
        within = all(not e > FORWARD_LIMIT for e in errors) and not gradient > GRADIENT_LIMIT
        yield f"{size[0]}x{size[1]}", [*errors, gradient], within


def control() -> bool:
    """Whether one weight changed by a thousandth is noticed everywhere: the proof that the comparison can fail."""
    pair = next(p for p in pairs() if p.model == "vit_tiny_patch16_224")
    network, peer = prepare(pair)
    size = pair.sizes[1]

    def errors() -> list[float]:
        return [*forward_errors(network, peer, pair, size), gradient_error(network, peer, pair, size)]

    before = errors()
    with torch.no_grad():
        network.backbone.get_parameter("blocks.0.attn.qkv.weight")[-1, 0] += 1e-3
    return all(b > 10 * a and b > 1e-7 for a, b in zip(before, errors(), strict=True))


def measure(place: int, full: bool) -> list[tuple[str, list[float], bool]]:
    """``compare`` for the pair at ``place``: what a process of its own is asked, since pairs do not travel."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    return list(compare(next(islice(pairs(full), place, None))))


def pretext_errors(pretext: Pretext) -> tuple[list[float], bool]:
    """(errors of the loss in float32 and in float64 and of gradients, within limits).

    One weight changed by a thousandth must break both limits in float64, or the comparison could not fail. In float32
    its effect may lie below rounding.
    """
    found, nudged = distances(pretext, unsettle), distances(pretext, unsettle, nudge=1e-3)
    within = found[0] <= FORWARD_LIMIT and all(e <= GRADIENT_LIMIT for e in found[1:])
    return list(found), within and all(e > GRADIENT_LIMIT for e in nudged[1:])


def compare_pretexts(patterns: list[str]) -> Iterator[bool]:
    """Print a line for each method that learns without labels; whether each is within limits."""
    chosen = [p for p in pretexts() if any(fnmatch.fnmatch(p.model, pattern) for pattern in patterns)]
    if chosen:
        print(f"{'peer':13}{'learning without labels':75}    loss float64 gradients")
    for pretext in chosen:
        found, within = pretext_errors(pretext)
        cells = " ".join(f"{e:>8.1e}" for e in found)
        print(f"{'transformers':13}{pretext.model + ' ' + pretext.label:75}{cells}{'' if within else '   TOO FAR'}")
        yield within


def main() -> int:
    """Print a line for each comparison; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["*"], help="only these, as patterns")
    parser.add_argument("--full", action="store_true", help="the largest models whole")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes; the largest pairs take 6 GB each")
    chosen = parser.parse_args()
    wanted = [
        (place, pair)
        for place, pair in enumerate(pairs(chosen.full))
        if any(fnmatch.fnmatch(pair.model, pattern) for pattern in chosen.models)
    ]
    good, count = control(), 0
    if not good:
        print("The comparison did not notice a changed weight: its other answers mean nothing.")
    print(f"largest relative error\n{'peer':13}{'model':66}{'size':9}  logits    maps  pooled  gradients")
    with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("spawn")) as pool:
        results = pool.map(measure, [place for place, _ in wanted], repeat(chosen.full))
        for (_, pair), found in zip(wanted, results, strict=True):
            shown = " ".join([pair.model, *(f"{k}={v}" for k, v in pair.options.items())])
            for size, errors, within in found:
                good &= within
                count += 1
                cells = " ".join(f"{'' if math.isnan(e) else f'{e:.1e}':>7}" for e in errors)
                verdict = "" if within else "   TOO FAR"
                print(f"{pair.library:13}{shown[:65]:66}{size:9} {cells}{verdict}", flush=True)
    methods = list(compare_pretexts(chosen.models))
    good, count = good and all(methods), count + len(methods)
    print(f"{count} comparisons, {'all within' if good else 'NOT all within'} limits")
    return 0 if good and count else 1


if __name__ == "__main__":
    sys.exit(main())
