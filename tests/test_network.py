from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from small_models import distinct, small

from vitreous.config import from_dict, to_dict
from vitreous.errors import UsageError
from vitreous.layers.conv import ConvNorm
from vitreous.layers.norm import LayerScale
from vitreous.models import CATALOGUE
from vitreous.network import IMAGENET_MEAN, IMAGENET_STD, Network, NetworkConfig, build_network

MODELS = ("vit_pico_patch4_32", "resnet20_cifar")


def build(model: str = "vit_pico_patch4_32", **more: object) -> Network:
    torch.manual_seed(0)
    depth = {"depth": 2} if model.startswith("vit") else {"depths": (1, 1, 1)}
    fields = {"model": model, "classes": 7, "size": 32, "options": depth} | more
    return build_network(NetworkConfig(**fields)).eval()


@pytest.mark.parametrize("model", MODELS)
def test_bytes_and_floats_give_the_same_logits(model: str) -> None:
    network = build(model)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        logits = network(pixels)
        assert logits.shape == (3, 7) and logits.dtype == torch.float32
        torch.testing.assert_close(network(pixels / 255), logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network(pixels.to(memory_format=torch.channels_last)), logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network.head(network.features(pixels)), logits)


def test_normalisation_is_its_formula() -> None:
    network = build(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    for c in range(3):
        expected = (pixels[:, c].double() / 255 - (0.1, 0.2, 0.3)[c]) / (0.4, 0.5, 0.6)[c]
        torch.testing.assert_close(network.normalise(pixels)[:, c].double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(3, 32, 32), r"\(b, 3, h, w\)"),
        (torch.zeros(1, 1, 32, 32), r"\(b, 3, h, w\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.int64), "uint8 or float"),
        (torch.zeros(1, 3, 0, 32), "0 x 32 pixels are empty"),
        (torch.zeros(1, 3, 32, 32).numpy(), "a torch tensor, not ndarray"),
        ([1], "a torch tensor, not list"),
    ],
)
def test_other_pixels_are_refused(image: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build()(image)


def test_preprocessing_travels_with_the_weights() -> None:
    one, two = build(mean=(0.1, 0.2, 0.3)), build()
    two.load_state_dict(one.state_dict())
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(one(image), two(image))


@pytest.mark.parametrize("model", MODELS)
def test_groups_hold_every_parameter_once_and_end_with_the_head(model: str) -> None:
    network = build(model)
    groups = network.groups()
    assert sorted(n for g in groups for n in g) == sorted(n for n, _ in network.named_parameters())
    assert groups[-1] == ["head.fc.weight", "head.fc.bias"]
    assert all(name.startswith("backbone.") for group in groups[:-1] for name in group)


def test_convolutions_lie_channels_last() -> None:
    network = build("resnet20_cifar")
    assert network.backbone.layer1[0].conv1.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert network.normalise(torch.rand(2, 3, 8, 8)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("model", MODELS)
def test_copies_and_bfloat16(model: str) -> None:
    network = build(model)
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(image)
        assert torch.equal(copy.deepcopy(network)(image), expected)
        half = network.bfloat16()(image)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_eight_pictures_by_heart(model: str) -> None:
    network = build(model, classes=8).train()
    image, label = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    first = loss = torch.nn.functional.cross_entropy(network(image), label)
    assert first.item() == pytest.approx(math.log(8), abs=0.3)
    for _ in range(40):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(image), label)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


def test_config_survives_json() -> None:
    config = NetworkConfig(model="vit_pico_patch4_32", classes=3, size=32, options={"pool": "token"})
    assert from_dict(NetworkConfig, to_dict(config)) == config
    assert (config.mean, config.std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "vit_pica_patch4_32"}, "did you mean vit_pico_patch4_32"),
        ({"classes": 0}, "at least 1 class"),
        ({"classes": 10**30}, "take fewer"),
        ({"classes": 2**31 - 1, "options": {"width": 2**16}}, "not fit into memory; take fewer"),
        ({"size": 160_000_000}, "not fit into memory; take fewer"),
        ({"classes": 2.5}, r"classes must be a whole number, not 2\.5"),
        ({"classes": "5"}, "classes must be a whole number, not '5'"),
        ({"size": 32.0}, r"size must be a whole number, not 32\.0"),
        ({"size": 30}, "not a multiple of the patch 4; use"),
        ({"size": 0}, "at least 1 pixel"),
        ({"drop_path": "a"}, "drop_path must be a number, not 'a'"),
        ({"drop_path": 1.0}, "drop_path lies in"),
        ({"dropout": -0.1}, "dropout lies in"),
        ({"std": (0.0, 1.0, 1.0)}, "std must be positive"),
        ({"options": {"pol": "avg"}}, "did you mean pool"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(**change)


def settled(name: str) -> tuple[Network, int]:
    """The small network of a row, with weights and statistics away from their first values."""
    size, options = small(CATALOGUE[name])
    torch.manual_seed(0)
    network = build_network(NetworkConfig(model=name, classes=7, size=size, options=options)).train()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p) * 0.05)
        for _ in range(3):
            network(torch.rand(4, 3, size, size))
    return network.eval(), size


@pytest.mark.parametrize("name", distinct())
def test_an_optimised_network_answers_the_same(name: str) -> None:
    """Also for other batches and sizes than the first, and for the first again."""
    network, size = settled(name)
    fast = network.optimise()
    with torch.no_grad():
        for b, h, w in [
            (3, size, size),
            (1, size, size),
            (5, 2 * size, size + 5),
            (2, size // 2, size),
            (3, size, size),
        ]:
            image = torch.randint(0, 256, (b, 3, h, w), dtype=torch.uint8)
            expected, got = network.features(image), fast.features(image)
            pairs = [*zip(expected.maps, got.maps, strict=True), (expected.pooled, got.pooled)]
            for x, y in [*pairs, (network(image), fast(image))]:
                torch.testing.assert_close(y, x, rtol=0, atol=1e-4 * x.abs().max().item())


@pytest.mark.parametrize("name", distinct())
def test_nothing_is_left_to_fold_or_fuse(name: str) -> None:
    network, size = settled(name)
    before = {key: t.clone() for key, t in network.state_dict().items()}
    fast = network.optimise()
    kinds = {type(module) for module in fast.modules()}
    assert not kinds & {ConvNorm, torch.nn.Linear, torch.nn.Conv2d, LayerScale}
    assert not any(p.requires_grad for p in fast.parameters())
    fast(torch.rand(1, 3, size, size))
    assert all(torch.equal(t, before[key]) for key, t in network.state_dict().items())  # the original is untouched
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_an_optimised_network_is_for_inference_alone(model: str) -> None:
    network = build(model)
    fast = network.optimise()
    assert not fast.training and fast.eval() is fast and fast.optimise() is fast
    other = copy.deepcopy(fast)
    for refused in (
        fast.train,
        fast.state_dict,
        lambda: fast.load_state_dict(network.state_dict()),
        lambda: pickle.dumps(fast),
        lambda: torch.save(other, io.BytesIO()),
        fast.backbone.freeze,
        lambda: fast.backbone.freeze(0),
    ):
        with pytest.raises(UsageError, match=r"An optimised network.* network"):
            refused()
    assert not fast.training


@pytest.mark.parametrize("model", MODELS)
def test_an_optimised_network_can_be_copied_and_converted(model: str) -> None:
    network = build(model)
    fast = network.optimise()
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = fast(image)
        other = copy.deepcopy(fast)
        assert torch.equal(other(image), expected) and torch.equal(copy.copy(fast)(image), expected)
        assert not {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in fast.parameters()}
        half = fast.bfloat16()(image)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.1, rtol=0.1)


def test_optimising_takes_a_snapshot() -> None:
    """Training on does not reach the copy, in any part of it."""
    network = build()
    fast, image = network.optimise(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = fast(image)
        for p in network.parameters():
            p.zero_()
        assert torch.equal(fast(image), before)
