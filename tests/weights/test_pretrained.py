"""A network, and a run, that begin with published weights; the hub is a server on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_hub
import pytest
import safetensors.torch
import torch
from fake_hub import FakeHub
from torch import Tensor

import vitreous as vt
from vitreous.cli.main import main
from vitreous.errors import DamagedFile, Unreachable, UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.run import execution
from vitreous.weights import hub as client
from vitreous.weights import ledger, pretrained

MODEL, TAG = "vit_tiny_patch16_224", "augreg_in21k_ft_in1k"
SHORT = {"depth": 1}


def original(size: int = 224, classes: int = 1000) -> Network:
    """What the publisher trained: one block of the model, at the size and with the constants of the ledger."""
    torch.manual_seed(1)
    mean, std = ledger.HALF
    config = NetworkConfig(model=MODEL, classes=classes, size=size, mean=mean, std=std, options=SHORT)
    return build_network(config).eval()


def as_timm(network: Network) -> bytes:
    tensors = {
        re.sub(r"^head\.fc", "head", key.removeprefix("backbone.")): t
        for key, t in network.state_dict().items()
        if key not in ("mean", "std")
    }
    return safetensors.torch.save(tensors)


@pytest.fixture(scope="module")
def published() -> tuple[Network, bytes]:
    network = original()
    return network, as_timm(network)


@pytest.fixture
def hub(published: tuple[Network, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    import huggingface_hub

    with fake_hub.serving() as hub:
        fake_hub.point_client(monkeypatch, hub.endpoint, tmp_path / "home")
        hub.add(f"timm/{MODEL}.{TAG}", published[1])
        yield hub
        huggingface_hub.close_session()


def picture(channels: int = 3, size: int = 224) -> Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_the_whole_network_comes_back(hub: FakeHub, published: tuple[Network, bytes]) -> None:
    for classes, tag in ((None, True), (1000, TAG)):
        network = vt.create(MODEL, classes=classes, pretrained=tag, options=SHORT).eval()
        assert torch.equal(network(picture()), published[0](picture()))
    assert hub.transfers() == [None]


def test_another_number_of_classes_has_a_fresh_classifier(
    hub: FakeHub, published: tuple[Network, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vitreous"):
        network = vt.create(MODEL, classes=37, pretrained=True, options=SHORT).eval()
    assert f"timm/{MODEL}.{TAG}" in caplog.text and "a fresh classifier" in caplog.text
    with torch.inference_mode():
        assert network(picture()).shape == (2, 37)
        ours, theirs = network.features(picture()), published[0].features(picture())
    assert torch.equal(ours.pooled, theirs.pooled)


@torch.inference_mode()
def test_another_size_resamples_the_positions(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "vitreous"):
        network = vt.create(MODEL, pretrained=True, size=112, options=SHORT).eval()
    assert "resampled backbone.pos_embed (1, 197, 192) to (1, 50, 192)" in caplog.text
    assert network.config.size == 112 and network(picture(size=112)).shape == (2, 1000)


@torch.inference_mode()
def test_grey_pictures_mean_the_same_in_one_channel_as_in_three(hub: FakeHub, published: tuple[Network, bytes]) -> None:
    network = vt.create(MODEL, pretrained=True, channels=1, options=SHORT).eval()
    grey = picture(channels=1)
    assert torch.allclose(network(grey), published[0](grey.expand(-1, 3, -1, -1)), atol=1e-5)
    assert vt.create(MODEL, pretrained=True, channels=4, options=SHORT).eval()(picture(4)).shape == (2, 1000)


def test_constants_of_any_number_of_channels() -> None:
    assert pretrained.normalisation(ledger.IMAGENET, 3) == ledger.IMAGENET
    (mean,), (std,) = pretrained.normalisation(ledger.IMAGENET, 1)
    assert mean == pytest.approx(0.449) and std == pytest.approx(0.226)
    mean, std = pretrained.normalisation(ledger.IMAGENET, 5)
    assert mean == (0.485, 0.456, 0.406, 0.485, 0.456) and std == (0.229, 0.224, 0.225, 0.229, 0.224)
    with pytest.raises(UsageError, match="at least 1 channel"):
        pretrained.normalisation(ledger.IMAGENET, 0)


def test_without_weights_a_network_is_fresh() -> None:
    network = vt.create("resnet20_cifar", classes=4, channels=1)
    assert isinstance(network, Network) and network.config.size == 32 and network.mean.shape == (1, 1, 1, 1)
    assert network.eval()(torch.rand(2, 1, 32, 32)).shape == (2, 4)
    assert vt.create("resnet20_cifar").config.classes == 1000


def test_a_file_brought_by_hand(hub: FakeHub, published: tuple[Network, bytes], tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(published[1])
    network = vt.create(MODEL, pretrained=True, weights=file, options=SHORT)
    assert network.config.mean == ledger.HALF[0] and hub.asked == []


def test_a_file_brought_by_hand_is_held_against_what_is_known(
    hub: FakeHub, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Known is what the hub said when the file came into the cache; otherwise nothing, and that is said too."""
    from vitreous import recipes

    file, other = tmp_path / "same.safetensors", tmp_path / "other.safetensors"
    file.write_bytes(hub.repositories[f"timm/{MODEL}.{TAG}"].data)
    other.write_bytes(as_timm(original(classes=3)))
    name, said = f"timm/{MODEL}.{TAG}", []
    for given in (file, file, other):
        with caplog.at_level(logging.INFO, "vitreous"):
            vt.create(MODEL, pretrained=TAG, weights=given, options=SHORT)
        wishes = recipes.Wishes(data=str(photos), model=MODEL, pretrained=True, weights=str(given))
        reasons = recipes.choose(wishes)[1]
        said += [r for r in caplog.records if r.getMessage().rstrip(".") in reasons]
        caplog.clear()
        if len(said) == 1:
            assert hub.asked == []
            vt.create(MODEL, pretrained=TAG, options=SHORT)
            caplog.clear()
    assert [record.levelname for record in said] == ["INFO", "INFO", "WARNING"]
    assert f"{file} is taken for {name}; nothing on this machine says if it is" in said[0].getMessage()
    assert said[1].getMessage() == f"{file} is {name}, by its SHA-256."
    assert f"{other} is taken for {name}, and is another file (SHA-256 " in said[2].getMessage()


def test_a_file_of_ones_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tuned, file = original(classes=7), tmp_path / "tuned.safetensors"
    file.write_bytes(as_timm(tuned))
    network = vt.create(MODEL, weights=file, options=SHORT)
    assert network.config.classes == 7 and network.config.mean == ledger.HALF[0] and not caplog.records
    with torch.no_grad():
        assert torch.equal(network.eval()(picture()), tuned(picture()))
    for classes, kept in ((7, True), (5, False)):
        network = vt.create(MODEL, weights=file, classes=classes, options=SHORT)
        same = network.head.fc.weight.shape == tuned.head.fc.weight.shape
        assert (same and torch.equal(network.head.fc.weight, tuned.head.fc.weight)) == kept
        assert torch.equal(network.backbone.cls_token, tuned.backbone.cls_token)
    network = vt.create(MODEL, pretrained=True, weights=file, classes=7, options=SHORT)
    assert torch.equal(network.head.fc.weight, tuned.head.fc.weight)  # the file's head, whatever was published
    file.write_bytes(safetensors.torch.save({k: t for k, t in original().backbone.state_dict().items()}))
    with pytest.raises(UsageError, match=r"has no classifier; .*classes=N"):
        vt.create(MODEL, weights=file, options=SHORT)


def test_constants_follow_the_kind_of_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = vt.create("resnet18", classes=3, options={"depths": (1, 1, 1, 1)})
    rules = ((r"^backbone\.", ""), (r"conv(\d)\.conv", r"conv\1"), (r"conv(\d)\.norm", r"bn\1"), (r"^head\.fc", "fc"))
    tensors = {}
    for key, tensor in network.state_dict().items():
        name = key
        for ours, theirs in (*rules, (r"downsample\.conv", "downsample.0"), (r"downsample\.norm", "downsample.1")):
            name = re.sub(ours, theirs, name)
        tensors[name] = tensor.contiguous()
    file = tmp_path / "w.safetensors"
    file.write_bytes(safetensors.torch.save({k: t for k, t in tensors.items() if k not in ("mean", "std")}))
    assert vt.create("resnet18", weights=file, options={"depths": (1, 1, 1, 1)}).config.mean == ledger.IMAGENET[0]
    assert not caplog.records
    file.write_bytes(
        safetensors.torch.save(
            {k: t.contiguous() for k, t in network.state_dict().items()} | {"mean": torch.full((1, 3, 1, 1), 0.25)}
        )
    )
    own = vt.create("resnet18", weights=file, options={"depths": (1, 1, 1, 1)})
    assert own.config.mean == (0.25, 0.25, 0.25)


def test_calls_that_cannot_work_are_refused_before_any_work(hub: FakeHub) -> None:
    for words, call in {
        "no classifier; .*classes=N": {"model": "vit_small_patch16_224", "pretrained": "dino"},
        "No published weights": {"model": "resnet20_cifar", "pretrained": True},
        "leave out pretrained to take w.pt": {"model": "resnet20_cifar", "pretrained": True, "weights": "w.pt"},
        "has augreg_in21k_ft_in1k, augreg_in21k": {"model": MODEL, "pretrained": "best"},
        "did you mean": {"model": "vit_tiny_patch16_22", "pretrained": True},
        "at least 1 class": {"model": MODEL, "classes": 0},
        "needs at least 1 class": {"model": MODEL, "classes": 0, "pretrained": True},
        "classes must be a whole number": {"model": MODEL, "classes": 2.5},
        "channels must be a whole number": {"model": MODEL, "channels": 2.0},
    }.items():
        with pytest.raises(UsageError, match=words):
            vt.create(**call)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"model": None}, "model must be a text, not None"),
        ({"size": "224"}, "size must be a whole number, not '224'"),
        ({"size": (160, 224)}, r"size must be a whole number, not \(160, 224\)"),
        ({"classes": "3"}, "classes must be a whole number, not '3'"),
        ({"classes": True}, "classes must be a whole number, not True"),
        ({"channels": 10**12}, "at most 65,536 channels"),
        ({"channels": "3"}, "channels must be a whole number, not '3'"),
        ({"drop_path": "a"}, "drop_path must be a number, not 'a'"),
        ({"drop_path": None}, "drop_path must be a number, not None"),
        ({"options": [1]}, r"options must be names and their values, not \[1\]"),
        ({"weights": 3}, "weights must be the path of a file, not 3"),
        ({"num_classes": 10}, "created without num_classes; write classes"),
        ({"drop_path_rate": 0.1}, "drop_path_rate; write drop_path"),
        ({"img_size": 64}, "img_size; write size"),
        ({"in_chans": 1}, "in_chans; write channels"),
        ({"clases": 3}, "created without clases; write classes"),
        ({"num_clases": 3}, "num_clases; write classes"),
        ({"pretrained": 5}, "true, false or the tag of published weights, not 5"),
        ({"pretrained": ""}, "true, false or the tag of published weights, not ''"),
        ({"global_pool": "avg"}, "global_pool; fields of the family's config go into options"),
    ],
)
def test_arguments_of_the_wrong_kind_or_name_are_told_from_those_meant(call: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        vt.create(**{"model": MODEL} | call)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_weights_under_a_restricting_licence_are_announced(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="There is no public"):  # this hub does not have them
        vt.create("vit_base_patch16_224", pretrained="mae", classes=2, options=SHORT)
    assert "timm/vit_base_patch16_224.mae: CC-BY-NC-4.0 (not for commercial use)." in caplog.text


# ---------------------------------------------------------------- runs


def train(photos: Path, out: Path, **more: object) -> vt.Predictor:
    settings = {"model": MODEL, "pretrained": True, "size": 32, "epochs": 0.2, "batch": 8}
    steps = ["network.options.depth=1", "train.precision=fp32"]
    return vt.train(photos, out=out, quiet=True, set=steps, **settings | more)


def test_a_run_says_what_it_began_with_and_can_be_repeated(
    hub: FakeHub, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = pretrained.parse(f"hub:{MODEL}").fetch()[0].sha256
    run = train(photos, tmp_path / "one")
    assert run.network.config.mean == ledger.HALF[0] and run.network.config.size == 32
    assert run.card["initialisation"] == f"weights of timm/{MODEL}.{TAG}, SHA-256 {digest}"
    assert run.card["licences"][f"timm/{MODEL}.{TAG}"] == "Apache-2.0"
    values = json.loads((tmp_path / "one" / "run.json").read_text())
    assert values["weights"] == f"hub:{MODEL}.{TAG}@{digest}"

    again = vt.train(tmp_path / "one" / "run.json", out=tmp_path / "two", quiet=True)
    assert all(torch.equal(t, again.network.state_dict()[key]) for key, t in run.network.state_dict().items())
    assert len(hub.transfers()) == 1

    on = vt.train(photos, weights=tmp_path / "one", epochs=0.2, out=tmp_path / "on", quiet=True)
    assert on.network.config.mean == ledger.HALF[0] and on.network.config.options == SHORT

    hub.repositories[f"timm/{MODEL}.{TAG}"].data += b" "
    assert pretrained.parse(values["weights"]).fetch()[0].sha256 == digest, "what was named is here"
    fake_hub.point_client(monkeypatch, hub.endpoint, tmp_path / "another home")
    with pytest.raises(DamagedFile, match="another file today"):
        vt.train(tmp_path / "one" / "run.json", out=tmp_path / "three", quiet=True)


def test_a_stopped_run_goes_on_without_the_hub(
    hub: FakeHub, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(execution, "_finish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(photos, tmp_path / "run")
    fake_hub.point_client(monkeypatch, "http://127.0.0.1:9", tmp_path / "another home")
    assert vt.resume(tmp_path / "run", quiet=True).card["licences"][f"timm/{MODEL}.{TAG}"] == "Apache-2.0"


def test_a_run_from_a_file_brought_by_hand(
    hub: FakeHub, published: tuple[Network, bytes], photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(published[1])
    run = train(photos, tmp_path / "run", weights=file)
    assert run.network.config.mean == ledger.HALF[0] and hub.asked == []
    assert run.card["initialisation"].startswith(f"weights of {file}")


def test_what_is_chosen_and_said(hub: FakeHub, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitreous import recipes

    run, reasons = recipes.choose(recipes.Wishes(data=str(photos), model=MODEL, pretrained=True))
    assert run.network.size == run.data.preprocess.size == 224 and run.train.optim.name == "adamw"
    assert "size 224: these weights were trained at 224 px" in reasons
    assert f"weights timm/{MODEL}.{TAG}: licence Apache-2.0" in reasons
    place = f"hub:{MODEL}.{TAG}"
    same, _ = recipes.choose(recipes.Wishes(data=str(photos), weights=place))
    assert same == run
    for words, wishes in {
        "needs --model NAME": {"weights": str(tmp_path / "w.pt"), "pretrained": True},
        "leave out --model": {"weights": place, "model": "resnet18"},
        "leave out --model and --pretrained": {"weights": place, "pretrained": True},
        "not with those of another run": {"weights": str(tmp_path), "model": MODEL, "pretrained": True},
    }.items():
        with pytest.raises(UsageError, match=words):
            recipes.choose(recipes.Wishes(data=str(photos), **wishes))


def test_the_usual_weights(hub: FakeHub, photos: Path) -> None:
    from vitreous import recipes
    from vitreous.recipes.transfer import DEFAULT

    weights = ledger.find(DEFAULT)
    assert weights.licence not in ledger.RESTRICTED
    scratch, reasons = recipes.choose(recipes.Wishes(data=str(photos)))
    assert scratch.weights is None and not any("--pretrained" in reason for reason in reasons) and hub.asked == []
    hub.add(ledger.repository(DEFAULT, weights), b"nothing that is read here")
    run, reasons = recipes.choose(recipes.Wishes(data=str(photos), pretrained=True))
    assert run.network.model == DEFAULT and run.network.size == 112  # the pictures are small, and 8 patches of 14 wide
    assert run.weights is not None and run.weights.startswith(f"hub:{DEFAULT}.") and run.tune.probe
    asked = len(hub.asked)
    again, reasons = recipes.choose(recipes.Wishes(data=str(photos)))
    assert again == scratch and not any(DEFAULT in reason for reason in reasons), "24 px are too few for them"
    assert len(hub.asked) == asked


@pytest.fixture
def larger(draw: Callable[..., Path], tmp_path: Path) -> Path:
    """Twelve pictures of 70 px."""
    for number in range(6):
        draw(tmp_path / "larger", "round", number, side=70)
        draw(tmp_path / "larger", "long", number, side=70)
    return tmp_path / "larger"


def test_the_usual_weights_are_begun_with_where_they_are_at_hand(hub: FakeHub, larger: Path) -> None:
    from vitreous import recipes
    from vitreous.recipes.transfer import DEFAULT

    def chosen(**wishes: Any) -> tuple[Any, str]:
        run, reasons = recipes.choose(recipes.Wishes(data=str(larger), **wishes))
        return run, "\n".join(reasons)

    repository = ledger.repository(DEFAULT, ledger.find(DEFAULT))
    file = hub.add(repository, b"nothing that is read here")
    scratch, said = chosen()
    assert scratch.weights is None and "--pretrained would fetch" in said and "(about 90 MB)" in said
    assert hub.asked == [], "nobody asked for a transfer"
    asked_for, _ = chosen(pretrained=True)
    hub.asked.clear()
    run, said = chosen()
    assert run == asked_for and run.weights.endswith(f"@{hashlib.sha256(file.data).hexdigest()}")
    assert f"model {DEFAULT} at 112 px: its weights are in the cache; --recipe scratch begins without them" in said
    file.data = b"a new revision"
    assert chosen()[0] == run and hub.asked == []
    assert chosen(weights=run.weights)[0].weights == run.weights and hub.asked == []
    for wishes in (
        {"recipe": "scratch"},
        {"recipe": "plain"},
        {"teacher": "resnet20_cifar"},
        {"size": 64},  # 14 is no divisor
        {"set": ["network.options.mixer=none"]},
        {"set": ["init=mimetic"]},
        {"model": "resnet18"},
    ):
        run, said = chosen(**wishes)
        assert run.weights is None and "pretrained" not in said, wishes
    assert chosen(recipe="scratch")[0] == scratch
    run, said = chosen(budget="0.1s")
    assert run.weights is None and "less than one pass with them; --pretrained" in said
    for name in ("digits", "shapes"):
        assert recipes.choose(recipes.Wishes(data=name))[0].weights is None


def test_a_comparison_begins_from_scratch_where_it_says_so(hub: FakeHub, larger: Path) -> None:
    from vitreous.comparison import arms as makers
    from vitreous.comparison.question import Question
    from vitreous.data.dataset import open_source
    from vitreous.recipes.transfer import DEFAULT

    repository = ledger.repository(DEFAULT, ledger.find(DEFAULT))
    hub.add(repository, b"nothing that is read here")
    client.fetch(repository)
    source = open_source(str(larger))
    question = Question(data=str(larger), models=("auto",), init=("scratch", "pretrained"))
    data = makers.data_of(question, source)
    *scratch, begun = makers.arms(question, source, data, 600.0)
    assert [arm.run.weights for arm in scratch if arm.run] == [None] * 3
    assert begun.run is not None and begun.run.network.model == DEFAULT and begun.run.weights is not None


def test_the_command_line(
    hub: FakeHub,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*more: str) -> int:
        return main(["train", str(photos), "--model", MODEL, "--out", str(tmp_path / "run"), "--size", "32", *more])

    monkeypatch.chdir(tmp_path)
    assert run("--pretrained", "best") == UsageError.exit_code
    fake_hub.point_client(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
    assert run("--pretrained") == Unreachable.exit_code
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"http://127.0.0.1:9/timm/{MODEL}.{TAG}/resolve/main/model.safetensors on another machine" in said
    assert not (tmp_path / "run").exists()
    fake_hub.point_client(monkeypatch, hub.endpoint, tmp_path / "home")
    few = ["--epochs", "0.2", "--batch", "8", "--set", "network.options.depth=1"]
    assert run("--pretrained", TAG, *few) == 0
    said = capsys.readouterr()
    assert "a fresh classifier" in said.err and "licence Apache-2.0" in said.err
