"""Swin against its paper, written down again with one attention over all cells of a picture."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from models.cell_by_cell import assert_equals_reference
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.explain.trace import trace
from vitreous.layers.position import resample
from vitreous.models import create
from vitreous.models.describe import describe
from vitreous.models.swin import Swin, SwinConfig


def tiny(seed: int = 0, **more: object) -> Swin:
    """Two stages of a regular and a shifted block; weights far enough from zero to see everything."""
    torch.manual_seed(seed)
    options = {"size": 32, "width": 8, "depths": (2, 2), "heads": (2, 4), "window": 4}
    swin = Swin(SwinConfig(**options | more)).eval()
    with torch.no_grad():
        for p in swin.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return swin


def reference(swin: Swin, image: Tensor) -> tuple[list[Tensor], Tensor]:
    """(map of each stage, pooled) of one picture, from the same tensors, cell by cell."""
    tensors, config = swin.state_dict(), swin.config

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", 0)

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def attention(x: Tensor, name: str, heads: int, built: int, shifted: bool) -> Tensor:
        h, w, d = x.shape
        sides = [min(built, cells) for cells in (h, w)]
        begin = [built // 2 if shifted and cells > built else 0 for cells in (h, w)]
        table = tensors[f"{name}.relative_position_bias_table"]
        if sides != [built, built]:
            table = resample(table[None], (2 * built - 1,) * 2, tuple(2 * side - 1 for side in sides))[0]
        cells = list(itertools.product(range(h), range(w)))
        bias = torch.full((heads, h * w, h * w), -math.inf, dtype=x.dtype)
        for (i, a), (j, b) in itertools.product(enumerate(cells), enumerate(cells)):
            if all((a[k] - begin[k]) // sides[k] == (b[k] - begin[k]) // sides[k] for k in (0, 1)):
                row = (a[0] - b[0] + sides[0] - 1) * (2 * sides[1] - 1) + a[1] - b[1] + sides[1] - 1
                bias[:, i, j] = table[row]
        q, k, v = (t.view(h * w, heads, -1).transpose(0, 1) for t in linear(x, f"{name}.qkv").chunk(3, -1))
        y = (q @ k.mT / math.sqrt(d / heads) + bias).softmax(-1) @ v  # (heads, n, d_h)
        return linear(y.transpose(0, 1).reshape(h, w, d), f"{name}.proj")

    h, w = image.shape[1:]
    image = F.pad(image, (0, -w % config.patch, 0, -h % config.patch))
    stem = tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"]
    x = norm(F.conv2d(image[None], *stem, stride=config.patch)[0].permute(1, 2, 0), "patch_embed.norm")
    if config.position == "both":
        side = math.ceil(config.size / config.patch)
        x = x + resample(tensors["absolute_pos_embed"], (side, side), tuple(x.shape[:2])).view(x.shape)
    maps = []
    for i, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
        stage = f"layers.{i}"
        if i:
            x = F.pad(x, (0, 0, 0, x.shape[1] % 2, 0, x.shape[0] % 2))
            x = torch.cat([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], dim=-1)
            x = linear(norm(x, f"{stage}.downsample.norm"), f"{stage}.downsample.reduction")
        built = min(config.window, math.ceil(config.size / (config.patch * 2**i)))
        for block, shifted in ((f"{stage}.blocks.{j}", bool(j % 2)) for j in range(depth)):
            x = x + attention(norm(x, f"{block}.norm1"), f"{block}.attn", heads, built, shifted)
            hidden = linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
            x = x + linear(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, f"{block}.mlp.fc2")
        maps.append(x)
    return maps, norm(x, "norm").mean((0, 1))


SIZES = [(32, 32), (64, 32), (24, 40), (37, 29), (12, 64), (4, 5)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("position", ["relative", "both"])
def test_equals_the_paper_cell_by_cell(size: tuple[int, int], position: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole windows, windows that reach over the edge, grids smaller than a window."""
    # positions and biases of another size are resampled in float32
    assert_equals_reference(tiny(position=position), reference, size, 1e-6, monkeypatch)


def test_swin_tiny_gives_the_shapes_of_the_subject() -> None:
    steps = trace("swin_tiny_patch4_window7_224", batch=3, timed=False).steps

    def shapes(module: str) -> list[tuple[int, ...]]:
        return [step.output for step in steps if step.module == f"backbone.{module}".rstrip(".")]

    def follow(found: list[tuple[int, ...]], *wanted: tuple[int, ...]) -> bool:
        found = [shape for shape, before in zip(found, [None, *found], strict=False) if shape != before]
        return any(found[i : i + len(wanted)] == list(wanted) for i in range(len(found)))

    assert shapes("patch_embed")[-1] == (3, 3136, 96) and shapes("")[0] == (3, 56, 56, 96)
    regular, shifted = shapes("layers.0.blocks.0"), shapes("layers.0.blocks.1")
    assert (192, 7, 7, 96) in regular and (192, 7, 7, 96) in shifted
    assert follow(regular, (192, 7, 7, 96), (3, 8, 8, 7, 7, 96), (3, 8, 7, 8, 7, 96), (3, 56, 56, 96))
    assert follow(shifted, (1, 56, 56, 1), (1, 8, 7, 8, 7, 1), (1, 8, 8, 7, 7, 1), (64, 7, 7, 1))
    assert shapes("layers.1.downsample.quarter")[-1] == (3, 28, 28, 384)
    assert shapes("layers.1.downsample.norm") == [(3, 784, 384)]
    assert shapes("layers.1.downsample.reduction") == [(3, 784, 192)]
    assert shapes("layers.3.blocks.1.attn.attend")[0] == (3, 24, 49, 49)


def test_costs_grow_with_the_picture_and_not_with_its_square() -> None:
    name = "swin_tiny_patch4_window7_224"
    head = 768 * 1000
    costs = [describe(name, size=side).macs - head for side in (224, 448, 896)]
    assert costs[1] == 4 * costs[0] and costs[2] == 16 * costs[0]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"depths": ()}, "as many depths as heads"),
        ({"depths": (2, 2, 2)}, "as many depths as heads"),
        ({"heads": (2, 0)}, "at least 1"),
        ({"window": 0}, "window of at least 1"),
        ({"size": 0}, "at least 1"),
        ({"width": 9}, "Width 9 is not a multiple of 2 heads"),
        ({"heads": (2, 3)}, "Width 16 is not a multiple of 3 heads"),
    ],
)
def test_what_cannot_be_is_refused(wish: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tiny(**wish)


def test_windows_are_bounded_by_the_size_it_is_built_for() -> None:
    options = {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
    assert SwinConfig(**options).windows == (7, 7, 7, 7)
    assert SwinConfig(**options, size=96).windows == (7, 7, 6, 3)
    assert SwinConfig(**options, size=384, window=12).windows == (12, 12, 12, 12)


def test_a_network_built_for_small_pictures_is_the_large_one_on_them() -> None:
    """Biases resampled when they are loaded are those resampled when they are used."""
    large, small = tiny(size=32), tiny(seed=1, size=16)
    tensors = large.state_dict()
    for key, t in small.state_dict().items():
        if t.shape != tensors[key].shape:
            tensors[key] = small.fitted(key, tensors[key])
    small.load_state_dict(tensors)
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(small(image).pooled, large(image).pooled)


def test_only_tables_of_square_windows_are_fitted() -> None:
    swin = tiny(position="both")
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    constant = torch.ones(15 * 15, 2)  # of windows of 8 cells
    torch.testing.assert_close(swin.fitted(name, constant), torch.ones(49, 2))
    assert swin.fitted(name, torch.ones(50, 2)) is None and swin.fitted(name, torch.ones(49)) is None
    assert swin.fitted("absolute_pos_embed", torch.ones(1, 25, 8)).shape == (1, 64, 8)
    assert swin.fitted("norm.weight", torch.ones(4)) is None


def test_a_token_stands_where_patches_are_hidden() -> None:
    swin = tiny(position="both")
    image, token = torch.randn(2, 3, 32, 32), torch.randn(8, requires_grad=True)
    mask = torch.zeros(2, 64, dtype=torch.bool)
    mask[0, 3], mask[1, 5:9] = True, True
    plain, hidden = swin.embed(image), swin.embed(image, mask, token)
    assert torch.equal(plain[~mask], hidden[~mask])
    positions = swin.absolute_pos_embed.expand(2, -1, -1)
    torch.testing.assert_close(hidden[mask], token + positions[mask])
    torch.testing.assert_close(swin.embed(image, mask)[mask], positions[mask])
    swin.encode(hidden).sum().backward()
    assert token.grad.any()
    assert not any("mask" in key for key in swin.state_dict())  # the token stays with whoever learns it


def test_encoded_tokens_are_the_last_map_normalised() -> None:
    swin = tiny()
    image = torch.randn(2, 3, 24, 40)
    features, tokens = swin(image), swin.embed(image)
    encoded = swin.encode(tokens, grid=(6, 10))
    assert encoded.shape == (2, 3 * 5, 16)
    torch.testing.assert_close(encoded, swin.norm(features.maps[-1].flatten(2).transpose(1, 2)))
    torch.testing.assert_close(encoded.mean(1), features.pooled)
    square = swin.embed(torch.randn(1, 3, 32, 32))
    assert torch.equal(swin.encode(square), swin.encode(square, grid=(8, 8)))
    with pytest.raises(ValueError, match="60 tokens do not fill a grid of 7 x 7"):
        swin.encode(tokens)
    with pytest.raises(ValueError, match="do not fill a grid of 5 x 10"):
        swin.encode(tokens, grid=(5, 10))


def test_fresh_weights_have_the_spread_of_the_paper() -> None:
    torch.manual_seed(0)
    swin = Swin(SwinConfig(width=96, depths=(2, 2), heads=(3, 6), position="both"))
    block = swin.layers[0].blocks[1]
    for weight in (block.attn.relative_position_bias_table, block.mlp.fc1.weight, swin.absolute_pos_embed):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not block.attn.qkv.bias.any() and (swin.layers[1].downsample.norm.weight == 1).all()
    assert swin.layers[1].downsample.reduction.bias is None


def test_merging_goes_with_the_block_after_it() -> None:
    groups = tiny(position="both").groups()
    assert len(groups) == 1 + 4
    assert groups[0][0] == "absolute_pos_embed" and all("patch_embed" in name for name in groups[0][1:])
    assert {"layers.1.downsample.reduction.weight", "layers.1.blocks.0.mlp.fc1.bias"} <= set(groups[3])
    assert groups[4][-2:] == ["norm.weight", "norm.bias"]


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_an_mlp_has_channels(ratio: float) -> None:
    for name in ("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"):
        with pytest.raises(UsageError, match="MLP without channels"):
            create(name, options={"mlp_ratio": ratio})
