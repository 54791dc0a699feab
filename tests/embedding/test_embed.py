"""Features of every picture in one file: the right ones, in bounded memory, however often it is stopped."""

from __future__ import annotations

import io
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import vitreous as vt
from vitreous.cli import learned
from vitreous.cli.main import main
from vitreous.data.dataset import open_source
from vitreous.data.image import decode
from vitreous.data.preprocess import fit
from vitreous.embedding import extract
from vitreous.errors import DamagedFile, NoSpace
from vitreous.store import pieces
from vitreous.types import UNLABELLED


def expected(run: Path, files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features and the last map, by the network as it was saved."""
    predictor = vt.load(run)
    images = [fit(decode(path.read_bytes(), predictor.preprocess).pixels, predictor.preprocess) for path in files]
    with torch.no_grad():
        features = predictor.network.features(torch.stack(images))
    return features.pooled.numpy(), features.maps[-1].numpy()


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights have hardly been trained: what they say is not asked here."""
    out = tmp_path_factory.mktemp("run") / "brief"
    options = {"model": "vit_pico_patch4_32", "epochs": 0.2, "batch": 16, "recipe": "scratch"}
    vt.train(photos, out=out, quiet=True, **options)
    return out


@pytest.fixture
def odd(photos: Path, tmp_path: Path) -> Path:
    """Pictures under names that are hard to write down; two are broken, and one class is no text."""
    folder = tmp_path / "odd"
    names = ["a b.png", "ünï😀.png", "new\nline.png", "'q\".png", "-x.png", "[1].png", os.fsdecode(b"caf\xe9.png")]
    for kind in ("one", os.fsdecode(b"tw\xf6")):
        (folder / kind).mkdir(parents=True)
        for number, name in enumerate(names):
            shutil.copy(photos / "round" / f"{number:03d}.png", folder / kind / name)
    (folder / "one" / "broken.png").write_bytes(b"no picture")
    (folder / "one" / "empty.png").write_bytes(b"")
    return folder


def test_features_are_those_of_the_network(trained: Path, photos: Path, tmp_path: Path) -> None:
    found = vt.embed(trained, photos, out=tmp_path / "f.npz", patches=True, batch=7, quiet=True)
    assert len(found.names) == 120 and found.left_out == {}
    pooled, maps = expected(trained, [photos / name for name in found.names])
    assert found.pooled.dtype == np.float32 and found.patches is not None and found.patches.dtype == np.float16
    np.testing.assert_allclose(found.pooled, pooled, atol=1e-4 * np.abs(pooled).max())
    np.testing.assert_allclose(found.patches, maps, atol=2e-3 * np.abs(maps).max())
    assert found.labels.tolist() == [name.partition("/")[0] for name in found.names]
    with np.load(tmp_path / "f.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"pooled", "patches", "name", "label", "left_out"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.npz"]


def test_any_name_comes_back_and_broken_pictures_are_listed(trained: Path, odd: Path, tmp_path: Path) -> None:
    found = vt.embed(trained, odd, out=tmp_path / "f.npz", quiet=True)
    source = open_source(odd)
    names = [source.name(i) for i in range(len(source))]
    assert sorted(found.left_out) == ["one/broken.png", "one/empty.png"]
    assert found.names.tolist() == [name for name in names if name not in found.left_out]
    assert set(found.labels.tolist()) == set(source.classes)
    pooled, _ = expected(trained, [odd / name for name in found.names])
    np.testing.assert_allclose(found.pooled, pooled, atol=1e-4 * np.abs(pooled).max())


def test_pictures_without_labels(trained: Path, photos: Path, tmp_path: Path) -> None:
    found = vt.embed(trained, photos / "long", out=tmp_path / "f.npz", quiet=True)
    assert set(found.labels.tolist()) == {""} and len(found.names) == 60
    assert (open_source(photos / "long").labels == UNLABELLED).all()


class _Killed(BaseException):
    """As a kill: nothing may be tidied up by an ``except Exception``."""


def test_a_call_that_was_stopped_goes_on(
    trained: Path, odd: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos, odd, dirs_exist_ok=True)
    monkeypatch.setattr(extract, "SAVED", 1)
    whole = vt.embed(trained, odd, out=tmp_path / "whole.npz", batch=4, patches=True, quiet=True)
    looked = []
    true = extract._look

    def look(network: torch.nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        looked.append(len(image))
        if len(looked) == 12:
            raise _Killed
        return true(network, image)

    monkeypatch.setattr(extract, "_look", look)
    with pytest.raises(_Killed):
        vt.embed(trained, odd, out=tmp_path / "torn.npz", batch=4, patches=True, quiet=True)
    assert (tmp_path / "torn.npz.partial").is_dir() and not (tmp_path / "torn.npz").exists()
    with pytest.raises(vt.UsageError, match=r"torn\.npz\.partial was begun with other .* remove it"):
        vt.embed(trained, photos, out=tmp_path / "torn.npz", batch=4, patches=True, quiet=True)
    before = sum(looked)
    torn = vt.embed(trained, odd, out=tmp_path / "torn.npz", batch=4, patches=True, quiet=True)
    assert sum(looked) - before < len(whole.names) - 30, "it began again"
    for name in ("names", "labels", "pooled", "patches"):
        assert np.array_equal(getattr(torn, name), getattr(whole, name))
    assert torn.left_out == whole.left_out and not (tmp_path / "torn.npz.partial").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("{run}", "{photos}", "--out", "{tmp}/f.csv"), 2, "must end in one of these"),
        (("{run}", "{photos}", "--out", "{tmp}/no/f.npz"), 2, "There is no folder"),
        (("{tmp}/no", "{photos}", "--out", "{tmp}/f.npz"), 2, "There is no run folder"),
        (("vit_tiny_patch16_224", "{photos}", "--out", "{tmp}/f.npz"), 2, "add --pretrained"),
        (("vit_tiny_patch16", "{photos}", "--out", "{tmp}/f.npz"), 2, "vit_tiny_patch16_224"),
        (("{run}", "{photos}", "--pretrained", "--out", "{tmp}/f.npz"), 2, "leave out --pretrained"),
        (("hub:vit_tiny_patch16_224.nothing", "{photos}", "--out", "{tmp}/f.npz"), 2, "nothing"),
        (("{run}", "nowhere", "--out", "{tmp}/f.npz"), 2, "nowhere"),
        (("{run}", "{photos}", "--out", "{tmp}/there.npz"), 2, "is there already"),
        (("{run}", "{broken}", "--out", "{tmp}/f.npz"), 7, "None of the 2 pictures"),
    ],
)
def test_mistakes_are_a_sentence(
    trained: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    (tmp_path / "there.npz").write_bytes(b"mine")
    (tmp_path / "broken").mkdir()
    for name in "ab":
        (tmp_path / "broken" / f"{name}.png").write_bytes(b"no picture")
    places = {"run": trained, "photos": photos, "tmp": tmp_path, "broken": tmp_path / "broken"}
    assert main(["embed", *(part.format(**places) for part in arguments)]) == code
    said = capsys.readouterr().err
    assert words in " ".join(said.split()) and "Traceback" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "there.npz"]


def test_the_command_says_what_it_wrote(
    trained: Path, odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", str(trained), str(odd), "--out", str(tmp_path / "f.npz"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "14 pictures, 128 numbers each" in said and "left out: one/broken.png: " in said


def test_what_is_said_of_a_file_is_known_without_reading_it(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = vt.embed(trained, photos, out=tmp_path / "f.npz", patches=True, quiet=True)
    found.file.rename(tmp_path / "elsewhere.npz")
    learned.embedded(found)
    assert "120 pictures, 128 numbers each, and patches of 128 x 8 x 8" in capsys.readouterr().out
    assert repr(found).startswith("<features of 120 pictures, 128 numbers each, in ")
    with pytest.raises(DamagedFile):
        _ = found.pooled


@pytest.mark.parametrize("kind", pieces.KINDS)
def test_one_array_is_read_without_the_others(tmp_path: Path, kind: str) -> None:
    if kind == ".parquet":
        pytest.importorskip("pyarrow")
    file, shapes = tmp_path / f"f{kind}", {"pooled": ((2,), "float32"), "patches": ((2, 64, 64), "float16")}
    with pieces.pieces(file, {}, 500, shapes) as written:
        written.arrays["pooled"][:] = 1
        written.finish({"name": ["a"] * 500}, {}, {})
    tracemalloc.start()
    try:
        pooled = pieces.read_rows(file, "pooled")
        assert pooled.shape == (500, 2) and tracemalloc.get_traced_memory()[1] < 2**22, "8 MiB are the patches"
    finally:
        tracemalloc.stop()


def test_a_full_disk_is_known_beforehand(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "free_bytes", lambda folder: 1000)
    with pytest.raises(NoSpace, match="1,000 bytes free"):
        vt.embed(trained, photos, out=tmp_path / "f.npz", quiet=True)


def test_rows_are_written_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_AT_ONCE", 3)
    with pieces.pieces(tmp_path / "f.npz", {}, 10, {"x": ((2, 2), "float16"), "y": ((1,), "int64")}) as written:
        written.arrays["x"][:] = np.arange(40).reshape(10, 2, 2)
        written.arrays["y"][:] = np.arange(10)[:, None]
        written.finish({"name": list("abcdefgh")}, {0: "why", 7: "why"}, {"more": np.arange(2)})
    kept = [1, 2, 3, 4, 5, 6, 8, 9]
    with np.load(io.BytesIO((tmp_path / "f.npz").read_bytes())) as found:
        assert found["x"].tolist() == np.arange(40).reshape(10, 2, 2)[kept].tolist()
        assert found["y"][:, 0].tolist() == kept and found["name"].tolist() == list("abcdefgh")
        assert found["more"].tolist() == [0, 1]


def test_one_long_name_does_not_make_all_of_them_long_in_memory(tmp_path: Path) -> None:
    """NumPy gives every text of an array the room of the longest: here 80 MB, in parts twice 16."""
    names = ["x" * 1000, *map(str, range(20_000))]
    with pieces.pieces(tmp_path / "f.npz", {}, len(names), {"x": ((1,), "float32")}) as written:
        tracemalloc.start()
        try:
            written.finish({"name": names}, {}, {})
            assert tracemalloc.get_traced_memory()[1] < 40e6
        finally:
            tracemalloc.stop()
    assert pieces.read_rows(tmp_path / "f.npz", "name").tolist() == names


def test_reasons_are_added_to_those_there_are(tmp_path: Path) -> None:
    """What was written after the last mark, whole or torn, counts for nothing."""
    shapes = {"x": ((1,), "float32")}
    with pieces.pieces(tmp_path / "f.npz", {}, 100, shapes) as written:
        assert written.done() == (0, {})
        written.mark(10, {3: "three\n"})
        written.mark(20, {12: "ünï\udcff"})
        kept = tmp_path / "f.npz.partial" / "empty.jsonl"
        assert len(kept.read_bytes().splitlines()) == 2
        with kept.open("ab") as file:
            file.write(b'[25, "gone"]\n[26, "to')
    with pieces.pieces(tmp_path / "f.npz", {}, 100, shapes) as written:
        assert written.done() == (20, {3: "three\n", 12: "ünï\udcff"})
        written.mark(30, {27: "new"})
    with pieces.pieces(tmp_path / "f.npz", {}, 100, shapes) as written:
        assert written.done() == (30, {3: "three\n", 12: "ünï\udcff", 27: "new"})


def test_parquet_holds_the_same(trained: Path, odd: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    one = vt.embed(trained, odd, out=tmp_path / "f.npz", patches=True, quiet=True)
    two = vt.embed(trained, odd, out=tmp_path / "f.parquet", patches=True, quiet=True)
    assert np.array_equal(one.pooled, two.pooled) and np.array_equal(one.patches, two.patches)
    assert len(two.names) == len(set(two.names.tolist())) == len(one.names)
    assert two.left_out == one.left_out


def test_without_pyarrow_the_remedy_is_named(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(vt.UsageError, match=r"pip install 'vitreous\[parquet\]', or write FILE\.npz"):
        vt.embed(trained, photos, out=tmp_path / "f.parquet", quiet=True)
