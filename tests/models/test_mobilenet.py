from __future__ import annotations

import pytest
import torch
from torch import nn

from vitreous.errors import UsageError
from vitreous.layers.inverted import InvertedResidual
from vitreous.layers.pack import pack
from vitreous.models import create
from vitreous.models.mobilenet import LARGE, SMALL, MobileNetV3, MobileNetV3Config

NARROW = {"multiplier": 0.25}


def narrow(name: str, **options: object) -> MobileNetV3:
    """A narrow one whose statistics and parameters have left their special values."""
    torch.manual_seed(0)
    network = create(name, options={**NARROW, **options})
    for tensor in network.parameters():
        tensor.data.add_(torch.randn_like(tensor) * 0.05)
    for norm in [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]:
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
    assert isinstance(network, MobileNetV3)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "params"),
    [("mobilenetv3_large_075", 3_993_528), ("mobilenetv3_small_050", 1_593_224), ("mobilenetv3_small_075", 2_041_872)],
)
def test_narrower_networks_have_timms_widths(name: str, params: int) -> None:
    with torch.device("meta"):
        network = create(name)
    assert sum(p.numel() for p in network.parameters()) + network.width * 1000 + 1000 == params


@pytest.mark.parametrize(("table", "dims"), [(LARGE, (24, 40, 112, 960)), (SMALL, (16, 24, 48, 576))])
def test_the_tables_hold_together(table: tuple, dims: tuple[int, ...]) -> None:
    """Five halvings with the stem's; the maps of the paper's figure of segmentation heads among their outputs."""
    assert [row.stride for row in table].count(2) == 4
    assert set(dims[:3]) <= {row.outputs for row in table}
    name = "mobilenetv3_large_100" if table is LARGE else "mobilenetv3_small_100"
    with torch.device("meta"):
        network = create(name)
    assert (network.dims, network.strides) == (dims, (4, 8, 16, 32))
    blocks = [m for m in network.modules() if isinstance(m, InvertedResidual)]
    assert [b.depthwise.conv.in_channels for b in blocks] == [row.hidden for row in table]
    assert sum(b.residual for b in blocks) == {LARGE: 10, SMALL: 6}[table]


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "mobilenetv3_small_100"])
def test_hard_swish_closes_the_last_map_and_the_pooled_vector(name: str) -> None:
    network = narrow(name)
    features = network(torch.randn(2, 3, 64, 64) * 3)
    for x in (features.maps[-1], features.pooled):
        assert x.min() >= -0.375 and x.min() < 0  # the least value that x relu6(x + 3) / 6 takes
    assert features.maps[0].min() < -0.375  # a projection is linear


def test_maps_are_not_written_over_by_what_follows() -> None:
    network, image = narrow("mobilenetv3_large_100"), torch.randn(1, 3, 64, 64)
    before = image.clone()
    with torch.no_grad():
        features = network(image)
        x = network.conv_stem(image)
        for end, seen in zip(network.ends[:3], features.maps[:3], strict=True):
            assert torch.equal(network.blocks(x.clone(), 0, end), seen)
    assert torch.equal(image, before)


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "mobilenetv3_small_100"])
def test_padding_matters_on_even_sides_only(name: str) -> None:
    one, two = narrow(name), narrow(name, padding="same")
    two.load_state_dict(one.state_dict())
    odd, even = torch.randn(1, 3, 65, 97), torch.randn(1, 3, 64, 96)  # 65, 33, 17, 9, 5: odd all the way down
    with torch.no_grad():
        torch.testing.assert_close(one(odd).pooled, two(odd).pooled, atol=1e-6, rtol=1e-6)
        assert not torch.allclose(one(even).pooled, two(even).pooled, atol=1e-3)
        assert [m.shape for m in two(even).maps] == [m.shape for m in one(even).maps]


def test_eps_reaches_every_norm() -> None:
    network = narrow("mobilenetv3_small_100", eps=1e-3)
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_folding_finds_every_norm() -> None:
    network, image = narrow("mobilenetv3_small_100"), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = network(image)
        pack(network)
        after = network(image)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(after.pooled, before.pooled, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"), [({"multiplier": 0.0}, "positive width multiplier"), ({"eps": 0.0}, "positive, not 0")]
)
def test_what_cannot_be_is_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MobileNetV3Config(table="small", **options)
