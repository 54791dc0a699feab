"""Which pictures weights know, at first and at second hand, against the names in the folders."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import vitreous as vt
from vitreous.data.prepare import Prepared, Side, prepare
from vitreous.recipes import Wishes, choose
from vitreous.run.outcome import chosen_by_known, shown_before
from vitreous.store.checkpoint import RunFolder

SALT, NONE_HELD = "data.split_salt=other", "data.test=0"
FAST: dict[str, Any] = {"model": "resnet20_cifar", "size": 16, "batch": 16, "quiet": True}


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one step; do not change them. ``other`` is divided otherwise, and the rest as usual."""
    place = tmp_path_factory.mktemp("known")

    def train(name: str, *changes: str, **more: Any) -> None:
        vt.train(photos, out=place / name, set=["train.steps=1", "tune.guard=off", *changes], **more, **FAST)

    train("other", SALT)
    train("whole", NONE_HELD)
    train("tuned", weights=place / "other", tune="plain")
    train("taught", teacher=place / "other")
    train("again", weights=place / "taught", tune="plain")
    train("own")
    return place


def ready(photos: Path, *changes: str) -> Prepared:
    return prepare(choose(Wishes(data=str(photos), size=16, set=changes))[0].data)


def names(prepared: Prepared, *sides: Side) -> set[str]:
    return {prepared.source.name(int(i)) for side in sides for i in prepared.indices(side)}


def told(found: list[str]) -> int:
    assert len(found) < 2
    return int(re.findall(r"on (\d+) of the", found[0])[0]) if found else 0


@pytest.mark.parametrize(
    ("run", "split"),
    [
        ("own", ()),
        ("other", (SALT,)),
        ("tuned", (SALT,)),
        ("taught", (SALT,)),
        ("again", (SALT,)),
        ("whole", (NONE_HELD,)),
    ],
)
def test_whatever_the_weights_were_made_with_is_told(
    photos: Path, runs: Path, run: str, split: tuple[str, ...]
) -> None:
    here, there = ready(photos), ready(photos, *split)
    folder = RunFolder.open(runs / run)
    expected = len(names(here, "test") & names(there, "train", "val"))
    assert told(shown_before(folder, here, "It was")) == expected
    assert (expected == 0) == (run == "own")
    flattered = len(names(here, "val") & names(there, "train"))
    assert told(chosen_by_known(folder, here, "It was")) == flattered
    assert (flattered == 0) == (run == "own")


def test_both_are_kept_with_the_run(runs: Path) -> None:
    for run in ("tuned", "taught"):
        notices = "\n".join(vt.load(runs / run).card["notices"])
        assert "test pictures: the accuracy on them" in notices and "validation pictures: the accuracy" in notices


def test_a_run_that_is_removed_meanwhile_costs_a_sentence_and_no_training(
    photos: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitreous.training.trainer import Trainer

    shutil.copytree(runs / "own", tmp_path / "earlier")
    fit = Trainer.fit

    def removed(self: Trainer, **how: Any) -> Any:
        shutil.rmtree(tmp_path / "earlier")
        return fit(self, **how)

    monkeypatch.setattr(Trainer, "fit", removed)
    changes = ["train.steps=1", "tune.guard=off"]
    run = vt.train(photos, weights=tmp_path / "earlier", tune="plain", out=tmp_path / "run", set=changes, **FAST)
    assert any(f"Which pictures {tmp_path / 'earlier'} knows is lost" in notice for notice in run.card["notices"])
