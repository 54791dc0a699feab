"""From a folder to three sides, with one clear sentence wherever that cannot be done."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from vitreous.config import from_dict, to_dict
from vitreous.data.dataset import ArraySource
from vitreous.data.image import Preprocess, decode
from vitreous.data.loader import Loader
from vitreous.data.prepare import DataConfig, prepare, quarantine_of
from vitreous.data.quarantine import write_quarantine
from vitreous.data.split import LEFT_OUT
from vitreous.data.transforms import Augment, AugmentConfig
from vitreous.errors import BadData, UsageError

NAN, INF = float("nan"), float("inf")
RULES = Preprocess(size=16, store=16)


@pytest.fixture
def ready(tmp_path):
    """``ready(root, ...)``: prepare with a cache of this test's own."""

    def make(root, *, labelled=True, source=None, **fields):
        config = DataConfig(source=str(root), preprocess=RULES, cache_dir=str(tmp_path / "cache"), **fields)
        return prepare(config, labelled=labelled, source=source)

    return make


def two_classes(n, start=0):
    return {f"{'cat' if i % 2 else 'dog'}/{i}.png": start + i for i in range(n)}


def mentioned(prepared, *words):
    return any(all(word in notice for word in words) for notice in prepared.notices)


def test_three_sides_that_cover_everything_once(album, ready):
    prepared = ready(album(two_classes(60)))
    sides = [prepared.indices(side) for side in ("train", "val", "test")]
    everything = [sorted(part.tolist()) for part in (np.concatenate(sides), prepared.indices("all"))]
    assert everything == [list(range(60))] * 2
    assert all(len(side) for side in sides)
    assert [len(p) for p in (prepared.train, prepared.val, prepared.test)] == [len(side) for side in sides]
    for name, side in zip(("train", "val", "test"), sides, strict=True):
        assert prepared.class_counts[name] == np.bincount(prepared.source.labels[side], minlength=2).tolist()
    assert prepared.classes == ("cat", "dog")
    assert prepared.notices == ()


def test_the_pictures_are_those_of_the_files(album, ready):
    prepared = ready(album(two_classes(20)))
    for sample in (prepared.train[0], prepared.val[0]):
        assert (sample.image == decode(prepared.source.read(sample.index), RULES).pixels).all()
        assert sample.label == prepared.source.labels[sample.index]


def test_adding_pictures_leaves_test_pictures_test(album, ready):
    before = ready(album(two_classes(120)))
    after = ready(album({**two_classes(120), **two_classes(10, start=500)}))
    tested = {before.survey.digests[i] for i in before.indices("test")}
    trained = {after.survey.digests[i] for i in after.indices("train")}
    assert len(tested & trained) <= 2  # one a class, where a threshold was corrected


def test_digests_hang_on_contents_and_classes_alone(album, ready, tmp_path):
    first = ready(album(two_classes(20), "a"))
    renamed = ready(album({f"{p.split('/')[0]}/x{p.split('/')[1]}": s for p, s in two_classes(20).items()}, "b"))
    assert first.digests == renamed.digests
    (tmp_path / "b" / "cat" / "x1.png").unlink()
    assert ready(tmp_path / "b").digests != first.digests
    (tmp_path / "a" / "cat").rename(tmp_path / "a" / "lynx")
    assert ready(tmp_path / "a").digests["train"] != first.digests["train"]


def test_names_and_files_that_are_left_out_change_no_batch_and_no_order(album, ready):
    """A run that is resumed after such a change is still the same run, as the digests say."""
    files = {**two_classes(30), "dog/copy.png": 1, "dog/again.png": 1, "cat/third.png": 1}
    renamed = {f"{p.split('/')[0]}/{(7 * n) % 37:02d}-{p.split('/')[1]}": s for n, (p, s) in enumerate(files.items())}
    first, second = ready(album(files, "a")), ready(album({**renamed, "cat/0.jpg": b"?"}, "b"), allow_bad=0.1)
    assert first.digests == second.digests
    for side in ("train", "val", "test"):
        a, b = first.pictures(side), second.pictures(side)
        assert all(torch.equal(a[i].image, b[i].image) and a[i].label == b[i].label for i in range(len(a)))
    transform = Augment(AugmentConfig(), RULES)
    one, other = (Loader(p.train, transform, batch=8, seed=3, train=True, workers=0) for p in (first, second))
    for step in range(2 * one.steps_per_epoch):
        a, b = one.at(step), other.at(step)
        assert torch.equal(a.image, b.image) and torch.equal(a.label, b.label)


def test_copies_stay_together(album, ready):
    files = {f"{'ab'[i % 2]}/{i}-{copy}.png": i for i in range(40) for copy in range(3)}
    prepared = ready(album(files))
    for i in range(40):
        members = [j for j in range(120) if prepared.source.name(j).split("/")[1].startswith(f"{i}-")]
        assert len(set(prepared.split[members].tolist())) == 1


def test_a_copy_in_train_is_left_out_for_the_one_in_test(album, ready, scene):
    file = io.BytesIO()
    scene(3).save(file, "JPEG", quality=60)
    files = {f"train/{c}/{i}.png": 2 * i + (c == "cat") for c in ("cat", "dog") for i in range(20)}
    tests = {f"test/{c}/{i}.png": 100 + 2 * i + (c == "cat") for c in ("cat", "dog") for i in range(5)}
    root = album({**files, **tests, "test/cat/copy.png": 1, "test/cat/nearly.jpg": file.getvalue()})
    prepared = ready(root)
    sides = {prepared.source.name(i): int(s) for i, s in enumerate(prepared.split)}
    assert [name for name, side in sides.items() if side == LEFT_OUT] == ["train/cat/0.png", "train/cat/1.png"]
    assert {side for name, side in sides.items() if name.startswith("test/")} == {2}
    assert mentioned(prepared, "copy in validation or test", "2 pictures")
    assert mentioned(prepared, "no val part", "came from train")
    assert not prepared.found and len(prepared.divided) >= 2, "all of it is about the division"


def test_a_given_split_of_one_film_is_not_gutted(ready, scene):
    a = np.asarray(scene(0, 32, 24)).astype(float)
    shots = [a * (1 - t / 300) for t in range(40)]
    images = np.stack(shots).astype(np.uint8)
    images = np.concatenate([images, np.stack([np.asarray(scene(s, 32, 24)) for s in range(1, 41)])])
    source = ArraySource(images, np.arange(80) % 2, ["a", "b"], split=np.where(np.arange(80) % 4 < 2, 0, 2))
    prepared = ready("memory", source=source)
    assert not (prepared.split == LEFT_OUT).any()
    assert mentioned(prepared, "look like others", "too many")


def test_a_class_of_one_scene_is_divided_and_said_so(ready, scene):
    a = np.asarray(scene(0, 32, 24)).astype(float)
    film = np.stack([a * (1 - t / 300) for t in range(30)]).astype(np.uint8)
    others = np.stack([np.asarray(scene(s, 32, 24)) for s in range(1, 31)])
    source = ArraySource(np.concatenate([film, others]), np.repeat([0, 1], 30), ["film", "many"])
    prepared = ready("memory", source=source)
    assert all(min(counts) > 0 for counts in prepared.class_counts.values())
    assert mentioned(prepared, "class film", "look alike")


# ---------------------------------------------------------------- bad files


def test_a_few_bad_files_are_left_out_and_named(album, ready):
    root = album({**two_classes(30), "cat/broken.jpg": b"\xff\xd8\xff"})
    prepared = ready(root, allow_bad=0.05)
    assert mentioned(prepared, "cannot be used", "1 picture", "cat/broken.jpg")
    assert sum(map(len, map(prepared.indices, ("train", "val", "test")))) == 30


def test_too_many_bad_files_are_refused_with_examples_and_both_remedies(album, ready):
    root = album({**two_classes(6), **{f"cat/page{i}.jpg": b"<html>" for i in range(5)}})
    with pytest.raises(BadData) as caught:
        ready(root)
    said = str(caught.value)
    assert said.startswith("5 of 11 pictures")
    assert said.count("an HTML page") == 3
    assert f"vitreous check {root}" in said
    assert "--allow-bad 0.455" in said
    assert len(ready(root, allow_bad=0.455).train) > 0


def test_files_missing_from_a_table_count_as_unreadable(album, ready):
    root = album(two_classes(30))
    rows = [f"{c}/{i}.png,{c}\n" for i in range(30) for c in ["cat" if i % 2 else "dog"]]
    (root / "table.csv").write_text("path,label\n" + "".join(rows) + "cat/gone.png,cat\n")
    with pytest.raises(
        BadData, match=r"1 of 31 .*cat/gone\.png: no such file; a path that is not absolute starts at /"
    ):
        ready(root / "table.csv")
    prepared = ready(root / "table.csv", allow_bad=0.05)
    assert mentioned(prepared, "1 of the 31 files", "line 32: cat/gone.png")
    assert sum(map(len, map(prepared.indices, ("train", "val", "test")))) == 30


def test_the_quarantine_lists_are_honoured(album, ready, tmp_path):
    root = album({**two_classes(30), "cat/page.jpg": b"<html>"})
    (tmp_path / "album.check").mkdir()
    write_quarantine(tmp_path / "album.check" / "quarantine.csv", {"cat/page.jpg": "page"})
    write_quarantine(tmp_path / "more.csv", {"cat/1.png": "blurred"})
    prepared = ready(root, quarantine=str(tmp_path / "more.csv"))
    assert quarantine_of(str(root)) == {"cat/page.jpg": "page"}
    assert mentioned(prepared, "quarantine", "2 pictures")
    assert (prepared.split == LEFT_OUT).sum() == 2


def test_a_quarantine_list_that_is_missing_is_an_error(album, ready):
    with pytest.raises(BadData, match=r"absent\.csv"):
        ready(album(two_classes(10)), quarantine="absent.csv")


# ---------------------------------------------------------------- sets too small or too strange


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({f"{i}.png": i for i in range(5)}, "no labels"),
        ({f"cat/{i}.png": i for i in range(5)}, "only one class, cat; .* at least two"),
        ({"cat/0.png": 0, "dog/1.png": 1}, r"nothing to validate on.*--set data\.val=0"),
        ({"cat/0.png": 0, "cat/1.png": 1, "dog/2.png": 2}, r"too little to choose by.* class cat.*twenty of each"),
        ({"cat/0.png": 0, "cat/1.png": 1, "dog/a.jpg": b"?"}, "only|class cat|cannot be used"),
        ({"cat/0.jpg": b"?", "dog/1.jpg": b"?"}, "2 of 2 pictures cannot be used"),
    ],
    ids=["flat", "one class", "one each", "three", "one class left", "all bad"],
)
def test_what_cannot_be_trained_on_is_one_sentence(album, ready, files, said):
    with pytest.raises(BadData, match=said) as caught:
        ready(album(files), allow_bad=0.9)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_set_of_one_each_can_do_without_validation(album, ready):
    assert len(ready(album({"cat/0.png": 0, "dog/1.png": 1}), val=0.0).train) == 2


def test_small_and_empty_classes_have_a_defined_place(album, ready):
    root = album({**two_classes(40), "hen/0.png": 900, "pig/0.png": 901, "pig/1.png": 902, "owl/x.jpg": b"?"})
    (root / "emu").mkdir()
    prepared = ready(root, allow_bad=0.1)
    assert (prepared.classes, prepared.unused) == (("cat", "dog", "hen", "pig"), ("owl",))
    assert prepared.train.classes == prepared.classes and set(prepared.train.labels) == {0, 1, 2, 3}
    counts = prepared.class_counts
    assert [counts[side][2] for side in counts] == [1, 0, 0]
    assert [counts[side][3] for side in counts] == [1, 1, 0]
    assert mentioned(prepared, "emu", "no pictures")
    assert mentioned(prepared, "no picture of them can be used", "owl")
    assert mentioned(prepared, "No val picture", "hen")
    assert mentioned(prepared, "No test picture", "hen, pig")


def test_a_set_without_labels_is_fine_where_none_are_needed(album, ready):
    prepared = ready(album({f"{i}.png": i for i in range(40)}), labelled=False)
    assert len(prepared.train) > 20
    assert len(ready(album({"one.png": 1}, "single"), labelled=False).train) == 1


def test_pictures_without_label_are_left_out_of_supervised_training(ready, scene):
    images = np.stack([np.asarray(scene(s, 16, 16)) for s in range(40)])
    labels = np.where(np.arange(40) < 4, -1, np.arange(40) % 2)
    prepared = ready("memory", source=ArraySource(images, labels, ["a", "b"]))
    assert (prepared.split[:4] == LEFT_OUT).all()
    assert mentioned(prepared, "no label", "4 pictures")


def test_the_built_in_digits(ready):
    prepared = ready("digits")
    shares = np.array([sum(c) for c in prepared.class_counts.values()]) / 1797
    assert np.abs(shares - (0.7, 0.15, 0.15)).max() < 0.04


# ---------------------------------------------------------------- settings


def test_settings_survive_json():
    config = DataConfig(source="pets", val=0.2, quarantine="q.csv", preprocess=Preprocess(size=96))
    assert from_dict(DataConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    "fields", [{"allow_bad": -0.1}, {"allow_bad": 2.0}, {"cache_gib": -1.0}, {"cache_gib": NAN}, {"cache_gib": INF}]
)
def test_settings_out_of_range_are_refused(fields):
    with pytest.raises(UsageError, match=next(iter(fields))):
        DataConfig(source="pets", **fields)


def test_an_unwritable_cache_is_no_obstacle(album, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    config = DataConfig(source=str(album(two_classes(20))), preprocess=RULES, cache_dir=str(blocked / "cache"))
    assert len(prepare(config).train) > 0


@pytest.mark.shared
def test_pets(shared, ready):
    prepared = ready(shared / "pets" / "breeds3")
    assert prepared.class_counts["test"] == [98, 100, 100]
    assert (
        prepared.source.name(int(np.flatnonzero(prepared.split == LEFT_OUT)[0]))
        == "train/Abyssinian/Abyssinian_151.jpg"
    )


def test_a_fraction_is_nested_stratified_and_leaves_validation_and_test_alone(album, ready):
    pictures = {f"{'dog' if i % 4 == 0 else 'cat'}/{i}.png": i for i in range(160)} | {"cat/copy.png": 6}
    root = album(pictures)
    whole = ready(root)
    train, earlier = set(whole.indices("train").tolist()), set[int]()
    for fraction in (0.1, 0.3, 0.7, 1.0):
        part = ready(root, fraction=fraction)
        for side in ("val", "test"):
            assert part.indices(side).tolist() == whole.indices(side).tolist()
        kept = set(part.indices("train").tolist())
        assert earlier <= kept <= train
        for got, all_of in zip(part.class_counts["train"], whole.class_counts["train"], strict=True):
            assert abs(got - fraction * all_of) <= 1.5, "of every class the same share, copies counted as one"
        copies = {i for i in train if whole.groups[i] == whole.groups[whole.source._names.index("cat/copy.png")]}
        assert not copies or len(copies & kept) in (0, len(copies))
        assert mentioned(part, "training pictures", "data.fraction") is (fraction < 1)
        earlier = kept
    assert earlier == train


def test_a_fraction_keeps_a_picture_of_every_class_and_does_not_hang_on_names(album, ready):
    first = ready(album(two_classes(60), "a"), fraction=0.001)
    assert first.class_counts["train"] == [1, 1]
    renamed = {f"{p.split('/')[0]}/x{p.split('/')[1]}": s for p, s in two_classes(60).items()}
    assert ready(album(renamed, "b"), fraction=0.001).digests == first.digests


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, NAN])
def test_a_fraction_that_is_no_share_is_refused(fraction):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        DataConfig(source="digits", fraction=fraction)
