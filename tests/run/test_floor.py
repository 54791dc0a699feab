"""What a classifier on thumbnails gets, against scikit-learn's own, and who is told of it."""

from __future__ import annotations

import json

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from vitreous.cli.main import main
from vitreous.data.prepare import DataConfig, prepare
from vitreous.run import floor as floors

SHORT = ["--model", "vit_pico_patch4_32", "--set", "train.steps=1", "--set", "train.batch=8"]


@pytest.fixture(scope="module")
def digits():
    return prepare(DataConfig(source="digits"))


def test_it_is_the_regression_that_others_solve(digits):
    found = floors.floor(digits)
    thumbnails, labels = digits.survey.thumbnails, digits.source.labels
    train, test = digits.indices("train"), digits.indices("test")
    scale = StandardScaler().fit(thumbnails[train].reshape(len(train), -1))
    known, asked = (scale.transform(thumbnails[i].reshape(len(i), -1)) for i in (train, test))
    best = [
        LogisticRegression(C=c, max_iter=5000).fit(known, labels[train]).score(asked, labels[test]) for c in (0.01, 1)
    ]
    assert found["side"] == "test" and found["pictures"] == len(train)
    assert min(best) - 0.01 <= found["accuracy"] <= max(best) + 0.01
    assert found["accuracy"] > 0.9, "these digits are 8 x 8 pixels"


def test_it_learns_from_training_pictures_alone(digits, monkeypatch):
    """Of test pictures whose labels are turned round it gets as many right as its answers were wrong so."""
    before = floors.floor(digits)["accuracy"]
    turned = digits.source.labels.copy()
    turned[digits.indices("test")] = (turned[digits.indices("test")] + 1) % 10
    monkeypatch.setattr(digits.source, "labels", turned)
    assert floors.floor(digits)["accuracy"] < 1 - before + 0.01


def test_of_hundreds_of_classes_it_says_nothing(digits, monkeypatch):
    monkeypatch.setattr(floors, "_CLASSES", 9)
    assert floors.floor(digits) == {}


def test_whoever_is_below_it_is_told_in_terminal_report_and_card(digits, tmp_path, capsys):
    assert main(["train", "digits", *SHORT, "--out", str(tmp_path / "run")]) == 0
    card = json.loads((tmp_path / "run/card.json").read_text())
    floor = card["floor"]["accuracy"]
    assert card["floor"] == floors.floor(digits)
    assert card["metrics"]["test"]["accuracy"] < floor
    said = " ".join(capsys.readouterr().out.split())
    assert f"but a linear classifier on thumbnails of 8 x 9 pixels is right on {floor:.1%}" in said
    page = (tmp_path / "run/report.html").read_text()
    assert "thumbnails of 8 × 9 pixels" in page and "not clearly better than that" in page


def test_the_survey_that_it_needs_opens_no_picture_again(digits, monkeypatch):
    monkeypatch.setattr(type(digits.source), "read", lambda *_: pytest.fail("a picture was opened"))
    assert floors.floor(digits)["accuracy"] > 0
