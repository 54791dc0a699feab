from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.layers.position import resample, sincos1d
from vitreous.models import CATALOGUE, create
from vitreous.models.cct import CCT, CCTConfig
from vitreous.models.describe import describe

ROWS = [name for name, row in CATALOGUE.items() if row.family == "cct"]


def tiny(**more: object) -> CCT:
    torch.manual_seed(0)
    return CCT(CCTConfig(**{"size": 16, "width": 16, "depth": 2, "heads": 2} | more)).eval()


def reference(cct: CCT, x: Tensor) -> tuple[Tensor, Tensor]:
    """(tokens after the last norm, pooled) of one picture by section 3, from the same tensors, head by head."""
    tensors, config = cct.state_dict(), cct.config
    stride, heads, d = (2 if config.kernel == 7 else 1), config.heads, config.width

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", 0)

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    for i in range(config.convolutions):
        x = F.conv2d(x, tensors[f"tokenizer.{i}.conv.weight"], stride=stride, padding=config.kernel // 2)
        x = F.max_pool2d(F.relu(x), 3, 2, 1)
    x = x.view(d, -1).T + tensors["pos_embed"][0]  # (n, d)
    for block in (f"blocks.{i}" for i in range(config.depth)):
        q, k, v = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, dim=1)
        answers = []
        for head in range(heads):
            part = slice(head * d // heads, (head + 1) * d // heads)
            scores = (q[:, part] @ k[:, part].T / math.sqrt(d / heads)).exp()
            answers.append(scores / scores.sum(1, keepdim=True) @ v[:, part])
        x = norm(x + linear(torch.cat(answers, 1), f"{block}.attn.proj"), f"{block}.norm2")
        hidden = linear(x, f"{block}.mlp.fc1")
        x = x + linear(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, f"{block}.mlp.fc2")
    x = norm(x, "norm")
    weights = linear(x, "pool.score").exp()  # (n, 1)
    return x, (weights * x).sum(0) / weights.sum()


@pytest.mark.parametrize("name", ROWS)
def test_equals_the_paper_step_by_step(name: str) -> None:
    torch.manual_seed(0)
    row = CATALOGUE[name]
    cct = create(name, size=32 if row.size == 32 else 64, options={"depth": 2}).double().eval()
    with torch.no_grad():
        for p in cct.parameters():
            p.add_(0.05 * torch.randn_like(p))
        image = torch.randn(2, 3, cct.config.size, cct.config.size, dtype=torch.float64)
        features = cct(image)
        for i in range(2):
            tokens, pooled = reference(cct, image[i])
            torch.testing.assert_close(features.maps[0][i].flatten(1).T, tokens, atol=1e-10, rtol=1e-10)
            torch.testing.assert_close(features.pooled[i], pooled, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", ROWS)
def test_parameters_follow_the_closed_form(name: str) -> None:
    """k^2 (3 D, or 3 * 64 + 64 D) + N D + L (4 D^2 + D + 2 r D^2 + (r + 1) D + 4 D) + 2 D + D.

    One less than in the authors' code, which gives the scores of the pooling a bias.
    """
    with torch.device("meta"):
        cct = create(name)
    c = cct.config
    d, r = c.width, int(c.mlp_ratio)
    kernels = c.kernel**2 * (3 * d if c.convolutions == 1 else 3 * 64 + 64 * d)
    n = {32: 16 if c.convolutions == 1 else 8, 224: 14, 384: 24}[c.size] ** 2
    block = 4 * d * d + d + 2 * r * d * d + (r + 1) * d + 4 * d
    assert sum(p.numel() for p in cct.parameters()) == kernels + n * d + c.depth * block + 2 * d + d


@pytest.mark.parametrize(
    ("name", "millions", "giga"),
    [
        ("cct_2_3x2_32", 0.284, 0.033),
        ("cct_4_3x2_32", 0.482, 0.046),
        ("cct_6_3x1_32", 3.168, 0.813),
        ("cct_7_3x1_32", 3.760, 0.947),
    ],
)
def test_sizes_are_those_published(name: str, millions: float, giga: float) -> None:
    """With 10 classes. The published MACs leave out both products of attention, 2 L N^2 D; the published parameters of
    CCT-6 leave out its table of positions, those of the others do not."""
    found, c = describe(name, classes=10), CATALOGUE[name].options
    n = (32 // found.strides[0]) ** 2
    counted = found.params - (n * found.width if name == "cct_6_3x1_32" else 0)
    assert round(counted / 1e6, 3) == millions
    assert round((found.macs - 2 * c["depth"] * n**2 * found.width) / 1e9, 3) == giga


def test_sine_positions_are_a_table_and_no_parameter() -> None:
    cct = tiny(position="sine")
    assert "pos_embed" not in dict(cct.named_parameters())
    assert torch.equal(cct.pos_embed, sincos1d(64, 16))
    assert torch.equal(cct.state_dict()["pos_embed"], cct.pos_embed)


def test_other_sizes_resample_the_positions() -> None:
    cct, image = tiny(), torch.randn(1, 3, 23, 8)
    tokens = cct.tokenizer(image).flatten(2).mT
    assert tokens.shape == (1, 12 * 4, 16)
    torch.testing.assert_close(cct.embed(image), tokens + resample(cct.pos_embed, (8, 8), (12, 4)))
    assert torch.equal(cct.fitted("pos_embed", cct.pos_embed), cct.pos_embed)
    assert cct.fitted("norm.weight", cct.pos_embed) is None


def test_tokens_come_out_of_the_tokenizer_without_a_copy() -> None:
    cct = tiny(convolutions=2).to(memory_format=torch.channels_last)
    plane = cct.tokenizer(torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last))
    assert plane.flatten(2).transpose(1, 2).is_contiguous() and plane.flatten(2).data_ptr() == plane.data_ptr()


def test_fresh_weights_have_the_stated_deviation() -> None:
    cct = tiny(width=256, convolutions=2, heads=4, depth=1)
    assert cct.pos_embed.std().item() == pytest.approx(0.2, rel=0.05)
    assert cct.blocks[0].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert cct.tokenizer[1].conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 3}, "Width 16 is not a multiple of 3 heads"),
        ({"depth": 0}, "at least 1"),
        ({"convolutions": 0}, "at least 1"),
        ({"mlp_ratio": -1.0}, "MLP without channels"),
        ({"mlp_ratio": 0.0}, "MLP without channels"),
        ({"mlp_ratio": 0.01}, "MLP without channels"),
        ({"mlp_ratio": float("nan")}, "MLP without channels"),
        ({"mlp_ratio": float("inf")}, "MLP without channels"),
        ({"kernel": 4}, "odd and at least 3, not 4"),
        ({"kernel": 1}, "odd and at least 3, not 1"),
        ({"width": 5, "heads": 1, "position": "sine"}, "even width, not 5"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tiny(**change)
