from __future__ import annotations

import os
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from weights.renaming import Tensors, assert_comes_back, assert_same, build, refused, renamed, weights
from weights.vit_names import as_hugging_face, as_timm

from vitreous.errors import DamagedFile, UnusableWeights, UsageError
from vitreous.layers.position import resample
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.weights import foreign
from vitreous.weights.files import read


def vit(seed: int, classes: int = 5, size: int = 32) -> Network:
    return build("vit_tiny_patch16_224", seed, size, classes=classes, width=16, depth=2, heads=2, patch=8)


def resnet(seed: int, block: str = "basic") -> Network:
    return build("resnet18", seed, 32, depths=(1, 1), widths=(8, 16), block=block, zero_init=False)


def as_torchvision_resnet(tensors: Tensors) -> Tensors:
    return renamed(
        tensors,
        (r"^backbone\.", ""),
        (r"downsample\.conv", "downsample.0"),
        (r"downsample\.norm", "downsample.1"),
        (r"conv(\d)\.conv", r"conv\1"),
        (r"conv(\d)\.norm", r"bn\1"),
    )


def as_hugging_face_resnet(tensors: Tensors) -> Tensors:
    tensors = renamed(
        tensors,
        (r"^backbone\.conv1\.conv", "resnet.embedder.embedder.convolution"),
        (r"^backbone\.conv1\.norm", "resnet.embedder.embedder.normalization"),
        (r"downsample\.conv", "shortcut.convolution"),
        (r"downsample\.norm", "shortcut.normalization"),
        (r"^head\.fc", "classifier.1"),
    )
    for i in (1, 2, 3):  # they count stages and convolutions from 0
        tensors = renamed(
            tensors,
            (rf"\.conv{i}\.conv\.", f".layer.{i - 1}.convolution."),
            (rf"\.conv{i}\.norm\.", f".layer.{i - 1}.normalization."),
            (rf"^backbone\.layer{i}\.(\d)", rf"resnet.encoder.stages.{i - 1}.layers.\1"),
        )
    return tensors


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("head", ["fc", "linear", "hugging face"])
def test_every_dialect_of_resnet_gives_the_same_network(block: str, head: str) -> None:
    def names(tensors: Tensors) -> Tensors:
        if head == "hugging face":
            return as_hugging_face_resnet(tensors)
        return renamed(as_torchvision_resnet(tensors), (r"^head\.fc", head))

    dialect = "Hugging Face ResNet" if head == "hugging face" else "ResNet"
    assert_comes_back(resnet(1, block), resnet(2, block), names, dialect)


def test_wrappers_and_counters_of_older_files() -> None:
    theirs, ours = resnet(1), resnet(2)
    tensors = renamed(as_torchvision_resnet(weights(theirs)), (r"^head\.fc", "fc"), (r"^", "module."))
    foreign.load(ours, {key: t for key, t in tensors.items() if "num_batches" not in key})
    assert_same(ours, theirs)


def test_positions_of_another_grid_are_resampled() -> None:
    theirs, ours = vit(1, size=32), vit(2, size=56)
    done = foreign.load(ours, as_timm(weights(theirs))).resampled
    assert done == ("backbone.pos_embed (1, 17, 16) to (1, 50, 16)",)
    expected = resample(theirs.backbone.pos_embed, (4, 4), (7, 7))
    assert torch.equal(ours.backbone.pos_embed, expected)


def test_another_number_of_classes_needs_a_new_head_by_word() -> None:
    theirs, ours = vit(1, classes=5), vit(2, classes=3)
    before = ours.head.fc.weight.clone()
    with pytest.raises(UsageError, match=r"5 classes and the network for 3; .*keep_head=False"):
        foreign.load(ours, as_timm(weights(theirs)))
    loaded = foreign.load(ours, as_timm(weights(theirs)), keep_head=False)
    assert loaded.dropped == ("head.fc.weight", "head.fc.bias")
    assert torch.equal(ours.head.fc.weight, before)
    assert torch.equal(ours.backbone.blocks[0].attn.qkv.weight, theirs.backbone.blocks[0].attn.qkv.weight)


def test_weights_without_a_head_fill_the_backbone() -> None:
    theirs, ours = vit(1), vit(2)
    tensors = {key: t for key, t in as_timm(weights(theirs)).items() if not key.startswith("head")}
    with pytest.raises(UsageError, match=r"missing: head\.fc"):
        foreign.load(ours, tensors)
    assert foreign.load(ours, tensors, keep_head=False).dropped == ()


def test_what_does_not_fit_is_named() -> None:
    ours, good = vit(2), as_timm(weights(vit(1)))
    without = {key: t for key, t in good.items() if key != "blocks.1.mlp.fc2.bias"}
    refused(ours, without, r"missing: backbone\.blocks\.1\.mlp\.fc2\.bias")
    refused(ours, good | {"blocks.2.norm1.bias": torch.zeros(16)}, r"not in this network: blocks\.2\.norm1\.bias")
    refused(ours, good | {"rope.freqs": torch.zeros(16)}, r"parts this architecture lacks: rope\.freqs")
    refused(ours, good | {"dist_token": torch.zeros(1, 1, 16)}, r"not in this network: dist_token")
    refused(ours, good | {"norm.bias": torch.zeros(3)}, r"norm\.bias \(3,\) instead of \(16,\)")
    refused(ours, {"a": torch.zeros(1)}, "no architecture known here: they begin with a")
    refused(
        ours,
        good | {"norm.bias": torch.full((16,), torch.nan)},
        r"^The state dict holds .*not finite numbers in norm\.bias",
        DamagedFile,
    )
    refused(ours, weights(vit(1)) | {"mean": torch.zeros(1, 3, 1, 1)}, "other preprocessing: mean")
    split = as_hugging_face(weights(vit(1)), new=True)
    del split["vit.layers.0.attention.k_proj.weight"]
    refused(ours, split, r"missing: backbone\.blocks\.0\.attn\.qkv\.weight")
    refused(
        ours,
        renamed(as_torchvision_resnet(weights(resnet(1))), (r"^head\.", "")),
        "^The state dict holds ResNet weights; vit_tiny_patch16_224 is of the family ViT, so choose the model",
    )


def test_few_keys_are_in_the_sentence_and_all_on_the_exception(tmp_path: Path) -> None:
    """As the file names them, even where several of its tensors are joined or its names are brought into order."""
    file, good = tmp_path / "w.safetensors", as_hugging_face(weights(vit(1)), new=False)
    extra = {f"encoder.layer.{i}.layernorm_before.bias": torch.zeros(16) for i in range(2, 9)}
    narrow = {key: t[:, :8] for key, t in good.items() if re.search(r"layer\.0\.attention\.attention\..*weight", key)}
    save_file({key: t.contiguous() for key, t in (good | extra | narrow).items()}, file)
    with pytest.raises(foreign.Unfit) as caught:
        foreign.load(vit(2), file)
    said, keys = str(caught.value), caught.value.keys
    assert len(keys) == 8 and set(extra) < set(keys) and keys[-1] == " + ".join(narrow)
    assert f"not in this network: {', '.join(sorted(extra)[:3])} and 4 more; of another" in said and len(said) < 600
    assert f"{keys[-1]} (48, 8) instead of (48, 16)" in said
    with pytest.raises(foreign.Unfit, match=rf"^{re.escape(str(file))} holds Hugging Face ViT weights; resnet18 is"):
        foreign.load(resnet(1), file)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_numbers_of_another_kind_are_no_weights(dtype: torch.dtype) -> None:
    """The integers of a quantised file would load with magnitudes up to 127."""
    good = as_timm(weights(vit(1)))
    for key in ("blocks.0.mlp.fc1.weight", "pos_embed", "head.weight"):
        kind = str(dtype).removeprefix("torch.")
        refused(vit(2), good | {key: good[key].to(dtype)}, rf"another kind of number than .*{kind}; take a file")
    big = as_timm(weights(vit(1, size=64)))  # before its positions are resampled, which integers cannot be
    refused(vit(2), big | {"pos_embed": big["pos_embed"].to(dtype)}, r"network\'s: pos_embed")
    halves = {key: t.bfloat16() for key, t in good.items()}
    foreign.load(vit(2), halves)


def test_tensors_without_dense_memory_or_names_are_refused() -> None:
    ours, good = vit(2), as_timm(weights(vit(1)))
    kernel = good["head.weight"]
    odd = (kernel.to_sparse(), kernel.to("meta"), _quantised(kernel))
    for tensor in odd:
        refused(ours, good | {"head.weight": tensor}, r"sparse, nested, quantised or empty .*head\.weight")
    refused(ours, {0: kernel, 1: kernel}, "no names")  # type: ignore[dict-item]


def _quantised(tensor: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def test_floats_of_eight_bits_load_and_their_nan_is_found() -> None:
    ours, good = vit(2), as_timm(weights(vit(1)))
    small = {key: t.to(torch.float8_e4m3fn) for key, t in good.items()}
    foreign.load(ours, small)
    assert torch.equal(ours.head.fc.weight, small["head.weight"].float())
    broken = torch.full((16,), torch.nan).to(torch.float8_e4m3fn)
    refused(ours, small | {"norm.bias": broken}, r"not finite numbers in norm\.bias", UnusableWeights)
    refused(
        ours,
        good | {"norm.bias": torch.full((16,), 1e300, dtype=torch.float64)},
        r"not finite .*norm\.bias",
        DamagedFile,
    )


def test_a_head_of_another_shape_is_only_of_other_classes_if_all_of_it_is() -> None:
    ours, good = vit(2, classes=3), as_timm(weights(vit(1, classes=3)))
    refused(ours, good | {"head.bias": torch.tensor(1.0)}, r"of another shape: head\.bias \(\) instead of \(3,\)")
    refused(ours, good | {"head.weight": torch.zeros(3, 8)}, r"head\.weight \(3, 8\) instead of \(3, 16\)")
    refused(ours, good | {"head.weight": torch.zeros(7, 16)}, r"head\.weight \(7, 16\) instead")
    other = {"head.weight": torch.zeros(7, 16), "head.bias": torch.zeros(7)}
    refused(ours, good | other, "for 7 classes and the network for 3")


def test_two_keys_for_one_tensor_are_not_both_believed() -> None:
    good = renamed(as_torchvision_resnet(weights(resnet(1))), (r"^head\.fc", "fc"))
    refused(resnet(2), good | {"linear.weight": torch.zeros(5, 16)}, r"parts this architecture lacks: linear\.weight")


def test_one_tensor_under_two_keys_has_both_names() -> None:
    shared = torch.zeros(7)
    with pytest.raises(foreign.Unfit) as caught:
        foreign.load(vit(2), as_timm(weights(vit(1))) | {"norm.weight": shared, "norm.bias": shared})
    assert set(caught.value.keys) == {"norm.weight", "norm.bias"}


def test_parts_that_cannot_be_joined_are_named() -> None:
    good = as_hugging_face(weights(vit(1)), new=True)
    key = "vit.layers.0.attention.k_proj.weight"
    for part in (torch.zeros(16, 3), torch.tensor(0.0), torch.zeros(16, 16, dtype=torch.int8)):
        refused(vit(2), good | {key: part}, r"not in this network: .*vit\.layers\.0\.attention\.k_proj\.weight")


@pytest.mark.parametrize("envelope", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_files_of_every_kind(tmp_path: Path, suffix: str, envelope: str | None) -> None:
    theirs, ours, path = vit(1), vit(2), tmp_path / f"w{suffix}"
    tensors = as_timm(weights(theirs))
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({envelope: tensors, "epoch": 3} if envelope else tensors, path)
    foreign.load(ours, path)
    assert_same(ours, theirs)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_broken_files_are_one_kind_of_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    tensors = as_timm(weights(vit(1)))
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    whole = path.read_bytes()
    for length in [0, 1, 4, 100, *range(200, len(whole), len(whole) // 12)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match="fetch it again") as caught:
            read(path)
        assert isinstance(caught.value, UnusableWeights)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Evil.canary),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_nothing_is_executed_from_a_file(tmp_path: Path, suffix: str) -> None:
    Evil.canary = tmp_path / "canary"
    path = tmp_path / f"w{suffix}"
    torch.save({"model": Evil(), "w": torch.zeros(1)}, path)
    with pytest.raises(DamagedFile) as caught:
        read(path)
    assert suffix == ".safetensors" or "asks for posix.mkdir, and nothing in a file" in str(caught.value)
    assert "weights_only" not in str(caught.value) and "\x1b" not in str(caught.value)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DamagedFile):
        read(path)
    assert not Evil.canary.exists()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        read(tmp_path / "none.pt")
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(UsageError, match="must end in"):
        read(tmp_path / "w.onnx")
    with pytest.raises(UsageError, match=r"is a folder; .*model\.safetensors"):
        read(tmp_path)
    for name in ("pytorch_model.bin", "w.pth.tar", "W.PTH"):
        torch.save({"w": torch.ones(2)}, tmp_path / name)
        assert torch.equal(read(tmp_path / name)["w"], torch.ones(2))
    save_file({"w": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(UnusableWeights, match=r"by its contents; call it w\.safetensors"):
        read(tmp_path / "w.pt")
    torch.save({"lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="no plain set of weights"):
        read(tmp_path / "w.pt")
    for key, tensor in (
        (0, torch.zeros(1)),
        ("w", torch.zeros(2, 2).to_sparse()),
        ("w", torch.zeros(1, device="meta")),
    ):
        torch.save({key: tensor}, tmp_path / "w.pt")
        with pytest.raises(UsageError, match=r"no names \(0\)|meta\) tensors, w among them"):
            read(tmp_path / "w.pt")


@pytest.mark.shared
def test_a_trained_network_is_as_good_as_its_source_says(shared: Path) -> None:
    """By the notes beside the weights 81.0 % on the 10,000 pictures of this lossy CIFAR-10; half of them are here."""
    network = build_network(NetworkConfig(model="resnet20_cifar", classes=10, size=32)).eval()
    loaded = foreign.load(network, shared / "weights" / "resnet20_cifar10.safetensors")
    assert loaded.dialect == "ResNet" and loaded.tensors == 97
    folders = sorted(p for p in (shared / "cifar10_jpeg" / "test").iterdir() if p.is_dir())
    right = total = 0
    for label, folder in enumerate(folders):
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.iterdir())])
        with torch.inference_mode():
            answers = network(torch.from_numpy(pixels).permute(0, 3, 1, 2)).argmax(1)
        right, total = right + int((answers == label).sum()), total + len(answers)
    assert total == 5000
    assert abs(right - 4082) <= 5  # 81.6 %; a few pictures are close calls between CPUs


@pytest.mark.shared
@pytest.mark.parametrize("depth", [32, 44, 56])
def test_its_deeper_siblings_load(shared: Path, depth: int) -> None:
    network = build_network(NetworkConfig(model=f"resnet{depth}_cifar", classes=10, size=32))
    foreign.load(network, shared / "weights" / f"resnet{depth}_cifar10.safetensors")
