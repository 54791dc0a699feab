from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitreous.errors import UsageError
from vitreous.models import create
from vitreous.models.describe import describe
from vitreous.models.hybrid import Hybrid, HybridConfig, MapAttention
from vitreous.network import NetworkConfig, build_network
from vitreous.weights import foreign

SMALL = {"widths": (8, 16), "depths": (1, 1), "head_dim": 8, "blocks": 1}


def unsettled(module: nn.Module) -> nn.Module:
    """In evaluation mode, every parameter away from zeros and ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    return module.eval()


def test_attention_is_softmax_with_a_bias_for_each_offset() -> None:
    """Cell by cell, on a map that is not square."""
    heads, side, (h, w) = 2, 3, (2, 3)
    made = MapAttention(8, 4, side)
    made.reset_parameters()
    made, x = unsettled(made).double(), torch.randn(2, 8, h, w, dtype=torch.float64)
    plane = made.bias.reshape(1, 2 * side - 1, 2 * side - 1, heads).permute(0, 3, 1, 2)
    plane = F.interpolate(plane.float(), (2 * h - 1, 2 * w - 1), mode="bicubic", antialias=True)[0]
    cells = list(itertools.product(range(h), range(w)))
    with torch.no_grad():
        q, k, v = made.qkv(x).flatten(2).unflatten(1, (3, heads, 4)).unbind(1)  # (b, heads, 4, n)
        scores = torch.einsum("bhci,bhcj->bhij", q, k) / 2
        for (i, (y, c)), (j, (r, s)) in itertools.product(enumerate(cells), repeat=2):
            scores[:, :, i, j] += plane[:, y - r + h - 1, c - s + w - 1]
        expected = torch.einsum("bhij,bhcj->bhci", scores.softmax(-1), v).reshape(2, 8, h, w)
        assert torch.allclose(made(x), made.proj(expected), atol=1e-6)


@pytest.mark.parametrize(("built", "seen"), [(16, 32), (32, 16)])
def test_built_for_another_size_it_answers_as_the_first_does_there(built: int, seen: int) -> None:
    one, two = (NetworkConfig(model="hybrid_tiny_32", classes=3, size=side, options=SMALL) for side in (built, seen))
    one, two = unsettled(build_network(one)), build_network(two).eval()
    told = foreign.load(two, one.state_dict()).resampled
    assert [what.partition(" ")[0] for what in told] == ["backbone.blocks.0.mix.bias"]
    picture = torch.rand(2, 3, seen, seen)
    with torch.no_grad():
        assert torch.allclose(two(picture), one(picture), atol=1e-5)
    table, side = one.backbone.blocks[0].mix.bias, built - 1
    plane = table.T.reshape(1, -1, side, side)
    stretched = F.interpolate(plane, (seen - 1, seen - 1), mode="bicubic", antialias=True).flatten(2)[0].T
    assert torch.allclose(two.backbone.blocks[0].mix.bias, stretched, atol=1e-6)


@pytest.mark.parametrize("name", [f"hybrid_{width}_{px}" for width in ("tiny", "small") for px in (32, 64, 96, 224)])
def test_the_twin_without_attention_costs_the_same(name: str) -> None:
    macs = {mixer: describe(name, options={"mixer": mixer}).macs for mixer in ("attention", "conv", "none")}
    trunk = describe(name, options={"blocks": 0}).macs
    assert macs["conv"] == pytest.approx(macs["attention"], abs=1e-3 * (macs["attention"] - trunk))
    assert trunk < macs["none"] < macs["attention"]


def test_they_are_as_large_as_they_say() -> None:
    assert describe("hybrid_tiny_32", classes=10).params == 466_304
    assert describe("hybrid_small_32", classes=10).params == 1_853_174


@pytest.mark.parametrize("mixer", ["attention", "conv", "none"])
def test_it_begins_as_its_trunk(mixer: str) -> None:
    network, x = create("hybrid_tiny_32", options={**SMALL, "mixer": mixer}), torch.randn(2, 16, 4, 4)
    assert isinstance(network, Hybrid) and torch.equal(network.blocks(x), x)
    trunk = [m for m in network.stages.modules() if isinstance(m, nn.BatchNorm2d)]
    assert trunk and all(bool((norm.weight == 1).all()) for norm in trunk)
    with torch.no_grad():
        assert not torch.equal(unsettled(network.blocks)(x), x)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"widths": ()}, "as many depths as widths"),
        ({"depths": (1,)}, "as many depths as widths"),
        ({"size": 0}, "at least 1"),
        ({"head_dim": 0}, "at least 1"),
        ({"depths": (1, 0)}, "at least 1"),
        ({"depths": (-1, 1)}, "0 or more"),
        ({"halvings": -1}, "0 or more"),
        ({"head_dim": 5}, "Width 16 is not a multiple of head_dim 5"),
        ({"mlp_ratio": 0.01}, "without channels"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        HybridConfig(**SMALL | wrong)
