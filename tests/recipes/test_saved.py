"""A saved run is a valid run again, and single fields of it can be changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vitreous import config
from vitreous.errors import BadData, UsageError
from vitreous.network import build_network
from vitreous.recipes import Wishes, choose
from vitreous.recipes.saved import adjust, repeat
from vitreous.training.schedule import Plan


@pytest.fixture
def run():
    return choose(Wishes(data="digits", epochs=2))[0]


def test_there_and_back(run, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(config.to_dict(run)))
    assert repeat(file) == run


def test_changes_are_typed_and_dotted(run) -> None:
    changed = adjust(run, ["train.optim.lr=1e-3", "seed=7", "network.options.depth=4"])
    assert changed.train.optim.lr == 1e-3 and changed.seed == 7 and changed.network.options == {"depth": 4}
    assert adjust(run, []) == run


def test_one_length_takes_the_place_of_another_and_of_the_steps_of_a_finished_run(run) -> None:
    finished = replace(run, train=replace(run.train, plan=Plan(steps=20, evaluate_every=5)))
    assert adjust(finished, ["seed=1", "train.optim.lr=1e-3"]).train.plan == Plan(steps=20, evaluate_every=5)
    for change in ("train.batch=8", "train.evaluate_every=3", "train.epochs=1"):
        assert adjust(finished, [change]).train.plan is None
    longer = adjust(finished, ["train.budget_seconds=90"]).train
    assert (longer.budget_seconds, longer.epochs, longer.plan) == (90, None, None)
    with pytest.raises(UsageError, match="exactly one"):
        adjust(finished, ["train.steps=5", "train.epochs=1"])


def test_options_of_a_model_are_checked_when_it_is_built(run) -> None:
    options = adjust(
        run, ["network.options.mixer=none", "network.options.halvings=1", "network.options.depths=2,1,1,1"]
    ).network.options
    assert options == {"mixer": "none", "halvings": 1, "depths": [2, 1, 1, 1]}
    changed = adjust(run, ["network.options.depths=2,1,1,1"])
    assert len(build_network(changed.network).backbone.stages[0]) == 2
    with pytest.raises(UsageError, match="did you mean depths"):
        build_network(adjust(run, ["network.options.depth=2"]).network)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.optim.lr", "write NAME=VALUE"),
        ("=3", "write NAME=VALUE"),
        ("train.optim.rate=1", "did you mean"),
        ("seed=seven", "seed must be"),
    ],
)
def test_what_sets_nothing_is_refused(run, change: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        adjust(run, [change])


@pytest.mark.parametrize("content", [None, "{", '{"data": 3}', '{"spped": 1}'])
def test_files_that_are_no_run_are_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises((BadData, UsageError)) as caught:
        repeat(file)
    assert "\n" not in str(caught.value)
