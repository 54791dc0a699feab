"""A result survives JSON, CSV, spreadsheets and hostile names."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest

from vitreous.results import Classes, safe_cell

NAMES = ("cat", "=dog", "owl")


@pytest.fixture
def result() -> Classes:
    return Classes(name="a/b.jpg", classes=NAMES, probabilities=np.array([0.2, 0.7, 0.1]), notices=("first frame",))


def test_best_first(result: Classes) -> None:
    assert (result.label, result.confidence) == ("=dog", 0.7)
    assert [name for name, _ in result.top(2)] == ["=dog", "cat"]
    assert len(result.top()) == 3


def test_json_holds_every_class(result: Classes) -> None:
    told = json.loads(json.dumps(result.to_dict()))
    assert told["probabilities"] == pytest.approx({"cat": 0.2, "=dog": 0.7, "owl": 0.1})
    assert told["label"] == "=dog" and told["error"] is None and told["notices"] == ["first frame"]


def test_an_unreadable_picture_is_a_result_too() -> None:
    failed = Classes(name="x.jpg", classes=NAMES, error="it is empty")
    assert failed.label is None and failed.confidence is None and failed.top() == []
    assert repr(failed) == "<x.jpg: unreadable, it is empty>"
    assert failed.row() == ["x.jpg", "", "", "", "", "it is empty", "", "", "", ""]
    assert json.loads(json.dumps(failed.to_dict()))["probabilities"] == {}


def test_csv_rows_fit_the_header(result: Classes) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([Classes.header(NAMES), result.row()])
    (row,) = csv.DictReader(io.StringIO(file.getvalue()))
    assert row["name"] == "a/b.jpg" and row["label"] == "'=dog" and float(row["'=dog"]) == 0.7


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(start: str) -> None:
    assert safe_cell(start + "cmd|' /C calc'!A0").startswith("'" + start)
    row = Classes(name=start + "x", classes=(start + "c",), probabilities=np.ones(1)).row()
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


@pytest.mark.parametrize("name", ["plain", "größe", "🐈", "a=b", ""])
def test_harmless_cells_are_untouched(name: str) -> None:
    assert safe_cell(name) == name


def test_names_that_are_not_utf8_can_be_written() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    assert b"caf" in "".join(Classes(name=name, classes=("a",), error="no").row()).encode("utf-8")


def test_repr_is_short(result: Classes) -> None:
    assert repr(result) == "<a/b.jpg: =dog 70.0 %, cat 20.0 %, owl 10.0 %>"
    wide = Classes(name="x", classes=tuple(map(str, range(1000))), probabilities=np.full(1000, 1e-3))
    assert len(repr(wide)) < 60


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="either"):
        Classes(name="x", classes=NAMES)
    with pytest.raises(ValueError, match="do not fit"):
        Classes(name="x", classes=NAMES, probabilities=np.ones(2))
