"""What MobileNetV3 and EfficientNet keep alike, as networks of inverted residuals."""

from __future__ import annotations

import pytest
import torch
from models.unsettled import unsettled
from torch import nn

from vitreous.errors import UsageError
from vitreous.models import create
from vitreous.models.backbone import Backbone

NARROW = {
    "efficientnet_b0": {"wider": 0.25, "deeper": 0.5},
    "mobilenetv3_large_100": {"multiplier": 0.25},
    "mobilenetv3_small_100": {"multiplier": 0.25},
}


def narrow(name: str, **options: object) -> Backbone:
    torch.manual_seed(0)
    return unsettled(create(name, options=NARROW[name] | options), by=0.05)


# MobileNetV3's last map comes after one more convolution
@pytest.mark.parametrize(
    ("name", "maps"), [("efficientnet_b0", 4), ("mobilenetv3_large_100", 3), ("mobilenetv3_small_100", 3)]
)
def test_maps_are_not_written_over_by_what_follows(name: str, maps: int) -> None:
    network, image = narrow(name), torch.randn(1, 3, 64, 64)
    before = image.clone()
    with torch.no_grad():
        features = network(image)
        x = network.conv_stem(image)
        for end, seen in zip(network.ends[:maps], features.maps[:maps], strict=True):
            assert torch.equal(network.blocks(x.clone(), 0, end), seen)
    assert torch.equal(image, before)


@pytest.mark.parametrize("name", NARROW)
def test_padding_matters_on_even_sides_only(name: str) -> None:
    one, two = narrow(name), narrow(name, padding="same")
    two.load_state_dict(one.state_dict())
    odd, even = torch.randn(1, 3, 65, 97), torch.randn(1, 3, 64, 96)  # 65, 33, 17, 9, 5: odd all the way down
    with torch.no_grad():
        torch.testing.assert_close(one(odd).pooled, two(odd).pooled, atol=1e-6, rtol=1e-6)
        assert not torch.allclose(one(even).pooled, two(even).pooled, atol=1e-3)
        assert [m.shape for m in two(even).maps] == [m.shape for m in one(even).maps]


@pytest.mark.parametrize("name", NARROW)
def test_eps_reaches_every_norm(name: str) -> None:
    assert {m.eps for m in narrow(name, eps=1e-3).modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("name", NARROW)
def test_an_unknown_padding_brings_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="did you mean same"):
        narrow(name, padding="sam")
