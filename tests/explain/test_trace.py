"""The shapes that the subject's own account of ViT prints, out of the running model; costs against closed forms."""

from __future__ import annotations

import pytest
import torch

from vitreous.errors import UsageError
from vitreous.explain.trace import Recorder, Trace, parts, trace
from vitreous.models.describe import describe
from vitreous.network import NetworkConfig, build_network


def outputs(found: Trace, module: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(step.operation, step.output) for step in found.steps if step.module == module]


def test_vit_base_gives_the_shapes_of_the_subject() -> None:
    found = trace("vit_base_patch16_224", batch=3, timed=False)
    assert found.steps[3].output == (3, 3, 224, 224)
    assert outputs(found, "backbone.patch_embed")[-1] == ("transpose", (3, 196, 768))
    *_, joined = (step for step in found.steps if step.module == "backbone" and step.operation == "cat")
    assert joined.inputs == ((3, 1, 768), (3, 196, 768)) and joined.output == (3, 197, 768)


def test_queries_keys_and_values_of_32_pictures() -> None:
    found = trace("vit_base_patch16_224", batch=32, timed=False)
    assert outputs(found, "backbone.blocks.0.attn").count(("unbind", (32, 12, 197, 64))) == 3
    assert outputs(found, "backbone.blocks.11.attn.attend")[0] == ("attention", (32, 12, 197, 197))


def test_swin_tiny_gives_the_shapes_of_the_subject() -> None:
    found = trace("swin_tiny_patch4_window7_224", batch=3, timed=False)
    path = [step.output for step in found.steps]
    assert (3, 3136, 96) in path and (3, 56, 56, 96) in path
    merging = [step.output for step in found.steps if step.module.startswith("backbone.layers.1.downsample")]
    assert [shape for shape in merging if shape in ((3, 28, 28, 384), (3, 784, 384), (3, 784, 192))] == [
        (3, 28, 28, 384),
        (3, 784, 384),  # into the norm
        (3, 784, 384),  # out of it
        (3, 784, 192),
    ]


def test_swin_windows_are_the_subjects_out_and_back() -> None:
    """The mask's picture into windows, and the first block's windows back into their pictures."""
    found = trace("swin_tiny_patch4_window7_224", batch=3, timed=False)
    path = [step.output for step in found.steps if step.module.startswith("backbone.layers.0.blocks")]
    out_and_back = [(192, 7, 7, 96), (3, 8, 8, 7, 7, 96), (3, 56, 56, 96)]
    mask = [(1, 56, 56, 1), (1, 8, 7, 8, 7, 1), (64, 7, 7, 1)]
    for wanted in (out_and_back, mask):
        rest = iter(path)
        assert all(shape in rest for shape in wanted), wanted  # one after another, in this order


def test_alike_neighbours_are_one_stage() -> None:
    stages = {stage.name: stage for stage in trace("vit_base_patch16_224", timed=False).stages}
    assert list(stages) == [
        "backbone.cls_token",
        "backbone.pos_embed",
        "backbone.patch_embed",
        "backbone.blocks.0-11",
        "backbone.norm",
        "head",
    ]
    blocks = stages["backbone.blocks.0-11"]
    n, d = 197, 768
    assert blocks.alike == 12 and blocks.params == 12 * (12 * d * d + 13 * d)
    assert blocks.macs == 12 * (12 * n * d * d + 2 * n * n * d)
    assert blocks.share is None


@pytest.mark.parametrize("name", ["vit_pico_patch8_96", "resnet18", "resnet20_cifar"])
def test_stages_add_up_to_the_whole(name: str) -> None:
    found, whole = trace(name, classes=1000, timed=False), describe(name)
    assert sum(stage.params for stage in found.stages) == found.params == whole.params
    assert sum(stage.macs for stage in found.stages) == found.macs == whole.macs
    assert sum(step.macs for step in found.steps) == found.macs
    twice = trace(name, batch=2, timed=False)
    assert twice.macs == 2 * found.macs and twice.params == found.params


def test_shapes_without_arithmetic_are_those_with_it() -> None:
    """The meta device computes nothing; a real pass must take the same way."""
    config = NetworkConfig(model="vit_pico_patch4_32", classes=3, size=32)
    network, image = build_network(config).eval(), torch.rand(2, 3, 32, 32)
    with torch.no_grad(), Recorder(network) as real:
        network(image)
    expected = trace("vit_pico_patch4_32", classes=3, batch=2, timed=False).steps
    assert [step[:4] for step in real.steps] == [step[:4] for step in expected]
    before = len(real.steps)
    network(image)  # outside, nothing is recorded and no hook is left
    assert len(real.steps) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_times_are_shares_of_a_pass() -> None:
    found = trace("vit_pico_patch4_32")
    shares = [stage.share for stage in found.stages if stage.share is not None]
    assert found.seconds is not None and found.seconds > 0
    assert len(shares) == 4 and all(share > 0 for share in shares) and sum(shares) <= 1
    assert max(found.stages, key=lambda stage: stage.share or 0).name == "backbone.blocks.0-5"


@pytest.mark.parametrize(
    ("name", "size", "shapes"),
    [
        ("vit_base_patch16_224", (160, 224), [(1, 140, 768), (1, 141, 768)]),
        ("vit_base_patch16_224", (165, 225), [(1, 3, 176, 240), (1, 165, 768)]),  # padded to whole patches
        ("swin_tiny_patch4_window7_224", (160, 224), [(1, 2240, 96), (48, 7, 7, 96), (1, 5, 7, 768)]),
        ("resnet50", (160, 224), [(1, 2048, 5, 7)]),
        ("mobilevit_s", (160, 224), [(1, 160, 5, 7), (4, 12, 240)]),  # 5 x 7 cells, stretched to 6 x 8
        ("efficientvit_b1", (160, 224), [(1, 256, 5, 7)]),
    ],
)
def test_pictures_need_not_be_square(name: str, size: tuple[int, int], shapes: list[tuple[int, ...]]) -> None:
    found = trace(name, size=size, timed=False)
    path = {step.output for step in found.steps}
    assert path >= set(shapes) and found.size == size
    assert trace(name, size=size[::-1], timed=False).macs == found.macs


def test_more_than_a_few_minutes_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitreous.explain.trace.MOST_TIMED", 10**6)
    monkeypatch.setattr("vitreous.explain.trace._times", lambda *_: pytest.fail("too much"))
    assert trace("vit_pico_patch4_32", size="16x40").seconds is None
    monkeypatch.undo()
    passes: list[None] = []
    monkeypatch.setattr("vitreous.explain.trace.PATIENCE", 0)
    monkeypatch.setattr("vitreous.network.Network.normalise", lambda _, image: passes.append(None) or image)
    assert trace("vit_pico_patch4_32").seconds and len(passes) == 3  # for the shapes, to warm up, and for the time


def test_a_square_is_a_rectangle() -> None:
    assert trace("vit_pico_patch4_32", size=(64, 64), timed=False) == trace("vit_pico_patch4_32", size=64, timed=False)
    timed = trace("vit_pico_patch4_32", size=(16, 40))
    assert timed.seconds is not None and sum(stage.share or 0 for stage in timed.stages) > 0.5


def test_one_stage_alone() -> None:
    whole = trace("vit_base_patch16_224", timed=False)
    rest = [step for step in whole.steps if not step.module.startswith("backbone.blocks.")]
    for row in ("blocks.0-11", "backbone.blocks.0-11", "blocks"):
        found = trace("vit_base_patch16_224", stage=row, timed=False)
        assert [s.name for s in found.stages] == ["backbone.blocks.0-11"]
        assert len(found.steps) == len(whole.steps) - len(rest)
    one = trace("vit_base_patch16_224", stage="blocks.1", timed=False)
    assert [(s.name, s.alike) for s in one.stages] == [("backbone.blocks.1", 1)]
    assert sum(s.macs for s in one.steps) == one.stages[0].macs and len(one.steps) * 12 == len(found.steps)
    assert one.macs == whole.macs  # of the network
    some = trace("vit_base_patch16_224", stage="blocks.9-11", timed=False)
    assert len(some.steps) == 3 * len(one.steps) and some.stages[0].name == "backbone.blocks.9-11"
    inner = trace("vit_base_patch16_224", stage="blocks.1.attn", timed=False)
    assert {s.module for s in inner.steps} == {f"backbone.blocks.1.attn{x}" for x in ("", ".qkv", ".attend", ".proj")}


def test_every_heading_of_the_operations_is_a_stage() -> None:
    found = trace("resnet20_cifar", timed=False)
    first = trace("resnet20_cifar", stage="normalisation", timed=False)
    assert first.steps and first.steps == tuple(step for step in found.steps if step.module == "")


def test_a_stage_that_is_none_is_refused_before_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitreous.explain.trace._times", lambda *_: pytest.fail("too late"))
    with pytest.raises(UsageError, match="did you mean"):
        trace("resnet18", stage="layer9")


def test_every_parameter_lies_in_one_part_or_in_none() -> None:
    network = build_network(NetworkConfig(model="resnet18", classes=3, size=32))
    names = [name for name, _ in parts(network)]
    assert "backbone.layer1.0" in names and "head" in names and len(names) == len(set(names))
    for name, _ in network.named_parameters():
        assert sum(name.startswith(f"{part}.") for part in names) == 1


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"model": "vit_bas"}, "did you mean"),
        ({"batch": 0}, "at least 1 picture"),
        ({"batch": "2"}, "batch must be a whole number, not '2'"),
        ({"batch": 1.5}, "batch must be a whole number, not 1.5"),
        ({"batch": True}, "batch must be a whole number, not True"),
        ({"size": 4097}, "1 x 4097 x 4097 pixels are too many to trace; take at most 16,777,216"),
        ({"batch": 16 * 1024 + 1}, "too many to trace"),
        ({"size": (True, 32)}, "rows, columns"),
        ({"stage": 3}, "stage must be a text, not 3"),
        ({"size": 0}, "at least 1 pixel"),
        ({"size": (32, 0)}, "at least 1 pixel"),
        ({"size": (32,)}, "rows, columns"),
        ({"size": (32, 32, 3)}, "rows, columns"),
        ({"size": "32 x 32"}, "such as 160x224, not 32 x 32"),
        ({"size": 22.5}, "rows, columns"),
        ({"stage": "blocks.12"}, r"no stage blocks\.12; did you mean blocks\.0-5"),
        ({"stage": "0"}, "no stage 0; did you mean"),
        ({"stage": "cls_token"}, "no stage cls_token"),
        ({"model": "vit_tiny_patch16_224", "stage": "cls_token"}, "is a parameter"),
        ({"stage": ""}, "no stage"),
    ],
)
def test_what_cannot_be_is_refused(wish: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        trace(**{"model": "vit_pico_patch4_32"} | wish)
