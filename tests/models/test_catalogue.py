from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vitreous.errors import UsageError
from vitreous.models import CATALOGUE, FAMILIES, catalogue, create, find, names
from vitreous.models.costs import costs
from vitreous.models.describe import describe

PUBLISHED = {
    # parameters with 1000 classes, exact; 10^9 multiply-accumulates at the row's size
    "vit_tiny_patch16_224": (5_717_416, 1.26),
    "vit_small_patch16_224": (22_050_664, 4.61),
    "vit_base_patch16_224": (86_567_656, 17.58),
    "vit_base_patch32_224": (88_224_232, 4.41),
    "vit_large_patch16_224": (304_326_632, 61.6),
    "vit_huge_patch14_224": (632_045_800, 167.3),
    "deit_tiny_patch16_224": (5_717_416, 1.26),
    "deit_small_patch16_224": (22_050_664, 4.61),
    "deit_base_patch16_224": (86_567_656, 17.58),
    "vit_base_patch8_224": (86_576_872, 78.22),
    "vit_base_patch16_384": (86_859_496, 55.54),
    "vit_large_patch14_224": (304_203_752, 81.08),
    "vit_large_patch16_384": (304_715_752, 191.21),
    "vit_giant_patch14_224": (1_012_611_432, 267.18),
    "vit_gigantic_patch14_224": (1_844_440_680, 483.95),
    "vit_tiny_patch16_384": (5_790_376, 4.70),
    "vit_small_patch32_384": (22_915_432, 3.45),
    "deit_small_distilled_patch16_224": (22_436_432, 4.63),
    "deit_base_distilled_patch16_384": (87_630_032, 55.65),
    "deit3_small_patch16_224": (22_059_496, 4.61),
    "deit3_base_patch16_384": (86_877_160, 55.54),
    "deit3_large_patch16_224": (304_374_760, 61.6),
    "deit3_huge_patch14_224": (632_126_440, 167.4),
    "vit_small_patch14_dinov2": (22_441_192, 46.76),
    "vit_base_patch14_dinov2": (87_348_712, 151.71),
    "vit_large_patch14_dinov2": (305_392_616, 507.15),
    "vit_giant_patch14_dinov2": (1_138_016_232, 1784.2),
    "vit_small_patch14_reg4_dinov2": (22_442_344, 46.95),
    "vit_giant_patch14_reg4_dinov2": (1_138_020_840, 1790.08),
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.80),
    "convnext_atto": (3_695_520, 0.55),
    "convnext_femto": (5_217_784, 0.79),
    "convnext_pico": (9_045_672, 1.37),
    "convnext_nano": (15_593_560, 2.46),
    "convnext_tiny": (28_589_128, 4.456),
    "convnext_small": (50_223_688, 8.684),
    "convnext_base": (88_591_464, 15.355),
    # MACs of both Swins are those of the authors' table
    "swin_tiny_patch4_window7_224": (28_288_354, 4.5),
    "swin_small_patch4_window7_224": (49_606_258, 8.7),
    "swin_base_patch4_window7_224": (87_768_224, 15.4),
    "swin_base_patch4_window12_384": (87_903_584, 47.1),
    "swin_large_patch4_window7_224": (196_532_476, 34.5),
    "swin_large_patch4_window12_384": (196_735_516, 103.9),
    "swinv2_tiny_window8_256": (28_347_154, 5.9),
    "swinv2_tiny_window16_256": (28_347_154, 6.6),
    "swinv2_small_window8_256": (49_728_418, 11.5),
    "swinv2_small_window16_256": (49_728_418, 12.6),
    "swinv2_base_window8_256": (87_918_816, 20.3),
    "swinv2_base_window16_256": (87_918_816, 21.8),
    "swinv2_base_window12to16_192to256": (87_918_816, 21.8),
    "swinv2_base_window12to24_192to384": (87_918_816, 54.7),
    "swinv2_large_window12to16_192to256": (196_739_932, 47.5),
    "swinv2_large_window12to24_192to384": (196_739_932, 115.4),
    # without the norms, which timm's published figures count; test_mobilevit.py has those
    "mobilevit_xxs": (1_272_024, 0.407),
    "mobilevit_xs": (2_317_848, 1.026),
    "mobilevit_s": (5_578_632, 2.001),
    "mobilevitv2_050": (1_370_593, 0.466),
    "mobilevitv2_075": (2_866_009, 1.030),
    "mobilevitv2_100": (4_901_841, 1.814),
    "mobilevitv2_125": (7_478_089, 2.819),
    "mobilevitv2_150": (10_594_753, 4.046),
    "mobilevitv2_175": (14_251_833, 5.492),
    "mobilevitv2_200": (18_449_329, 7.160),
    # torchvision's notes on its weights; b2 to b4 are in test_efficientnet.py, at the sizes of those notes
    "mobilenetv3_large_100": (5_483_032, 0.217),
    "mobilenetv3_small_100": (2_542_856, 0.057),
    "efficientnet_b0": (5_288_548, 0.386),
    "efficientnet_b1": (7_794_184, 0.687),
    # MACs of b1 are the authors': timm's list has 0.53, counted by another tool
    "efficientvit_b0": (3_410_008, 0.10),
    "efficientvit_b1": (9_102_024, 0.52),
    "efficientvit_b2": (24_330_712, 1.6),
    "efficientvit_b3": (48_646_056, 3.99),
    "efficientvit_m0": (2_349_436, 0.079),
    "efficientvit_m1": (2_980_560, 0.167),
    "efficientvit_m2": (4_187_554, 0.201),
    "efficientvit_m3": (6_900_722, 0.263),
    "efficientvit_m4": (8_804_228, 0.299),
    "efficientvit_m5": (12_473_772, 0.522),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_published(name: str) -> None:
    params, macs = PUBLISHED[name]
    found = describe(name)
    assert found.params == params
    assert found.macs / 1e9 == pytest.approx(macs, rel=0.02)


def test_macs_follow_the_closed_form() -> None:
    """ViT: n D 3 P^2 in the patches, then a block L times: 12 m D^2 in its matrices and 2 m^2 D in attention."""
    n, d, depth = 14 * 14, 192, 12
    m = n + 1
    expected = n * d * 3 * 16**2 + depth * (12 * m * d**2 + 2 * m**2 * d) + 1000 * d
    assert describe("vit_tiny_patch16_224").macs == expected
    assert describe("vit_tiny_patch16_224", size=448).macs > 4 * expected


def test_description_follows_size_and_classes() -> None:
    found = describe("resnet20_cifar", size=64, classes=10)
    assert (found.size, found.params, found.dims, found.width) == (64, 269_722, (16, 32, 64), 64)
    assert found.macs == pytest.approx(4 * describe("resnet20_cifar", classes=10).macs, rel=0.01)


def test_names_are_globs_and_sorted() -> None:
    assert names("resnet5*") == ["resnet50", "resnet56_cifar"]
    assert names() == sorted(CATALOGUE) and names("nothing*") == []
    assert names("RESNET5*") == names("resnet5*")


def test_no_name_is_written_twice() -> None:
    tree = ast.parse(Path(catalogue.__file__).read_text())
    table = next(
        n.value for n in tree.body if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "CATALOGUE"
    )
    keys = [ast.literal_eval(key) for key in table.keys]
    assert len(keys) == len(set(keys)) == len(CATALOGUE)


def test_every_row_is_of_a_known_family() -> None:
    assert {row.family for row in CATALOGUE.values()} == set(FAMILIES)


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*vit_small_patch16_224"):
        find("vit_smal_patch16_224")
    with pytest.raises(UsageError, match="lists what there is"):
        create("zzzz")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224.augreg_in21k", "timm/vit_tiny_patch16_224.augreg_in21k"])
def test_a_name_of_timm_with_its_tag_is_taken_apart(name: str) -> None:
    with pytest.raises(UsageError, match="say vit_tiny_patch16_224, and give the tag of its weights as pretrained"):
        find(name)


@pytest.mark.parametrize(
    ("name", "third"),
    [("efficientvit_xs", "mobilevit_xs"), ("efficientvitxs", "efficientvit_b1"), ("EfficientViT-XS", "mobilevit_xs")],
)
def test_efficientvit_has_no_xs_and_both_of_that_name_are_offered(name: str, third: str) -> None:
    with pytest.raises(UsageError, match="did you mean efficientvit_b0 or efficientvit_m0 or " + third):
        find(name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pol": "avg"}, "pol is not known; did you mean pool"),
        ({"pool": "average"}, "did you mean avg"),
        ({"depth": "six"}, "depth must be int"),
        ({"deep": 3}, "deep is not known; did you mean depth"),
        ({1: 2}, "1 is not known; known: "),
        ([1], "options must be names and their values"),
        ({"size": 48}, "size of vit_pico_patch4_32 is set beside the options"),
    ],
)
def test_options_are_checked_by_name_and_type(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        create("vit_pico_patch4_32", options=options)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "vit_pico_patch4_32"])
@pytest.mark.parametrize("rate", [2.0, 1.0, -0.1, float("nan"), "a", True])
def test_a_rate_is_checked_in_every_family(name: str, rate: object) -> None:
    with pytest.raises(UsageError, match=r"drop_path (lies in|must be a number)"):
        create(name, drop_path=rate)


def test_a_pattern_is_a_text() -> None:
    with pytest.raises(UsageError, match="pattern must be a text, not 3"):
        names(3)
    with pytest.raises(UsageError, match="A model needs a name"):
        find("")
    with pytest.raises(UsageError, match="did you mean swin_tiny_patch4"):
        find("SWIN_TINY")


def test_options_reach_the_network() -> None:
    vit = create("vit_pico_patch4_32", size=48, drop_path=0.1, options={"depth": 2, "pool": "token"})
    assert (vit.config.size, vit.config.depth, vit.config.pool, vit.config.drop_path) == (48, 2, "token", 0.1)


def test_listing_the_names_loads_no_torch() -> None:
    code = "import sys, vitreous.models as m; assert m.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_meta_networks_cost_no_memory() -> None:
    with torch.device("meta"):
        assert all(p.is_meta for p in create("vit_huge_patch14_224").parameters())


@pytest.mark.parametrize("name", names())
def test_the_table_of_costs_is_what_the_models_cost(name: str) -> None:
    found = describe(name)
    assert costs()[name] == (found.params, found.macs), "write the table again: python bench/costs.py"


def test_the_table_of_costs_is_the_catalogue() -> None:
    assert set(costs()) == set(CATALOGUE)
