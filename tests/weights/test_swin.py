"""Names of both Swins, written down the opposite way: ours to theirs, by hand."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from weights.renaming import Tensors, assert_comes_back, assert_same, build, refused, renamed, split, weights

from vitreous.network import Network
from vitreous.weights import foreign

V1, V2 = "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"


def swin(seed: int, model: str, **more: object) -> Network:
    options = {"width": 4, "depths": (2, 1, 1), "heads": (1, 2, 4), "window": 4} | more
    return build(model, seed, 64, **options)


def earlier(key: str) -> str:
    """A merging at the end of the stage before."""
    return re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)


def as_timm(tensors: Tensors) -> Tensors:
    return renamed(tensors, (r"^backbone\.", ""))


def offsets(side: int, measure: int) -> Tensor:
    """The release's table, (1, 2 side - 1, 2 side - 1, 2)."""
    steps = torch.arange(1 - side, side) * 8 / max(measure - 1, 1)
    logs = steps.sign() * (steps.abs() + 1).log2() / 3
    return torch.stack(torch.meshgrid(logs, logs, indexing="ij"), dim=-1)[None]


def as_released(tensors: Tensors, window: int = 4, measures: tuple[int, ...] = ()) -> Tensors:
    """With the index tables and masks that its files hold."""
    out = {earlier(key): t for key, t in renamed(as_timm(tensors), (r"^head\.fc", "head")).items()}
    for block in sorted({key.rpartition(".attn.")[0] for key in out if ".attn." in key}):
        out[f"{block}.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
        if f"{block}.attn.logit_scale" in out:
            stage = int(block.split(".")[1])
            side = min(window, 16 >> stage)
            out[f"{block}.attn.relative_coords_table"] = offsets(side, measures[stage] if measures else side)
        out[f"{block}.attn_mask"] = torch.zeros(4, 16, 16)
    return out


def as_torchvision(tensors: Tensors) -> Tensors:
    def name(key: str) -> str:
        key = re.sub(r"^layers\.(\d)\.downsample\.", lambda m: f"features.{2 * int(m[1])}.", key)
        key = re.sub(r"^layers\.(\d)\.blocks\.", lambda m: f"features.{2 * int(m[1]) + 1}.", key)
        for ours, theirs in (
            ("patch_embed.proj", "features.0.0"),
            ("patch_embed.norm", "features.0.2"),
            ("mlp.fc1", "mlp.0"),
            ("mlp.fc2", "mlp.3"),
            ("head.fc", "head"),
        ):
            key = key.replace(ours, theirs)
        return key

    out = {name(key): t for key, t in as_timm(tensors).items()}
    for key in [key for key in out if key.endswith("q_bias")]:  # it ignores the third in the middle
        q, v = out.pop(key), out.pop(key.replace("q_bias", "v_bias"))
        out[key.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.randn_like(q), v])
    out["features.1.0.attn.relative_position_index"] = torch.zeros(256, dtype=torch.long)
    return out


def as_hugging_face(tensors: Tensors, model: str, new: bool = False) -> Tensors:
    layers = rf"{model}.encoder.layers"
    own = "attention" if new else "attention.self"
    parts = ("q_proj", "k_proj", "v_proj") if new else ("query", "key", "value")
    tensors = renamed(
        {earlier(key): t for key, t in tensors.items()},
        (r"^head\.fc", "classifier"),
        (r"^backbone\.patch_embed\.proj", f"{model}.embeddings.patch_embeddings.projection"),
        (r"^backbone\.patch_embed\.norm", f"{model}.embeddings.norm"),
        (r"^backbone\.absolute_pos_embed", f"{model}.embeddings.position_embeddings"),
        (r"^backbone\.norm", f"{model}.layernorm"),
        (r"^backbone\.layers", layers),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"attn\.proj", "attention.o_proj" if new else "attention.output.dense"),
        (r"mlp\.fc1", "mlp.fc1" if new else "intermediate.dense"),
        (r"mlp\.fc2", "mlp.fc2" if new else "output.dense"),
        (r"attn\.(relative_position_bias_table)", rf"{own}.relative_position_bias.\1" if new else rf"{own}.\1"),
        (r"attn\.logit_scale", rf"{own}.logit_scale"),
        (r"attn\.cpb_mlp", rf"{own}.continuous_position_bias_mlp"),
        (r"attn\.q_bias", rf"{own}.query.bias"),
        (r"attn\.v_bias", rf"{own}.value.bias"),
    )
    return split(tensors, "attn.qkv", tuple(f"{own}.{part}" for part in parts))


DIALECTS = [
    (V1, "timm Swin", as_timm),
    (V1, "original Swin", as_released),
    (V1, "torchvision Swin", as_torchvision),
    (V1, "Hugging Face Swin", lambda t: as_hugging_face(t, "swin")),
    (V1, "Hugging Face Swin", lambda t: as_hugging_face(t, "swin", new=True)),
    (V1, "vitreous", lambda t: t),
    (V2, "timm Swin v2", as_timm),
    (V2, "original Swin v2", as_released),
    (V2, "torchvision Swin v2", as_torchvision),
    (V2, "Hugging Face Swin v2", lambda t: as_hugging_face(t, "swinv2")),
    (V2, "vitreous", lambda t: t),
]


@pytest.mark.parametrize(("model", "dialect", "names"), DIALECTS)
def test_every_dialect_gives_the_same_network(model: str, dialect: str, names: Callable[[Tensors], Tensors]) -> None:
    assert_comes_back(swin(1, model), swin(2, model), names, dialect)


@pytest.mark.parametrize("model", [V1, V2])
@pytest.mark.parametrize("names", ["timm", "released", "hugging face"])
def test_absolute_positions_travel_too(model: str, names: str) -> None:
    theirs, ours = swin(1, model, position="both"), swin(2, model, position="both")
    tensors = weights(theirs)
    ways = {
        "timm": as_timm,
        "released": as_released,
        "hugging face": lambda t: as_hugging_face(t, "swin" if model == V1 else "swinv2"),
    }
    foreign.load(ours, ways[names](tensors))
    assert_same(ours, theirs)
    refused(
        swin(2, model), ways[names](tensors), r"not in this network: (absolute_pos_embed|swin.*position_embeddings)"
    )


def test_where_a_merging_stands_tells_timm_from_the_release() -> None:
    """The same keys name other tensors: taken for timm's, the release's merging would come a stage too early."""
    tensors = weights(swin(1, V1))
    timm, released = as_timm(tensors), as_released(tensors)
    assert "layers.2.downsample.norm.bias" in timm and "layers.2.downsample.norm.bias" not in released
    assert timm["layers.1.downsample.norm.bias"].shape != released["layers.1.downsample.norm.bias"].shape
    headless = {key: t for key, t in released.items() if not key.startswith("head")}
    ours = swin(2, V1)
    assert foreign.load(ours, headless, keep_head=False).dialect == "original Swin"
    assert torch.equal(ours.backbone.layers[2].downsample.norm.bias, tensors["backbone.layers.2.downsample.norm.bias"])


def test_a_release_of_another_window_is_resampled_and_says_so() -> None:
    theirs, ours = swin(1, V1), swin(2, V1, window=5)
    tensors = weights(theirs)
    done = foreign.load(ours, as_released(tensors)).resampled
    name = "backbone.layers.0.blocks.1.attn.relative_position_bias_table"
    assert f"{name} (49, 1) to (81, 1)" in done
    assert len(done) == 3  # the grid of the last stage has 4 cells, and so has its window in both
    assert ours.state_dict()[name].shape == (81, 1)


def test_the_second_version_resamples_nothing_but_says_what_its_offsets_are_measured_in() -> None:
    theirs, ours = swin(1, V2), swin(2, V2, window=8)
    told = foreign.load(ours, as_released(weights(theirs))).resampled
    assert told[0] == "backbone.layers.0.blocks.0.attn: offsets measured in windows of 4 cells to those of 8"
    assert len(told) == 3  # the last stage has 4 x 4 cells, and windows of 4 in both
    assert_same(ours, theirs)
    kept = swin(2, V2, window=8, trained=(4, 4, 4))
    assert foreign.load(kept, as_released(weights(theirs))).resampled == ()


def test_offsets_measured_otherwise_in_the_same_windows_are_other_arithmetic() -> None:
    tensors = as_released(weights(swin(1, V2)), measures=(3, 3, 2))
    ours = swin(2, V2, trained=(3, 3, 2))
    assert foreign.load(ours, tensors).resampled == ()
    refused(swin(2, V2), tensors, r"in windows of 3 cells in stage 1.*those of 4; build it with .*trained")
    refused(ours, as_released(weights(swin(1, V2))), r"in windows of 4 cells in stage 1.*those of 3")
    theirs = as_torchvision(weights(swin(1, V2))) | {"features.1.0.attn.relative_coords_table": offsets(4, 3)}
    refused(swin(2, V2), theirs, "in windows of 3 cells")


def test_one_version_is_not_the_other() -> None:
    refused(swin(1, V1), as_timm(weights(swin(2, V2))), r"holds timm Swin.* weights; .* is of the family Swin")
    refused(swin(1, V2), as_timm(weights(swin(2, V1))), r"holds timm Swin.* weights; .* is of the family Swin")


def test_what_is_missing_is_named() -> None:
    tensors = as_hugging_face(weights(swin(1, V2)), "swinv2")
    del tensors["swinv2.encoder.layers.0.blocks.0.attention.self.key.weight"]
    refused(swin(2, V2), tensors, r"missing: backbone\.layers\.0\.blocks\.0\.attn\.qkv\.weight")
    tensors = as_timm(weights(swin(1, V1))) | {"decoder.weight": torch.zeros(1)}
    refused(swin(2, V1), tensors, "parts this architecture lacks: decoder")


def test_tensors_that_are_not_what_their_names_say_are_refused() -> None:
    torchvision, released = as_torchvision(weights(swin(1, V2))), as_released(weights(swin(1, V2)))
    bias, table = "features.1.0.attn.qkv.bias", "layers.0.blocks.0.attn.relative_coords_table"
    for tensor in (torch.tensor(0.0), torch.zeros(7), torch.zeros(3, 4)):
        refused(swin(2, V2), torchvision | {bias: tensor}, rf"not in this network: {re.escape(bias)}")
    for tensor in (torch.tensor(0.0), torch.zeros(1, 7, 5, 2), torch.zeros(0, 7, 7, 2), torch.zeros(7, 2)):
        refused(swin(2, V2), released | {table: tensor}, "no table of offsets")
    for value in (-1.0, 0.0, 1e-20, 400.0):
        odd = {table: torch.full((1, 7, 7, 2), value)}
        refused(swin(2, V2), released | odd, "measure offsets in windows of 0")
    more = {"layers.0.blocks.7.attn.relative_coords_table": offsets(4, 4)}
    refused(swin(2, V2), released | more, r"not in this network: layers\.0\.blocks\.7\.attn\.relative_coords_table")
    deeper = {re.sub(r"^layers\.0", "layers.3", key): t for key, t in released.items() if key.startswith("layers.0")}
    refused(swin(2, V2), released | deeper, r"not in this network: layers\.3\.")
