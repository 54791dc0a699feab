"""Each ailment is planted and must be found; a healthy set must have nothing said about it."""

from __future__ import annotations

import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitreous.data.check import check, examine, write_check
from vitreous.data.dataset import ArraySource, open_source
from vitreous.data.findings import SEVERITIES
from vitreous.data.image import Facts, Preprocess
from vitreous.data.prepare import DataConfig, prepare
from vitreous.data.quarantine import read_quarantine
from vitreous.data.survey import Survey, survey
from vitreous.errors import BadData, UsageError
from vitreous.store.files import sha256_file

RULES = Preprocess(size=16, store=16)


@pytest.fixture
def examined(tmp_path):
    """``examined(root)``: check with a cache of this test's own."""

    def look(root, out=None, **options):
        config = DataConfig(source=str(root), preprocess=RULES, cache_dir=str(tmp_path / "cache"))
        return check(root, out, config=config, **options)

    return look


def healthy(n=40):
    return {f"{'cat' if i % 2 else 'dog'}/{i}.png": i for i in range(n)}


def kinds(result):
    return {finding.kind for finding in result.findings}


def only(result, kind):
    (found,) = (finding for finding in result.findings if finding.kind == kind)
    return found


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def digests_below(folder):
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_healthy_set_has_no_findings(album, examined):
    result = examined(album(healthy()))
    assert result.findings == ()
    assert result.headline == "40 pictures in 2 classes: nothing to remark"
    assert result.quarantined == {}
    assert result.summary["class_counts"] == {"cat": {"all": 20}, "dog": {"all": 20}}


def test_nothing_of_the_data_is_changed(album, examined):
    root = album({**healthy(), "cat/page.jpg": b"<html>", "cat/0.png": 0})
    before = digests_below(root)
    examined(root)
    assert digests_below(root) == before


def test_every_kind_of_unreadable_file_is_listed_with_its_reason(album, examined, scene):
    whole = saved(scene(1, 300, 200), "JPEG")
    root = album(
        {
            **healthy(),
            "cat/cut.jpg": whole[: len(whole) * 3 // 4],
            "cat/page.jpg": b"<!doctype html>",
            "cat/empty.jpg": b"",
            "cat/pointer.jpg": b"version https://git-lfs.github.com/spec/v1\n",
            "dog/text.jpg": b"hello",
        }
    )
    result = examined(root)
    errors = [f for f in result.findings if f.kind == "unreadable"]
    assert {f.title.removeprefix("Unreadable: ") for f in errors} == {
        "truncated",
        "an HTML page saved as a picture",
        "an empty file",
        "a Git LFS pointer, not the picture",
        "not a picture",
    }
    assert all(f.severity == "error" and f.count == 1 for f in errors)
    assert "git lfs pull" in next(f.remedy for f in errors if "LFS" in f.title)
    listed = read_quarantine(result.quarantine)
    assert set(listed) == {"cat/cut.jpg", "cat/page.jpg", "cat/empty.jpg", "cat/pointer.jpg", "dog/text.jpg"}
    assert listed["dog/text.jpg"] == "unreadable: not a picture"


def test_what_is_in_quarantine_is_then_no_obstacle_to_training(album, examined, tmp_path):
    root = album({**healthy(), **{f"cat/page{i}.jpg": b"<html>" for i in range(9)}})
    config = DataConfig(source=str(root), preprocess=RULES, cache_dir=str(tmp_path / "cache"))
    with pytest.raises(BadData, match="vitreous check"):
        prepare(config)
    examined(root)
    assert (prepare(config).split >= 0).sum() == 40


def test_rows_written_by_hand_are_kept_and_ours_renewed(album, examined):
    root = album({**healthy(), "cat/page.jpg": b"<html>"})
    path = examined(root).quarantine
    with open(path, "a") as file:
        file.write("dog/0.png,blurred\r\n")
    (root / "cat" / "page.jpg").unlink()
    result = examined(root)
    assert result.quarantined == {"dog/0.png": "blurred"} == read_quarantine(path)


def test_oddities_of_single_files(album, examined, scene):
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [scene(50), scene(51)]
    root = album(
        {
            **healthy(),
            "cat/turned.jpg": saved(scene(60), "JPEG", exif=turned),
            "cat/print.jpg": saved(scene(61).convert("CMYK"), "JPEG"),
            "cat/deep.png": saved(Image.fromarray(np.asarray(scene(62).convert("L")).astype(np.uint16) * 256), "PNG"),
            "cat/glass.png": saved(scene(63).convert("RGBA"), "PNG"),
            "dog/moving.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            "dog/grey.png": saved(scene(64).convert("L"), "PNG"),
            "dog/gif.jpg": saved(scene(65), "GIF"),
        }
    )
    result = examined(root)
    expected = {"rotated": 1, "cmyk": 1, "deep": 1, "alpha": 1, "animated": 1, "grey": 2, "suffix": 1}
    assert {f.kind: f.count for f in result.findings if f.kind in expected} == expected
    assert only(result, "suffix").examples == ("dog/gif.jpg is GIF",)
    assert not [f for f in result.findings if f.severity == "error"]


def test_copies_across_labels_and_across_the_split(album, examined, scene):
    files = {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": i for i in range(40)}
    tests = {f"test/{'cat' if i % 2 else 'dog'}/{i}.png": i for i in range(100, 120)}
    near = saved(scene(7), "JPEG", quality=50)
    root = album({**files, **tests, "test/cat/leak.png": 1, "train/dog/wrong.png": 3, "test/dog/nearly.jpg": near})
    result = examined(root)
    rows = {(f.severity, f.kind, f.title.split(" in ")[0].split(" with ")[0]): f for f in result.findings}
    leak = rows["error", "leak", "Exact copies"]
    assert leak.examples == ("train/cat/1.png = test/cat/leak.png",)
    assert rows["error", "contradiction", "Exact copies"].examples == ("train/cat/3.png = train/dog/wrong.png",)
    assert rows["warning", "leak", "Near-duplicates"].examples == ("train/cat/7.png = test/dog/nearly.jpg",)
    assert rows["warning", "contradiction", "Near-duplicates"].count == 1
    assert len(result.copies) == 3
    severities = [SEVERITIES.index(f.severity) for f in result.findings]
    assert severities == sorted(severities)


def test_classes_that_are_uneven_small_single_or_gone(album, examined):
    files = {f"cat/{i}.png": i for i in range(60)} | {f"dog/{i}.png": 100 + i for i in range(5)}
    root = album({**files, "hen/0.png": 200, "owl/x.jpg": b"?"})
    (root / "emu").mkdir()
    result = examined(root)
    assert {"empty-class", "single-class", "few", "imbalance"} <= kinds(result)
    assert only(result, "empty-class").examples == ("owl (0)",)
    assert only(result, "imbalance").title == "Largest class 60 times the smallest"
    assert only(result, "imbalance").examples == ("cat (60)", "hen (1)")
    assert any(f.kind == "source" and "emu" in f.title for f in result.findings)
    assert "no classes in training" in only(result, "empty-class").remedy


def test_strays_and_names_that_differ_in_case(album, examined):
    root = album({**healthy(), "cat/A.png": 90, "cat/a.png": 91, "cat/notes.txt": b"x"})
    result = examined(root)
    assert only(result, "case").count == 1
    assert only(result, "stray").examples == ("cat/notes.txt",)


def one_class(n=12):
    return {f"cat/{i}.png": i for i in range(n)}


@pytest.mark.parametrize(
    ("files", "title", "remedy"),
    [
        ({f"{i}.png": i for i in range(12)}, "have no labels", "Sort them into one folder for each class"),
        (one_class(), "has only one class, cat", "A classifier needs pictures of at least two"),
        ({**one_class(), "x.png": 50}, r"only one class, cat \(1 pictures without a class folder", "at least two"),
        ({"cat/0.png": 0, "dog/1.png": 1}, "no class has two different pictures", "Add some, or .*--set data.val=0"),
        ({"cat/0.png": 0, "cat/1.png": 0, "dog/1.png": 1}, "no class has two different pictures", "Add some"),
        ({**one_class(), "dog/1.png": b"?"}, "of class cat", "Add readable pictures of another"),
        ({"cat/0.png": b"", "dog/1.png": b"?"}, "No picture that has a label can be used", "Mend or replace"),
        ({"train/cat/0.png": b"", "test/cat/1.png": 1, "test/dog/2.png": 2}, "no usable training pictures", "Add some"),
    ],
    ids=["flat", "one class", "loose", "one each", "copies", "one class left", "all bad", "nothing to train on"],
)
def test_what_training_would_refuse_is_an_error(album, examined, tmp_path, files, title, remedy):
    root = album(files)
    result = examined(root)
    found = only(result, "untrainable")
    assert found is result.findings[0] and found.severity == "error" and not result.trainable
    assert re.search(title, found.title) and re.search(remedy, found.remedy)
    with pytest.raises(BadData):
        prepare(DataConfig(source=str(root), preprocess=RULES, cache_dir=str(tmp_path / "cache"), allow_bad=1.0))


def test_what_is_listed_by_hand_counts_as_gone(album, examined):
    root = album(healthy(8))
    path = Path(examined(root).quarantine)
    path.write_text("path,reason\n" + "".join(f"cat/{i}.png,blurred\n" for i in range(1, 8, 2)))
    assert "class dog" in only(examined(root), "untrainable").title
    path.write_text("path,reason\n")
    assert examined(root).trainable


# ---------------------------------------------------------------- rules on facts alone


@pytest.fixture(scope="module")
def imagined():
    """``imagined(facts, labels)``: the findings about pictures of which only the facts are made up."""
    cells = np.random.default_rng(0).integers(0, 256, (400, 3, 8, 9), dtype=np.uint8)

    def look(facts, labels=None):
        n = len(facts)
        labels = np.arange(n) % 2 if labels is None else labels
        source = ArraySource(np.zeros((n, 1, 1), np.uint8), labels, ["a", "b"])
        digests = [f"{i:064x}" for i in range(n)]
        return examine(source, Survey(digests=digests, facts=facts, sizes=np.ones(n, np.int64), thumbnails=cells[:n]))

    return look


def photos(n, width=300, height=200, format="PNG", mode="RGB"):
    return [Facts(format=format, mode=mode, width=width, height=height)] * n


@pytest.mark.parametrize(("long", "advised"), [(9, False), (10, False), (11, True)])
def test_letterboxing_is_advised_from_a_tenth_of_long_pictures(imagined, long, advised):
    result = imagined([*photos(long, 200, 500), *photos(100 - long)])
    assert ("elongated" in kinds(result)) == advised
    assert result.summary["advice"]["resize"] == ("letterbox" if advised else "crop")


def test_an_aspect_of_the_limit_is_not_beyond_it(imagined):
    assert "elongated" not in kinds(imagined(photos(20, 180, 100)))
    assert "elongated" in kinds(imagined(photos(20, 181, 100)))


def test_tiles_for_very_large_pictures_and_a_word_on_tiny_ones(imagined):
    assert "large" in kinds(imagined(photos(20, 4000, 3000)))
    assert "large" not in kinds(imagined(photos(20, 2000, 1500)))
    assert only(imagined([*photos(20), *photos(3, 31, 90)]), "tiny").count == 3


@pytest.mark.parametrize(("side", "size"), [(8, 32), (32, 32), (100, 96), (160, 160), (500, 224), (3000, 224)])
def test_the_advised_size_enlarges_no_more_than_a_quarter(imagined, side, size):
    few_small = photos(4, 10, 10)
    assert imagined([*few_small, *photos(16, side, side)]).summary["advice"]["size"] == size


def test_a_file_format_that_tells_the_class(imagined):
    told = [*photos(50, format="JPEG"), *photos(50, format="PNG")]
    labels = np.repeat([0, 1], 50)
    assert only(imagined(told, labels), "shortcut").title == "The file format tells the class"
    assert "shortcut" not in kinds(imagined(told))
    assert "shortcut" not in kinds(imagined(photos(100), labels))
    # one class of nearly all: the majority tells as much
    assert "shortcut" not in kinds(imagined([*photos(90), *photos(10, format="JPEG")], np.repeat([0, 1], [90, 10])))


def test_nothing_readable_is_no_crash(imagined):
    result = imagined([None] * 6)
    assert result.summary["advice"] == {}


# ---------------------------------------------------------------- what is written


def test_the_report_is_json_and_lies_beside_the_data(album, examined, tmp_path):
    root = album({**healthy(), "cat/page.jpg": b"<html>", "dog/copy.png": 1})
    result = examined(root)
    assert result.report == str(tmp_path / "album.check" / "check.json")
    values = json.loads((tmp_path / "album.check" / "check.json").read_text())
    assert values["headline"] == result.headline
    assert [f["kind"] for f in values["findings"]] == [f.kind for f in result.findings]
    assert values["copies"] == [["cat/1.png", "dog/copy.png"]]
    assert sorted(p.name for p in (tmp_path / "album.check").iterdir()) == ["check.json", "quarantine.csv"]


def test_names_that_are_no_utf8_survive(album, examined):
    root = album(healthy())
    name = os.fsdecode(b'cat/\xff\n=1".jpg')
    (root / name).write_bytes(b"?")
    result = examined(root)
    assert set(result.quarantined) == {name} == set(read_quarantine(result.quarantine))
    assert set(json.loads(Path(result.report).read_bytes())["quarantined"]) == {name}
    assert all(example.isprintable() for f in result.findings for example in f.examples)


def test_a_built_in_set_writes_only_where_it_is_told(tmp_path, monkeypatch, examined):
    monkeypatch.chdir(tmp_path)
    result = examined("digits")
    assert (result.report, result.quarantine) == (None, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]
    assert write_check(result, tmp_path).report == str(tmp_path / "check.json")


def test_a_place_that_cannot_be_written_is_told_before_the_long_part(album, examined, monkeypatch):
    # not by mode bits, which root ignores
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    looked = []
    with pytest.raises(UsageError, match=r"album\.check \(Permission denied\).*--out"):
        examined(album(healthy(4)), progress=lambda *x: looked.append(x))
    assert not looked


def test_a_file_in_the_way_is_told(album, examined, tmp_path):
    (tmp_path / "album.check").write_text("")
    with pytest.raises(UsageError, match="--out"):
        examined(album(healthy(4)))


def test_another_place_is_made_on_demand(album, examined, tmp_path):
    result = examined(album(healthy(4)), tmp_path / "deep" / "er")
    assert result.report == str(tmp_path / "deep" / "er" / "check.json")
    assert not (tmp_path / "album.check").exists()


def test_a_survey_can_be_examined_without_writing(album):
    source = open_source(album(healthy(4)))
    seen = survey(source, RULES)
    assert examine(source, seen) == examine(source, replace(seen))


@pytest.mark.shared
def test_the_odd_and_broken_files(shared, examined, tmp_path):
    result = examined(shared / "badimages", tmp_path / "out")
    pages = next(f for f in result.findings if "HTML" in f.title)
    assert pages.count == 23
    assert next(f for f in result.findings if "LFS" in f.title).count == 12
    assert only(result, "suffix").examples == ("wrong_suffix/Abyssinian_34_gif.jpg is GIF",)


@pytest.mark.shared
def test_pets_have_one_leak(shared, examined, tmp_path):
    result = examined(shared / "pets" / "breeds3", tmp_path / "out")
    assert only(result, "leak").examples == ("train/Abyssinian/Abyssinian_151.jpg = test/Abyssinian/Abyssinian_99.jpg",)
    assert result.summary["advice"] == {"size": 160, "resize": "crop"}
