from __future__ import annotations

import pytest
import torch
from models.unsettled import unsettled

from vitreous.errors import UsageError
from vitreous.layers.inverted import InvertedResidual
from vitreous.models import create
from vitreous.models.mobilenet import LARGE, SMALL, MobileNetV3Config


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
    torch.manual_seed(0)
    network = unsettled(create(name, options={"multiplier": 0.25}))
    features = network(torch.randn(2, 3, 64, 64) * 3)
    for x in (features.maps[-1], features.pooled):
        assert x.min() >= -0.375 and x.min() < 0  # the least value that x relu6(x + 3) / 6 takes
    assert features.maps[0].min() < -0.375  # a projection is linear


@pytest.mark.parametrize(
    ("options", "words"), [({"multiplier": 0.0}, "positive width multiplier"), ({"eps": 0.0}, "positive, not 0")]
)
def test_what_cannot_be_is_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MobileNetV3Config(table="small", **options)
