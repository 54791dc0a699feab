"""What the page says of sets, labels and copies, recounted; and nothing where a run has none of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import softmax

from vitreous.reports import write_report
from vitreous.reports.recorded import read_run
from vitreous.reports.trust import copies, labels, sets
from vitreous.reports.verdict import judge

BAIT = "<script>alert(1)</script>"
LABELS = {
    "checked": 1200,
    "pictures": 1900,
    "suspects": 2,
    "agreement": 0.914,
    "list": [
        {"name": "dog/a.jpg", "side": "test", "given": "dog", "suggested": "cat", "shares": [0.01, 0.97]},
        {"name": f"{BAIT}.jpg", "side": "train", "given": BAIT, "suggested": "dog", "shares": [0.02, 0.9]},
    ],
}
COPIES = {
    "groups": 3,
    "pictures": 7,
    "left_out": 1,
    "across": 2,
    "pairs": [["cat/1.jpg", "cat/2.jpg", "one left out, one in test"], [BAIT, "b.jpg", "both in training"]],
}


def text(page: Path) -> str:
    plain = re.sub(r"<[^>]+>", " ", page.read_text().replace("<wbr>", "")).replace("\N{NARROW NO-BREAK SPACE}", "")
    return re.sub(r"\s+", " ", plain)


def test_the_table_of_sets_is_recounted(make_run: Callable[..., Path]) -> None:
    folder = make_run(10, 298, calibration={"temperature": 1.7})
    run, outputs = read_run(folder), load_file(folder / "outputs.safetensors")
    found = sets(run, judge(run))
    val, test = (softmax(outputs[f"{s}_logits"].astype(float) / 1.7, axis=1) for s in ("val", "test"))
    misfit = np.sort(1 - val[np.arange(len(val)), outputs["val_labels"]])
    assert found["pictures"] == len(val)
    for row, coverage in zip(found["rows"], (0.8, 0.9, 0.95, 0.99), strict=True):
        limit = misfit[math.ceil(round((len(val) + 1) * coverage, 9)) - 1]
        held = 1 - test <= limit + 1e-12
        held[np.arange(len(test)), test.argmax(axis=1)] = True
        right = held[np.arange(len(test)), outputs["test_labels"]].mean()
        assert row["right"].replace("\N{NARROW NO-BREAK SPACE}", "") == f"{100 * right:.1f}%"
        assert row["names"] == f"{held.sum(axis=1).mean():.2f}"


def test_what_validation_cannot_promise_is_said(make_run: Callable[..., Path]) -> None:
    folder = make_run(2, 120)  # 200 validation pictures
    assert "More takes more of them" not in text(write_report(folder))
    run = read_run(folder)
    few = run.outputs["val"].__class__(
        logits=run.outputs["val"].logits[:30],
        labels=run.outputs["val"].labels[:30],
        names=run.outputs["val"].names[:30],
    )
    run.outputs["val"] = few
    found = sets(run, judge(run))
    assert len(found["rows"]) == 3 and "99" in found["beyond"] and found["beyond"].endswith("would need 99")


def test_labels_and_copies_are_shown_and_harmless(make_run: Callable[..., Path], picture: Callable) -> None:
    page = write_report(make_run(10, labels=LABELS, copies=COPIES), thumbnail=picture)
    said, source = text(page), page.read_text()
    assert BAIT not in source
    assert "2 of 1,200 pictures (0.2%) have a label that contradicts" in said
    assert "agrees with 91.4% of all labels" in said and "The set has 1,900 pictures" in said
    assert "looks like cat 97% labelled dog in test dog/a.jpg" in said
    assert "7 pictures are copies or near-copies of one another, in 3 groups. 1 of them was left out" in said
    assert "2 held-out pictures still look like one nearer to training, so the score flatters" in said
    assert source.count('class="gallery twins"') == 2 and source.count('href="#copies"') == 1


def test_nothing_found_is_said_too(make_run: Callable[..., Path]) -> None:
    none = {"groups": 0, "pictures": 0, "left_out": 0, "across": 0, "pairs": []}
    said = text(write_report(make_run(10, labels={**LABELS, "suspects": 0, "list": []}, copies=none)))
    assert "None of 1,200 pictures stood out" in said and "labels.csv" not in said
    assert "No picture is a copy or near-copy of another" in said


@pytest.mark.parametrize("card", [{}, {"labels": 3, "copies": []}, {"labels": {"checked": 0}, "copies": {"groups": 1}}])
def test_a_run_without_them_has_a_page(make_run: Callable[..., Path], card: dict) -> None:
    folder = make_run(10, 0, **card)
    run = read_run(folder)
    assert labels(run, None) is None and copies(run, None) is None and sets(run, judge(run)) is None
    page = write_report(folder).read_text()
    assert 'id="labels"' not in page and 'id="copies"' not in page and "--coverage" not in page
