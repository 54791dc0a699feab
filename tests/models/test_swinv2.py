"""Swin v2 against its paper, written down again with one attention over all cells of a picture."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from models.cell_by_cell import assert_equals_reference
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.layers.window import Layout
from vitreous.models.swinv2 import SwinV2, SwinV2Config, log_offsets


def tiny(seed: int = 0, **more: object) -> SwinV2:
    """Two stages of a regular and a shifted block; weights far enough from zero to see everything."""
    torch.manual_seed(seed)
    options = {"size": 32, "width": 8, "depths": (2, 2), "heads": (2, 4), "window": 4}
    swin = SwinV2(SwinV2Config(**options | more)).eval()
    with torch.no_grad():
        for name, p in swin.named_parameters():
            p.add_(torch.randn_like(p) * (0.4 if "cpb_mlp.0" in name else 0.2))
    return swin


def reference(swin: SwinV2, image: Tensor) -> tuple[list[Tensor], Tensor]:
    """(map of each stage, pooled) of one picture, from the same tensors, cell by cell."""
    tensors, config = swin.state_dict(), swin.config

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", 0)

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def attention(x: Tensor, name: str, heads: int, built: int, measure: int | None, shifted: bool) -> Tensor:
        h, w, d = x.shape
        sides = [min(built, cells) for cells in (h, w)]
        begin = [built // 2 if shifted and cells > built else 0 for cells in (h, w)]
        cells = list(itertools.product(range(h), range(w)))
        offsets = torch.zeros(h * w, h * w, 2, dtype=x.dtype)
        sees = torch.zeros(h * w, h * w, dtype=torch.bool)
        for (i, a), (j, b) in itertools.product(enumerate(cells), enumerate(cells)):
            sees[i, j] = all((a[k] - begin[k]) // sides[k] == (b[k] - begin[k]) // sides[k] for k in (0, 1))
            for k in (0, 1):
                far = (a[k] - b[k]) / max((measure or sides[k]) - 1, 1)
                offsets[i, j, k] = math.copysign(math.log(1 + abs(8 * far), 8), far)
        table = linear(linear(offsets, f"{name}.cpb_mlp.0").relu(), f"{name}.cpb_mlp.2").permute(2, 0, 1)
        bias = (16 / (1 + (-table).exp())).masked_fill(~sees, -math.inf)
        q, k, v = linear(x, f"{name}.qkv").chunk(3, -1)
        q, v = q + tensors.get(f"{name}.q_bias", 0), v + tensors.get(f"{name}.v_bias", 0)
        q, k, v = (t.reshape(h * w, heads, -1).transpose(0, 1) for t in (q, k, v))
        cosine = (q @ k.mT) / (q.norm(dim=-1)[:, :, None] * k.norm(dim=-1)[:, None])
        y = (cosine * tensors[f"{name}.logit_scale"].exp().clamp(max=100) + bias).softmax(-1) @ v
        return linear(y.transpose(0, 1).reshape(h, w, d), f"{name}.proj")

    h, w = image.shape[1:]
    image = F.pad(image, (0, -w % config.patch, 0, -h % config.patch))
    stem = tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"]
    x = norm(F.conv2d(image[None], *stem, stride=config.patch)[0].permute(1, 2, 0), "patch_embed.norm")
    maps = []
    for i, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
        stage = f"layers.{i}"
        if i:
            x = F.pad(x, (0, 0, 0, x.shape[1] % 2, 0, x.shape[0] % 2))
            x = torch.cat([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], dim=-1)
            x = norm(linear(x, f"{stage}.downsample.reduction"), f"{stage}.downsample.norm")
        built = min(config.window, math.ceil(config.size / (config.patch * 2**i)))
        measure = config.trained[i] if config.trained else None
        for block, shifted in ((f"{stage}.blocks.{j}", bool(j % 2)) for j in range(depth)):
            x = x + norm(attention(x, f"{block}.attn", heads, built, measure, shifted), f"{block}.norm1")
            hidden = linear(x, f"{block}.mlp.fc1")
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
            x = x + norm(linear(hidden, f"{block}.mlp.fc2"), f"{block}.norm2")
        maps.append(x)
    return maps, norm(x, "norm").mean((0, 1))


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (24, 40), (37, 29), (12, 64), (4, 5)], ids=str)
@pytest.mark.parametrize("more", [{}, {"trained": (3, 2)}, {"qkv_bias": False}], ids=str)
def test_equals_the_paper_cell_by_cell(
    size: tuple[int, int], more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole windows, windows that reach over the edge, grids smaller than a window."""
    # logarithms of offsets are taken in float32
    assert_equals_reference(tiny(**more), reference, size, 1e-5, monkeypatch)


def test_a_fresh_block_changes_nothing() -> None:
    """Norms that end a branch begin with a weight of zero (section 3.2)."""
    swin = SwinV2(SwinV2Config(size=32, width=8, depths=(2, 2), heads=(2, 4), window=4))
    x = torch.randn(2, 8, 8, 8)
    assert torch.equal(swin.layers[0](x), x)
    assert (swin.layers[0].blocks[0].attn.logit_scale == math.log(10)).all()


def test_attention_goes_by_direction_alone() -> None:
    swin = tiny()
    attention, bias = swin.layers[0].blocks[0].attn, torch.zeros(1, 2, 16, 16)
    x = torch.randn(3, 16, 8)
    before = attention(x, bias)
    with torch.no_grad():
        attention.qkv.weight[:16].mul_(3)  # q and k three times as long
        attention.q_bias.mul_(3)
    torch.testing.assert_close(attention(x, bias), before)


def test_temperature_is_never_below_a_hundredth() -> None:
    attention, bias = tiny().layers[0].blocks[0].attn, torch.zeros(1, 2, 16, 16)
    x = torch.randn(3, 16, 8)
    with torch.no_grad():
        attention.logit_scale.fill_(math.log(100))
        before = attention(x, bias)
        attention.logit_scale.fill_(9.0)
        assert torch.equal(attention(x, bias), before)


@pytest.mark.parametrize("size", [(24, 40), (12, 64)], ids=str)  # what fills up windows is zero and has no direction
def test_half_precision_is_finite_where_windows_are_filled_up(size: tuple[int, int]) -> None:
    swin, image = tiny(), torch.randn(2, 3, *size)
    with torch.no_grad():
        exact, half = swin(image).pooled, swin.half()(image.half()).pooled.float()
    assert bool(half.isfinite().all())
    torch.testing.assert_close(half, exact, atol=0.05, rtol=0.05)


def test_offsets_by_their_logarithm() -> None:
    apart = log_offsets((8, 8))
    assert apart.shape == (15 * 15, 2)
    far = math.log2(9) / 3  # eight steps
    assert apart[0].tolist() == pytest.approx([-far, -far]) and apart[-1].tolist() == pytest.approx([far, far])
    assert apart[7 * 15 + 7].tolist() == [0, 0] and torch.equal(apart, -apart.flip(0))
    near = log_offsets((8, 8), trained=4).view(15, 15, 2)[4:11, 4:11]  # offsets that windows of 4 cells have
    assert torch.equal(near.reshape(-1, 2), log_offsets((4, 4)))
    half = math.log2(5) / 3
    column = torch.tensor([-far, -half, 0, half, far])
    torch.testing.assert_close(log_offsets((1, 3)), torch.stack([torch.zeros(5), column], dim=1))


def test_biases_lie_between_0_and_16_and_are_infinite_across_regions() -> None:
    attention = tiny().layers[0].blocks[1].attn
    plain = attention.bias(Layout.of((8, 8), 4, False))
    assert plain.shape == (1, 2, 16, 16) and bool((plain > 0).all() and (plain < 16).all())
    masked = attention.bias(Layout.of((8, 8), 4, True))
    assert masked.shape == (4, 2, 16, 16)
    assert torch.equal(masked[0], plain[0]) and torch.equal(torch.maximum(masked, plain), plain.expand(4, -1, -1, -1))
    assert masked[3].isinf().float().mean() == 0.75  # the corner holds four regions


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"depths": (2,)}, "as many depths as heads"),
        ({"heads": (2, 0)}, "at least 1"),
        ({"window": 0}, "window of at least 1"),
        ({"width": 9}, "Width 9 is not a multiple of 2 heads"),
        ({"trained": (4,)}, "for each of 2 stages, or none"),
        ({"trained": (4, 0)}, "at least 1 for each"),
    ],
)
def test_what_cannot_be_is_refused(wish: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tiny(**wish)


def test_weights_fit_windows_of_any_size() -> None:
    small, large = tiny(window=4), tiny(seed=1, window=8)
    large.load_state_dict(small.state_dict())
    assert large.config.windows == (8, 4)


def test_tokens_in_and_out() -> None:
    swin = tiny(position="both")
    image, token = torch.randn(2, 3, 24, 40), torch.randn(8)
    mask = torch.arange(60).expand(2, -1) % 3 == 0
    hidden = swin.embed(image, mask, token)
    assert torch.equal(hidden[~mask], swin.embed(image)[~mask])
    apart = hidden[mask] - swin.embed(image, mask)[mask]
    torch.testing.assert_close(apart, token.expand_as(apart))
    encoded = swin.encode(swin.embed(image), grid=(6, 10))
    torch.testing.assert_close(encoded.mean(1), swin(image).pooled)
    assert swin.fitted("absolute_pos_embed", torch.ones(1, 25, 8)).shape == (1, 64, 8)
    with pytest.raises(ValueError, match="do not fill a grid"):
        swin.encode(hidden)
