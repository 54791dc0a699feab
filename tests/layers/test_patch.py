from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitreous.layers.patch import PatchEmbed, patchify, resample_kernel, unpatchify


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_unpatchify_undoes_patchify(b: int, c: int, rows: int, columns: int, patch: int) -> None:
    image = torch.randn(b, c, rows * patch, columns * patch)
    patches = patchify(image, patch)
    assert patches.shape == (b, rows * columns, patch * patch * c)
    assert torch.equal(unpatchify(patches, patch, (rows, columns)), image)


def test_patches_stand_in_reading_order_with_channels_last() -> None:
    image = torch.arange(2 * 4 * 6).view(1, 2, 4, 6)
    second = patchify(image, 2)[0, 1]  # first row, second column
    assert second.tolist() == [image[0, c, y, x].item() for y in (0, 1) for x in (2, 3) for c in (0, 1)]


def test_embedding_is_one_linear_map_of_each_patch() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(4, 16)
    embed.reset_parameters()
    image = torch.randn(2, 3, 12, 8)
    assert embed.grid(image) == (3, 2)
    matrix = embed.proj.weight.permute(0, 2, 3, 1).flatten(1)  # (d, p p c)
    torch.testing.assert_close(
        embed(image), F.linear(patchify(image, 4), matrix, embed.proj.bias), atol=1e-5, rtol=1e-5
    )


def test_fresh_embedding_keeps_the_variance_of_the_pixels() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(8, 256)
    embed.reset_parameters()
    assert embed(torch.randn(8, 3, 64, 64)).std().item() == pytest.approx(1, abs=0.05)


def test_gradients_are_exact() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(2, 4).double()
    assert torch.autograd.gradcheck(embed, torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True))


def resized(patch: Tensor, side: int) -> Tensor:
    return F.interpolate(patch, size=(side, side), mode="bicubic", antialias=True)


@pytest.mark.parametrize(("old", "new"), [(4, 5), (4, 8), (8, 14), (14, 16)])
def test_larger_patches_give_the_very_tokens_of_the_smaller(old: int, new: int) -> None:
    """The law that defines the resized kernel: the token of a resized patch is the token of the patch."""
    torch.manual_seed(0)
    kernel, patches = torch.randn(6, 3, old, old).double(), torch.randn(10, 3, old, old).double()
    moved = resample_kernel(kernel, new)
    assert moved.shape == (6, 3, new, new) and moved.dtype == torch.float64
    tokens, expected = F.conv2d(resized(patches, new), moved), F.conv2d(patches, kernel)
    torch.testing.assert_close(tokens, expected, atol=1e-9, rtol=1e-9)


def test_smaller_patches_give_the_nearest_tokens_there_are() -> None:
    """Least squares over white noise: no other kernel of the small size comes nearer."""
    torch.manual_seed(0)
    kernel = torch.randn(1, 1, 8, 8).double()
    small = resample_kernel(kernel, 6)

    def distance(candidate: Tensor) -> Tensor:
        """E over x of (x' w - (B x)' w')^2, which is its sum over unit pixels."""
        unit = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
        return (F.conv2d(unit, kernel) - F.conv2d(resized(unit, 6), candidate)).square().sum()

    best = distance(small)
    assert all(distance(small + 1e-2 * torch.randn_like(small)) > best for _ in range(20))


def test_a_kernel_of_the_same_size_stays() -> None:
    kernel = torch.randn(4, 3, 8, 8)
    assert resample_kernel(kernel, 8) is kernel
    assert resample_kernel(kernel.bfloat16(), 6).dtype == torch.bfloat16


def test_hidden_patches_are_not_computed_and_the_others_are_as_before() -> None:
    torch.manual_seed(0)
    embed = PatchEmbed(4, 8, norm=True).double()
    image = torch.randn(2, 3, 10, 13, dtype=torch.float64)  # sides that no patch divides
    mask = torch.rand(2, 12).argsort(1) < 7
    torch.testing.assert_close(embed(image, mask), embed(image)[~mask].view(2, 5, 8), rtol=1e-12, atol=1e-12)
