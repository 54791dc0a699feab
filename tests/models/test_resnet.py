from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vitreous.errors import UsageError
from vitreous.models import create
from vitreous.models.resnet import Basic, PadShortcut, ResNetConfig


def test_option_a_is_every_second_cell_between_zero_channels() -> None:
    x = torch.randn(2, 16, 8, 8)
    y = PadShortcut(16, 2)(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2]) and not y[:, :8].any() and not y[:, 24:].any()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_fresh_block_is_the_identity(name: str) -> None:
    """The last norm of each branch starts at zero, so a block first passes on what it was given."""
    torch.manual_seed(0)
    block = create(name, options={"depths": (2, 1, 1, 1)}).layer1[1]
    x = torch.rand(2, block.conv1.conv.in_channels, 8, 8)
    torch.testing.assert_close(block(x), x)
    off = create(name, options={"depths": (2, 1, 1, 1), "zero_init": False}).layer1[1]
    assert not torch.allclose(off(x), x)


def test_a_block_equals_its_formula() -> None:
    torch.manual_seed(0)
    block, x = Basic(4, 4, 1, None, 0.0).eval(), torch.randn(2, 4, 6, 6)
    y = F.relu(F.conv2d(x, block.conv1.conv.weight, padding=1) / (1 + 1e-5) ** 0.5)
    y = F.conv2d(y, block.conv2.conv.weight, padding=1) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), F.relu(y + x), atol=1e-5, rtol=1e-5)


def test_maps_and_steps() -> None:
    with torch.device("meta"):
        fifty, cifar = create("resnet50"), create("resnet20_cifar")
    assert (fifty.dims, fifty.strides, fifty.width) == ((256, 512, 1024, 2048), (4, 8, 16, 32), 2048)
    assert (cifar.dims, cifar.strides, cifar.width) == ((16, 32, 64), (1, 2, 4), 64)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("resnet20_cifar", 269_722),
        ("resnet32_cifar", 464_154),
        ("resnet44_cifar", 658_586),
        ("resnet56_cifar", 853_018),
    ],
)
def test_cifar_networks_have_the_published_size(name: str, params: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in create(name).parameters()) + 64 * 10 + 10 == params


def test_depths_and_widths_must_match() -> None:
    with pytest.raises(UsageError, match="as many depths as widths"):
        ResNetConfig(depths=(1, 1), widths=(8,))
