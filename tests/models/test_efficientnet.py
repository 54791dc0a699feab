from __future__ import annotations

import pytest
import torch
from torch import nn

from vitreous.errors import UsageError
from vitreous.layers.pack import pack
from vitreous.models import create
from vitreous.models.describe import describe
from vitreous.models.efficientnet import EfficientNet, EfficientNetConfig


def narrow(**options: object) -> EfficientNet:
    """A narrow one whose statistics and parameters have left their special values."""
    torch.manual_seed(0)
    network = create("efficientnet_b0", options={"wider": 0.25, "deeper": 0.5, **options})
    for tensor in network.parameters():
        tensor.data.add_(torch.randn_like(tensor) * 0.05)
    for norm in [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]:
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
    assert isinstance(network, EfficientNet)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "size", "params", "macs", "blocks"),
    [
        # parameters, and 10^9 multiply-accumulates at this size, from torchvision's notes on its weights
        ("efficientnet_b0", 224, 5_288_548, 0.386, 16),
        ("efficientnet_b1", 240, 7_794_184, 0.687, 23),
        ("efficientnet_b2", 288, 9_109_994, 1.088, 23),
        ("efficientnet_b3", 300, 12_233_232, 1.827, 26),
        ("efficientnet_b4", 380, 19_341_616, 4.394, 32),
    ],
)
def test_growth_is_as_published(name: str, size: int, params: int, macs: float, blocks: int) -> None:
    found = describe(name, size)
    assert found.params == params
    assert found.macs / 1e9 == pytest.approx(macs, abs=0.0006)  # to the last digit they give
    with torch.device("meta"):
        assert len(create(name).blocks) == blocks


def test_maps_are_the_last_of_each_stride() -> None:
    with torch.device("meta"):
        network = create("efficientnet_b0")
    assert (network.dims, network.strides, network.width) == ((24, 40, 112, 320), (4, 8, 16, 32), 1280)
    assert network.ends == (3, 5, 11, 16)  # after stages 3, 4, 6 and 8 of table 1


def test_gates_are_a_quarter_of_the_input_not_of_the_hidden_width() -> None:
    with torch.device("meta"):
        network = create("efficientnet_b0")
    inputs = [32, *(block.project.conv.out_channels for block in network.blocks)]
    assert [block.squeeze.reduce.out_channels * 4 for block in network.blocks] == inputs[:-1]


def test_maps_are_not_written_over_by_what_follows() -> None:
    network, image = narrow(), torch.randn(1, 3, 64, 64)
    before = image.clone()
    with torch.no_grad():
        features = network(image)
        x = network.conv_stem(image)
        for end, seen in zip(network.ends, features.maps, strict=True):
            assert torch.equal(network.blocks(x.clone(), 0, end), seen)
    assert torch.equal(image, before)


def test_padding_matters_on_even_sides_only() -> None:
    one, two = narrow(), narrow(padding="same")
    two.load_state_dict(one.state_dict())
    odd, even = torch.randn(1, 3, 65, 97), torch.randn(1, 3, 64, 96)  # 65, 33, 17, 9, 5: odd all the way down
    with torch.no_grad():
        torch.testing.assert_close(one(odd).pooled, two(odd).pooled, atol=1e-6, rtol=1e-6)
        assert not torch.allclose(one(even).pooled, two(even).pooled, atol=1e-3)
        assert [m.shape for m in two(even).maps] == [m.shape for m in one(even).maps]


def test_eps_reaches_every_norm() -> None:
    assert {m.eps for m in narrow(eps=1e-3).modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_folding_finds_every_norm(padding: str) -> None:
    network, image = narrow(padding=padding), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = network(image)
        pack(network)
        after = network(image)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(after.pooled, before.pooled, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wider": 0.0}, "grows by positive factors, not wider 0"),
        ({"deeper": -1.0}, "deeper -1"),
        ({"eps": 0.0}, "positive, not 0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        EfficientNetConfig(**options)


def test_an_unknown_padding_brings_the_known_ones() -> None:
    with pytest.raises(UsageError, match="did you mean same"):
        create("efficientnet_b0", options={"padding": "sam"})
