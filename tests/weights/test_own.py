"""Our own files say which network their weights are of: what no shape shows is refused, or told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import vitreous as vt
from vitreous.config import canonical, from_dict, to_dict
from vitreous.errors import DamagedFile, UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.run.start import load_weights
from vitreous.store.checkpoint import RunFolder
from vitreous.store.tensors import write_tensors
from vitreous.weights import foreign
from vitreous.weights.files import note

V2 = {"width": 4, "depths": (2, 1), "heads": (1, 2)}
VIT = {"width": 16, "depth": 1, "heads": 4}


def build(model: str, size: int, **options: object) -> Network:
    return build_network(NetworkConfig(model=model, classes=3, size=size, options=options)).eval()


def write(network: Network, place: Path, about: dict[str, str] | None = None) -> Path:
    write_tensors(place, network.state_dict(), foreign.about(network.config) if about is None else about)
    return place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        (build("hybrid_tiny_32", 32), build("hybrid_tiny_64", 64), "build it with halvings=0"),
        (build("vit_pico_patch4_32", 32, **VIT), build("vit_pico_patch4_32", 32, **VIT | {"heads": 2}), "heads=4"),
        (
            build("swinv2_tiny_window8_256", 64, **V2, window=4, trained=(3, 3)),
            build("swinv2_tiny_window8_256", 64, **V2, window=4),
            "in windows of 3 cells in stage 1.*those of 4",
        ),
        (build("resnet20_cifar", 32), build("vit_pico_patch4_32", 32, **VIT), "weights of resnet20_cifar, not of vit"),
    ],
)
def test_other_arithmetic_of_the_same_shapes_is_refused(file: Path, theirs: Network, ours: Network, words: str) -> None:
    before = {key: t.clone() for key, t in ours.state_dict().items()}
    with pytest.raises(UsageError, match=words):
        foreign.load(ours, write(theirs, file))
    assert all(torch.equal(t, before[key]) for key, t in ours.state_dict().items())


def test_windows_of_another_side_are_told(file: Path) -> None:
    write(build("swinv2_tiny_window8_256", 64, **V2, window=4), file)
    told = foreign.load(build("swinv2_tiny_window16_256", 64, **V2, window=8), file).resampled
    assert told == tuple(f"layers.{i}: offsets measured in windows of 4 cells to those of 8" for i in range(2))
    kept = build("swinv2_tiny_window16_256", 64, **V2, window=8, trained=(4, 4))
    assert foreign.load(kept, file).resampled == ()


def test_what_weights_do_not_depend_on_may_differ(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = build("vit_tiny_patch16_224", 64, **VIT)
    config = NetworkConfig(model="deit_tiny_patch16_224", classes=3, size=64, drop_path=0.1, options=VIT)
    ours = build_network(config)
    assert foreign.load(ours, write(theirs, file)).resampled == ()
    assert torch.equal(ours.head.fc.weight, theirs.head.fc.weight)
    both = build("vit_tiny_patch16_224", 64, **VIT, pool="both")
    assert foreign.load(both, file, keep_head=False).resampled == ("pool token to both",)
    assert not caplog.records


def test_weights_that_do_not_say_are_taken_with_a_word(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs, ours = (build("resnet20_cifar", 32) for _ in range(2))
    for source in (theirs.state_dict(), write(theirs, file, {"format": "pt"})):
        with caplog.at_level(logging.WARNING):
            foreign.load(ours, source)
        assert "does not say which network its weights are of; they are taken for those of resnet20" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("note", ["{", "[" * 100_000, "[]", '{"model": 3}', '{"model": "resnet20_cifar", "depth": 1}'])
def test_a_note_that_is_none_is_refused(file: Path, note: str) -> None:
    ours = build("resnet20_cifar", 32)
    with pytest.raises((UsageError, DamagedFile), match=r"w\.safetensors"):
        foreign.load(ours, write(ours, file, {foreign.NOTE: note}))


def test_equal_networks_give_equal_files(file: Path) -> None:
    """The format writes several notes in any order; ours is one."""
    network = build("resnet20_cifar", 32)
    assert len({write(network, file).read_bytes() for _ in range(8)}) == 1


def test_a_run_says_it_too_and_so_does_the_file_in_it(tmp_path: Path) -> None:
    theirs, ours = build("hybrid_tiny_32", 32), build("hybrid_tiny_64", 64)
    run = RunFolder.create(tmp_path / "run")
    card = {"data": {"classes": ["a", "b", "c"]}, "network": {"config": to_dict(theirs.config)}}
    with run.lock():
        run.publish(theirs.state_dict(), card, None, foreign.about(theirs.config))
    for place in (run.path, run.path / "weights.safetensors"):
        with pytest.raises(UsageError, match="halvings=0"):
            load_weights(ours, str(place), "abc")
    same = build("hybrid_tiny_64", 64, halvings=0)
    assert not load_weights(same, str(run.path), "abc").fresh
    assert load_weights(same, str(run.path), "xyz").fresh


def test_training_writes_the_note(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = trained / "weights.safetensors"
    config = from_dict(NetworkConfig, RunFolder.open(trained).load_card()["network"]["config"])
    assert note(file, foreign.NOTE) == canonical(config)
    foreign.load(build_network(config), file)
    assert not caplog.records


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("vit_tiny_patch16_224", {"options": VIT | {"pool": "avg"}, "size": 64}),  # whose published mean is another
        ("vit_tiny_patch16_224", {"options": VIT, "channels": 4}),
        ("mobilevit_xxs", {}),  # whose kernels lie channels last
    ],
)
@torch.inference_mode()
def test_a_saved_network_comes_back_as_it_was(file: Path, model: str, more: dict[str, Any]) -> None:
    network = vt.create(model, classes=5, **more).eval()
    network.save(file)
    again = vt.create(model, weights=file).eval()
    image = torch.rand(1, more.get("channels", 3), 64, 64)
    assert torch.equal(again(image), network(image)) and again.config == network.config
    torch.save(network.state_dict(), file.with_suffix(".pt"))
    plain = vt.create(model, weights=file.with_suffix(".pt"), **more).eval()
    assert torch.equal(plain(image), network(image))


def test_weights_go_into_other_numbers_of_channels(file: Path) -> None:
    theirs = vt.create("vit_tiny_patch16_224", classes=5, options=VIT).eval()
    theirs.save(file)
    grey = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        one = vt.create("vit_tiny_patch16_224", weights=file, channels=1).eval()
        four = vt.create("vit_tiny_patch16_224", weights=file, channels=4).eval()
        assert four.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406, 0.485])
        assert one(grey).shape == four(torch.rand(1, 4, 32, 32)).shape == (1, 5)
        assert one.mean.item() == pytest.approx(0.449)


def test_a_place_or_weights_that_cannot_be_saved_are_refused(file: Path) -> None:
    network = build("resnet20_cifar", 32)
    for place, words in (
        (file.with_suffix(".pt"), "called w.safetensors"),
        (file.parent / "no" / file.name, "no place"),
    ):
        with pytest.raises(UsageError, match=words):
            network.save(place)
    with torch.no_grad():
        network.head.fc.weight[0, 0] = torch.nan
    with pytest.raises(DamagedFile, match=r"head\.fc\.weight"):
        network.save(file)
    assert not list(file.parent.iterdir())
