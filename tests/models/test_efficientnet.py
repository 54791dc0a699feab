from __future__ import annotations

import pytest
import torch

from vitreous.errors import UsageError
from vitreous.models import create
from vitreous.models.describe import describe
from vitreous.models.efficientnet import EfficientNetConfig


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
