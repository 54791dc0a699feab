"""The list of pictures to leave out survives any name, any spreadsheet and any editor."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitreous.data.quarantine import check_folder, read_quarantine, write_quarantine
from vitreous.errors import BadData

AWKWARD = [
    "=cmd|' /C calc'!A0", "+1", "-x.jpg", "@a", "'=a", "''-b", "'plain", "a,b", 'say "hi"', "two\nlines", "cr\rhere",
    "\ttab", "caf\u00e9", "cafe\u0301", "\udcff\udcfe.jpg", "\u202etxt.exe", "\U0001f431.png", "%s", " space ", ";",
    "<script>", "\n=1", "path",
]  # fmt: skip

NAMES = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)


def test_awkward_names_come_back(tmp_path):
    reasons = {name: f"{name} is bad" for name in AWKWARD}
    write_quarantine(tmp_path / "q.csv", reasons)
    assert read_quarantine(tmp_path / "q.csv") == reasons


@settings(deadline=None)  # a busy machine is no fault
@given(st.dictionaries(NAMES, st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))))
def test_any_names_come_back(tmp_path_factory, reasons):
    path = tmp_path_factory.mktemp("list") / "q.csv"
    write_quarantine(path, reasons)
    assert read_quarantine(path) == reasons


def test_no_cell_is_a_formula(tmp_path):
    write_quarantine(tmp_path / "q.csv", {name: name for name in AWKWARD})
    text = (tmp_path / "q.csv").read_text(encoding="utf-8", errors="surrogateescape")
    cells = [cell for row in csv.reader(text.splitlines(keepends=True)) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


@pytest.mark.parametrize(
    "text",
    ["path,reason\na.jpg,blurred\n", "\ufeffpath;reason\r\na.jpg;blurred\r\n", "reason,path\n\nblurred,a.jpg\n,\n"],
    ids=["plain", "spreadsheet", "reordered"],
)
def test_edited_by_hand(tmp_path, text):
    (tmp_path / "q.csv").write_bytes(text.encode())
    assert read_quarantine(tmp_path / "q.csv") == {"a.jpg": "blurred"}


def test_a_column_of_paths_is_enough(tmp_path):
    (tmp_path / "q.csv").write_text("path\na.jpg\nb.jpg\n")
    assert read_quarantine(tmp_path / "q.csv") == {"a.jpg": "", "b.jpg": ""}


@pytest.mark.parametrize("text", ["file,reason\na.jpg,x\n", 'path,reason\n"a.jpg,x\n'])
def test_what_is_no_list_is_refused(tmp_path, text):
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(BadData, match=r"q\.csv"):
        read_quarantine(tmp_path / "q.csv")


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(BadData, match=r"absent\.csv"):
        read_quarantine(tmp_path / "absent.csv")


def test_the_place_is_beside_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_folder("pets") == check_folder("pets/") == check_folder(tmp_path / "pets") == tmp_path / "pets.check"
    assert check_folder(".") == tmp_path.with_name(tmp_path.name + ".check")
