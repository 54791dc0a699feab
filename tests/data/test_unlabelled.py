"""Pictures without a label may teach, and may change nothing about those that have one: neither sides nor what is
held out."""

from __future__ import annotations

import io

import numpy as np
import pytest

from vitreous.data.image import Preprocess
from vitreous.data.prepare import DataConfig, prepare
from vitreous.data.quarantine import NAME, check_folder, write_quarantine
from vitreous.errors import BadData
from vitreous.types import UNLABELLED

RULES = Preprocess(size=16, store=16)
SIDES = ("train", "val", "test")


@pytest.fixture
def ready(tmp_path):
    """``ready(root, ...)``: prepare with a cache of this test's own."""

    def make(root, *further, labelled=True, unlabelled=True, **fields):
        places = tuple(str(place) for place in further)
        config = DataConfig(
            source=str(root), preprocess=RULES, cache_dir=str(tmp_path / "cache"), unlabelled=places, **fields
        )
        return prepare(config, labelled=labelled, unlabelled=unlabelled)

    return make


@pytest.fixture
def saved(scene):
    """``saved(seed)``: a scene as a strongly compressed JPEG: nearly a copy of its PNG."""

    def make(seed, quality=60):
        file = io.BytesIO()
        scene(seed).save(file, "JPEG", quality=quality)
        return file.getvalue()

    return make


def names(prepared, side):
    return sorted(prepared.source.name(int(i)).rsplit("/", 1)[-1] for i in prepared.indices(side))


def sides(prepared):
    """Side to the contents and the labels of its pictures, in their order."""
    labels, digests = prepared.source.labels, prepared.survey.digests
    return {side: [(digests[i], int(labels[i])) for i in prepared.indices(side).tolist()] for side in SIDES}


@pytest.mark.parametrize("given", [False, True], ids=["drawn", "given"])
@pytest.mark.parametrize("seed", range(6))
def test_labelled_pictures_lie_where_they_would_lie_alone(seed, given, album, saved, ready):
    """Whatever is planted among the further ones: copies, near-copies, and chains of both across the sides."""
    rng = np.random.default_rng(seed)
    number = 60
    # some of the labelled ones are copies of each other, too
    seeds = [int(s) for s in rng.choice(number, number, p=rng.dirichlet(np.ones(number)))]
    parts = [f"{part}/" if given else "" for part in rng.choice(["train", "val", "test"], number, p=[0.6, 0.2, 0.2])]
    root = album({f"{parts[i]}{'ab'[s % 2]}/{i}.png": s for i, s in enumerate(seeds)}, "own")
    shown = {f"{i}.{'png' if i % 3 else 'jpg'}": int(rng.integers(0, 2 * number)) for i in range(80)}
    files = {name: s if name.endswith("png") else saved(s, int(rng.integers(60, 95))) for name, s in shown.items()}
    further = album(files, "further")
    alone, beside = ready(root, unlabelled=False), ready(root, further)
    assert sides(alone) == sides(beside) and alone.class_counts == beside.class_counts
    assert {side: beside.digests[side] for side in SIDES} == alone.digests
    assert sides(ready(root, "gone", unlabelled=False)) == sides(alone), "for eval they need not even be there"
    held_out = {
        seeds[int(beside.source.name(int(i)).rsplit("/", 1)[-1][:-4])]
        for side in ("val", "test")
        for i in beside.indices(side)
    }
    taught = {shown[name] for name in names(beside, "unlabelled")}
    assert not taught & held_out
    assert len(beside.indices("unlabelled")) >= 20, "and most of them are left"


def test_copies_of_what_is_held_out_teach_nobody(album, saved, ready):
    root = album(
        {f"{part}/{'ab'[i % 2]}/{part}{i}.png": n * 100 + i for n, part in enumerate(SIDES) for i in range(20)}, "own"
    )
    planted = {f"{part}-copy.png": n * 100 + 3 for n, part in enumerate(SIDES)}
    planted |= {f"{part}-nearly.jpg": saved(n * 100 + 5) for n, part in enumerate(SIDES)}
    found = ready(root, album({**planted, "new.png": 999}, "further"))
    assert names(found, "unlabelled") == ["new.png", "train-copy.png", "train-nearly.jpg"]
    assert any("like one of validation or test: 4 pictures" in notice for notice in found.notices)
    assert any("to be learned from all the same: 3 pictures" in notice for notice in found.notices)
    assert len(found.indices("train")) == 20


def test_what_looks_like_what_is_held_out_is_not_learned_from_even_where_it_is_trained_on(album, saved, ready):
    """A class that is one scene, and a given split that would lose much: train takes both, but not ``apart``."""
    film = {f"film/{i}.jpg": saved(1000, 60 + i) for i in range(20)}
    root = album(film | {f"{'ab'[i % 2]}/{i}.png": i for i in range(60)}, "drawn")
    taken, apart = ready(root), ready(root, apart=True)
    assert sum(name.endswith(".jpg") for name in names(taken, "train")) > 10
    assert names(apart, "train") == [name for name in names(taken, "train") if name.endswith(".png")]
    assert [names(apart, side) for side in ("val", "test")] == [names(taken, side) for side in ("val", "test")]
    assert not any("data.fraction" in said for said in apart.notices)
    given = {f"train/{'ab'[i % 2]}/{i}.png": i for i in range(30)}
    given |= {f"test/{'ab'[i % 2]}/like{i}.jpg": saved(i) for i in range(12)}
    taken, apart = ready(album(given, "given")), ready(album(given, "given"), apart=True)
    like = {f"{i}.png" for i in range(12)}
    assert like <= {*names(taken, "train"), *names(taken, "val")} and not like & set(names(apart, "train"))
    assert any("Left out of train as they look like one of validation or test: " in said for said in apart.notices)
    assert not any("too many to leave out" in said for said in apart.notices)


def test_where_nothing_else_is_left_it_is_refused(album, saved, ready):
    root = album({f"{kind}/{i}.jpg": saved(seed, 50 + i) for seed, kind in enumerate("ab") for i in range(30)})
    assert len(ready(root).train) > 30
    with pytest.raises(BadData, match=r"of 4\d pictures to learn from look like .* --set data\.apart=false"):
        ready(root, apart=True)


def test_one_film_without_labels_is_said_to_be_one(album, saved, ready):
    found = ready(album({f"{i}.jpg": saved(7, 50 + i) for i in range(30)}), labelled=False, apart=True)
    assert len(found.train) > 10 and len(found.val)
    assert any(said.startswith("All pictures look alike, as from one film") for said in found.notices)


def test_the_list_beside_a_further_folder_is_honoured(album, ready):
    root = album({f"{'ab'[i % 2]}/{i}.png": i for i in range(40)}, "own")
    further = [album({f"{name}{i}.png": 100 * n + i for i in range(4)}, name) for n, name in enumerate("xy", 1)]
    place = check_folder(further[1]) / NAME
    place.parent.mkdir()
    write_quarantine(place, {"y2.png": "blurred", "x1.png": "of another folder"})
    found = ready(root, *further)
    assert names(found, "unlabelled") == ["x0.png", "x1.png", "x2.png", "x3.png", "y0.png", "y1.png", "y3.png"]
    assert any("in quarantine: 1 picture." in notice for notice in found.notices)


def test_broken_pictures_are_found_by_checking_where_they_lie(album, ready):
    root = album({f"{'ab'[i % 2]}/{i}.png": i for i in range(40)}, "own")
    with pytest.raises(BadData) as caught:
        ready(root, further := album({"broken.png": b"no picture", "whole.png": 99}, "more"))
    assert f"run `vitreous check {root}` and `vitreous check {further}` to list" in str(caught.value)


def test_rows_without_a_label_teach_without_one(album, ready):
    root = album({f"{i}.png": i for i in range(60)})
    table = root / "table.csv"
    table.write_text("path,label\n" + "".join(f"{i}.png,{'ab'[i % 2] if i < 40 else ''}\n" for i in range(60)))
    found, alone = ready(table), ready(table, unlabelled=False)
    assert names(found, "unlabelled") == sorted(f"{i}.png" for i in range(40, 60))
    assert sides(found) == sides(alone) and not len(alone.indices("unlabelled"))
    assert any("Left out as they have no label: 20 pictures" in notice for notice in alone.notices)
    assert not any("Left out as they have no label" in notice for notice in found.notices)


def test_a_folder_without_any_label_is_divided_for_the_loss_alone(album, ready):
    root = album({f"{i}.png": i for i in range(60)})
    found = ready(root, album({f"{i}.png": 100 + i for i in range(10)}, "further"), labelled=False)
    assert found.classes == () and not len(found.indices("unlabelled"))
    assert sum(len(found.indices(side)) for side in SIDES) == 70 and len(found.val) > 0


def test_labels_and_sides_of_further_folders_say_nothing(album, ready):
    root = album({f"{'ab'[i % 2]}/{i}.png": i for i in range(60)}, "own")
    further = album({f"{part}/{'bc'[i % 2]}/{part}{i}.png": 100 * n + i
                     for n, part in enumerate(SIDES, 1) for i in range(10)}, "further")  # fmt: skip
    found = ready(root, further)
    assert found.classes == ("a", "b") and len(found.indices("unlabelled")) == 30
    assert set(found.source.labels[found.indices("unlabelled")].tolist()) == {UNLABELLED}
    assert sides(found) == sides(ready(root, unlabelled=False))


def test_digests_know_the_further_pictures_and_only_those_that_teach(album, ready):
    root = album(
        {f"{part}/{'ab'[i % 2]}/{part}{i}.png": n * 100 + i for n, part in enumerate(SIDES) for i in range(20)}, "own"
    )
    further = album({f"{i}.png": 500 + i for i in range(20)}, "further")
    before = ready(root, further).digests
    album({"copy-of-test.png": 203}, "further")
    assert ready(root, further).digests == before, "what is left out is of no account"
    album({"new.png": 600}, "further")
    after = ready(root, further).digests
    assert after["unlabelled"] != before["unlabelled"]
    assert {side: after[side] for side in SIDES} == {side: before[side] for side in SIDES}


def test_a_share_of_the_training_pictures_leaves_the_further_ones_whole(album, ready):
    root = album({f"{'ab'[i % 2]}/{i}.png": i for i in range(100)}, "own")
    further = album({f"{i}.png": 500 + i for i in range(20)}, "further")
    whole, part = ready(root, further), ready(root, further, fraction=0.3)
    assert names(part, "unlabelled") == names(whole, "unlabelled"), "labelled ones left out of the share do not teach"
    assert len(part.indices("train")) == pytest.approx(0.3 * len(whole.indices("train")), abs=2)
    assert sides(part)["val"] == sides(whole)["val"] and sides(part)["test"] == sides(whole)["test"]
