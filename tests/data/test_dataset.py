"""Folders and tables as people really have them; sources and pictures."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vitreous.data.cache import Cache
from vitreous.data.dataset import ArraySource, Pictures, Source, open_source, without_classes
from vitreous.data.image import Preprocess, decode
from vitreous.data.listing import Names, natural, printable
from vitreous.errors import BadData, UnreadableImage, UsageError
from vitreous.types import UNLABELLED


@pytest.fixture(scope="module")
def file(photo, encoded) -> bytes:
    return encoded(photo(24, 16), "PNG")


@pytest.fixture
def plant(tmp_path, file) -> Callable[..., Path]:
    """``plant("a/1.jpg", ...)``: files of that name below a fresh folder."""

    def make(*names: str, content: bytes = file) -> Path:
        for name in names:
            place = tmp_path / "data" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return tmp_path / "data"

    return make


def items(source: Source) -> dict[str, str | None]:
    label = {i: name for i, name in enumerate(source.classes)} | {UNLABELLED: None}
    return {source.name(i): label[int(source.labels[i])] for i in range(len(source))}


# ---------------------------------------------------------------- folders


def test_class_folders(plant, file):
    source = open_source(plant("10/b.JPG", "2/a.jpeg", "2/deep/er/c.png", "1/x.webp"))
    assert source.classes == ("1", "2", "10")
    assert items(source) == {"10/b.JPG": "10", "2/a.jpeg": "2", "2/deep/er/c.png": "2", "1/x.webp": "1"}
    assert source.split is None and source.notices == () and source.strays == ()
    assert all(source.read(i) == file for i in range(len(source)))
    assert json.loads(json.dumps(source.describe()))["pictures"] == 4
    assert [source.name(i) for i in range(4)] == [open_source(source.root).name(i) for i in range(4)]


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "valid", "TEST"), ("train", "validation", "testing")]
)
def test_folders_with_a_split_of_their_own(names, plant):
    source = open_source(plant(*(f"{side}/{c}/{i}.png" for side in names for c in "ab" for i in range(2))))
    assert source.classes == ("a", "b")
    assert list(dict.fromkeys(source.name(i).split("/")[0] for i in range(12))) == list(names)
    assert source.split.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and source.split.dtype == np.int8
    assert source.describe()["split"] == {"train": 4, "val": 4, "test": 4}


def test_classes_are_united_over_the_split(plant):
    source = open_source(
        plant("train/b/1.png", "train/a/1.png", "val/b/1.png", "val/c/1.png", "extra/z/1.png", "t.png")
    )
    assert source.classes == ("a", "b", "c")
    text = " ".join(source.notices)
    assert "class a has no pictures in val" in text and "class c has no pictures in train" in text
    assert "extra" in text and {"extra", "t.png"} <= set(source.strays)


def test_a_lonely_train_folder_is_no_split_and_train_may_be_a_class(plant):
    assert open_source(plant("train/a/1.png", "train/b/1.png")).split is None
    assert open_source(plant("train/a/1.png")).classes == ("a", "b")
    assert open_source(plant("bus/1.png")).classes == ("bus", "train")


def test_a_flat_folder_is_unlabelled(plant):
    source = open_source(plant("b.png", "a.png", "notes.txt"))
    assert items(source) == {"a.png": None, "b.png": None}
    assert source.classes == () and source.strays == ("notes.txt",)


def test_an_empty_folder_is_no_class(plant):
    root = plant("a/1.png", "c/1.png", "notes/read.txt")
    (root / "b" / "deep").mkdir(parents=True)
    source = open_source(root)
    assert source.classes == ("a", "c") and source.labels.tolist() == [0, 1]
    assert source.notices == ("2 class folders have no pictures and are left out of the classes: b, notes.",)


def test_a_class_that_one_side_lacks_stays_a_class(plant):
    root = plant("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png", "test/c/1.png")
    (root / "train" / "c").mkdir()
    (root / "train" / "d").mkdir()
    source = open_source(root)
    assert source.classes == ("a", "b", "c")
    assert source.notices == (
        "A class folder has no pictures and is left out of the classes: d.",
        "The class c has no pictures in train.",
    )


def test_a_class_can_be_taken_away():
    source = ArraySource(np.zeros((4, 2, 2), np.uint8), [2, 0, 1, UNLABELLED], ["a", "b", "c"])
    other = without_classes(source, np.array([False, True, False]))
    assert (other.classes, other.labels.tolist()) == (("a", "c"), [1, 0, UNLABELLED, UNLABELLED])
    assert source.labels.tolist() == [2, 0, 1, UNLABELLED] and other.read(0) == source.read(0)


def test_litter_is_passed_over_and_strays_are_listed(plant):
    litter = ["a/.DS_Store", "a/._1.png", "a/Thumbs.db", "a/desktop.ini", "__MACOSX/a/1.png", ".git/x.png"]
    root = plant("a/1.png", "b/2.tiff", "a/phone.HEIC", "a/labels.txt", "a/movie.mp4", *litter)
    source = open_source(root)
    assert list(items(source)) == ["a/1.png", "a/phone.HEIC", "b/2.tiff"]
    assert source.strays == ("a/labels.txt", "a/movie.mp4")


def test_loose_pictures_beside_classes_are_left_out_with_a_notice(plant):
    source = open_source(plant("a/1.png", "b/1.png", "loose.png"))
    assert len(source) == 2 and source.strays == ("loose.png",) and "loose.png" in source.notices[0]


def test_a_wrapped_data_set_and_classes_that_differ_in_case_are_remarked(plant):
    assert "did you mean" in open_source(plant("set/a/1.png", "set/b/1.png")).notices[0]
    assert "differ only in case" in open_source(plant("Cat/1.png", "cat/1.png")).notices[-1]


def test_a_thousand_classes_in_natural_order(plant):
    source = open_source(plant(*(f"class {i}/x.png" for i in range(1000))))
    assert source.classes == tuple(f"class {i}" for i in range(1000))
    assert source.labels.tolist() == list(range(1000))


STRANGE = [
    *("é.png", unicodedata.normalize("NFD", "ü.png"), "😀 🇩🇪.png", "line\nbreak.png", "-rf.png", " spaces .png"),
    *(
        "%s%n.png",
        "=cmd|'!A1.png",
        "<script>alert(1)<.png",
        "\u202egnp.abc.png",
        "b" * 251 + ".png",
        "quote\"'`$(x).png",
    ),
]


def test_strange_names_are_read_and_keep_their_bytes(plant, file):
    root = plant(*(f"class <b>/{name}" for name in STRANGE))
    raw = os.fsencode(root) + b"/class <b>/\xff\xfe.png"
    Path(os.fsdecode(raw)).write_bytes(file)
    source = open_source(root)
    assert sorted(items(source)) == sorted(f"class <b>/{n}" for n in [*STRANGE, os.fsdecode(b"\xff\xfe.png")])
    assert all(source.read(i) == file for i in range(len(source)))
    for i in range(len(source)):
        shown = printable(source.name(i))
        assert shown.isprintable() and shown.encode()


def test_composed_and_decomposed_class_names_are_one_class(plant):
    two = [unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD")]
    source = open_source(plant(*(f"{side}/{name}/1.png" for side, name in zip(("train", "val"), two, strict=True))))
    assert source.classes == (two[0],) and source.labels.tolist() == [0, 0]


# ---------------------------------------------------------------- things that are no files


def test_only_regular_files_are_opened(plant):
    root = plant("a/1.png", "b/1.png")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "folder.jpg").mkdir()
    (root / "a" / "null.png").symlink_to("/dev/null")
    (root / "a" / "gone.png").symlink_to("nowhere.png")
    (root / "a" / "self.png").symlink_to("self.png")
    source = open_source(root)
    assert list(items(source)) == ["a/1.png", "b/1.png"]
    assert {"a/pipe.png", "a/null.png", "a/gone.png", "a/self.png"} <= set(source.strays)


def test_links_end_do_not_repeat_and_do_not_leave_the_root(plant, tmp_path, file):
    root = plant("a/1.png", "b/2.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "3.png").write_bytes(file)
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "up").symlink_to("..")
    (root / "b" / "again").symlink_to(root / "a")
    (root / "b" / "twice.png").symlink_to("2.png")
    (root / "a" / "out.png").symlink_to(tmp_path / "elsewhere" / "3.png")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    source = open_source(root)
    assert list(items(source)) == ["a/1.png", "b/2.png"]
    assert "2 links lead out" in source.notices[0] and {"c", "a/out.png"} <= set(source.strays)
    followed = open_source(root, follow_links=True)
    assert items(followed) == {"a/1.png": "a", "a/out.png": "a", "b/2.png": "b", "c/3.png": "c"}
    assert followed.read(3) == file


def test_a_link_to_a_pool_inside_the_root_is_taken(plant):
    root = plant("pool/1.png")
    for side in ("train", "val"):
        (root / side / "a").mkdir(parents=True)
        (root / side / "a" / f"{side}.png").symlink_to(root / "pool" / "1.png")
    assert list(items(open_source(root))) == ["train/a/train.png", "val/a/val.png"]


def test_a_file_that_changes_its_kind_is_refused_without_waiting(plant):
    root = plant("a/1.png", "a/2.png", "a/3.png")
    source = open_source(root)
    (root / "a" / "1.png").unlink()
    os.mkfifo(root / "a" / "1.png")
    (root / "a" / "2.png").unlink()
    os.truncate(root / "a" / "3.png", 4 << 30)  # sparse
    with pytest.raises(UnreadableImage, match="not a regular file"):
        source.read(0)
    with pytest.raises(UnreadableImage, match="no such file"):
        source.read(1)
    with pytest.raises(UnreadableImage, match="too large"):
        source.read(2)


# ---------------------------------------------------------------- errors with remedies


def test_errors_say_what_to_do(plant, tmp_path, file):
    (tmp_path / "empty").mkdir()
    (tmp_path / "set.zip").write_bytes(b"PK")
    (tmp_path / "one.jpg").write_bytes(file)
    for spec, kind, words in [
        ("digit", UsageError, "did you mean the built-in set digits"),
        (tmp_path / "nowhere", UsageError, "built-in sets are digits"),
        ("", UsageError, "built-in sets are"),
        ("a\0b", UsageError, "built-in sets are"),
        (tmp_path / "empty", BadData, "one folder of pictures for each class"),
        (tmp_path / "set.zip", BadData, "unpack it first"),
        (tmp_path / "one.jpg", BadData, "give the folder"),
        (plant("a/notes.txt"), BadData, "1 other files"),
    ]:
        with pytest.raises(kind, match=words) as caught:
            open_source(spec)
        assert str(caught.value).endswith((".", "?")) and "\n" not in str(caught.value)


def test_only_links_that_lead_out_are_explained(tmp_path, plant):
    root = plant("x/1.png")
    (tmp_path / "links" / "a").mkdir(parents=True)
    (tmp_path / "links" / "a" / "1.png").symlink_to(root / "x" / "1.png")
    with pytest.raises(BadData, match="1 of them links that lead out"):
        open_source(tmp_path / "links")


# ---------------------------------------------------------------- tables


@pytest.fixture
def table(plant) -> Callable[..., Path]:
    def make(text: str, *names: str, encoding: str = "utf-8") -> Path:
        path = plant(*(names or ("p/1.png", "p/2.png", "p/10.png"))) / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return make


def test_a_table_with_split(table, file):
    source = open_source(table("path,label,split\np/1.png,cat,train\np/2.png,10,val\n./p/10.png,2,TEST\n"))
    assert source.classes == ("2", "10", "cat")
    assert items(source) == {"p/1.png": "cat", "p/2.png": "10", "p/10.png": "2"}
    assert source.split.tolist() == [0, 1, 2] and source.read(2) == file


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path,label\r\np/1.png,a\r\n\r\np/2.png,\r\n", "utf-8-sig"),
        ("Path;Label\np/1.png;a\np/2.png;\n", "utf-8"),
        ("label\tpath\na\tp/1.png\n\tp/2.png", "utf-8"),
        ('path,label\n"p/1.png","a"\np/2.png, \np/1.png,a\n', "utf-8"),
    ],
)
def test_tables_as_spreadsheets_write_them(text, encoding, table):
    assert items(open_source(table(text, encoding=encoding))) == {"p/1.png": "a", "p/2.png": None}


def test_a_table_finds_names_in_the_other_unicode_form(table):
    decomposed = unicodedata.normalize("NFD", "Ärger.png")
    assert list(items(open_source(table("path,label\nÄrger.png,a\n", decomposed)))) == [decomposed]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p/1.png,a\n", r"columns path,label or path,label,split; its first line has p/1\.png, a\."),
        ("File Name;Species\np/1.png;a\n", "its first line has file name, species"),
        ("", "columns path,label or path,label,split; its first line is empty"),
        ("path,label\n", "lists no pictures"),
        ("path,label\np/1.png,a\np/1.png,b\n", "lines 2 and 3 disagree"),
        ("path,label\np/1.png,a\n../data/p/1.png,b\n", "lines 2 and 3 disagree"),
        ("path,label\np/1.png\n", "line 2 has 1 columns"),
        ("path,label,split\np/1.png,a,holdout\n", "line 2: split is 'holdout'"),
        ("path,label,split\np/1.png,a,test\np/2.png,a,\np/10.png,a, \n", r"line 3: split is empty there \(2 of 3"),
        ("path,label\n ,a\n", "line 2 names no file"),
        ("path,label\np/7.png,a\np,b\n", r"2 of the 2 files .* \(line 2: p/7.png; line 3: p\); .* folder, /.*/data\."),
        ('path,label\n"p/1.png,a\n', "not a well-formed CSV"),
    ],
)
def test_tables_with_faults_name_the_line(text, words, table):
    with pytest.raises(BadData, match=words):
        open_source(table(text))


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("latin-1", "line 3 is not UTF-8: save it as CSV UTF-8"),
        ("utf-16", "is in UTF-16, Excel's “Unicode text”: save it as CSV UTF-8"),
        ("utf-16-le", "not a text file: save it as CSV UTF-8"),
    ],
)
@pytest.mark.parametrize("text", ["path,label\np/1.png,a\np/2.png,Bengál\n", "path,label\np/1.png,a\ná/2.png,b\n"])
def test_a_table_in_another_encoding_is_refused_for_that(table, text, encoding, words):
    with pytest.raises(BadData, match=words):
        open_source(table(text, encoding=encoding))


def test_a_name_of_any_bytes_may_stand_in_a_table(plant, file):
    root = plant("a.png")
    raw = os.fsencode(root) + b"/\xff.png"
    Path(os.fsdecode(raw)).write_bytes(file)
    (root / "table.csv").write_bytes(b"path,label\n\xff.png,a\n")
    assert open_source(root / "table.csv").read(0) == file


def test_a_table_may_name_files_anywhere(plant, tmp_path, file):
    """Absolute paths are what most programs write; a file inside the folder has one name however it is reached."""
    root = plant("p/1.png", "p/2.png", "p/3.png")
    away = tmp_path / "away.png"
    away.write_bytes(file)
    (root / "link.png").symlink_to(away)
    (tmp_path / "also").symlink_to(root)
    rows = [root / "p/1.png", "p/../p/2.png", tmp_path / "also/p/3.png", "../away.png", root / "link.png", "p/1.png"]
    (root / "table.csv").write_text("path,label\n" + "".join(f"{row},a\n" for row in rows))
    source = open_source(tmp_path / "also" / "table.csv")
    assert list(items(source)) == ["p/1.png", "p/2.png", "p/3.png", "../away.png", "link.png"]
    assert all(source.read(i) == file for i in range(5))
    assert "1 rows of table.csv repeat" in source.notices[0]
    (root / "table.csv").write_text(f"path,label\n{away},a\n")
    assert open_source(root / "table.csv").name(0) == str(away)


def test_a_split_column_that_is_empty_throughout_gives_no_split(table):
    assert open_source(table("path,label,split\np/1.png,a,\np/2.png,b, \n")).split is None


def test_files_that_are_missing_are_listed_to_be_counted_as_unreadable(table):
    source = open_source(table("path,label\np/1.png,a\nq/1.png,a\nq/2.png,b\nq/3.png,b\nq/4.png,b\n"))
    assert len(source) == 5
    assert source.notices[0].startswith("4 of the 5 files that table.csv names do not exist (line 3: q/1.png; line 4: ")
    assert "line 6" not in source.notices[0] and f"the table's folder, {source.root}." in source.notices[0]
    with pytest.raises(UnreadableImage, match="no such file"):
        source.read(1)


# ---------------------------------------------------------------- arrays, names, pictures


def test_arrays_come_back_as_lossless_files():
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), np.uint8)
    images.flags.writeable = False
    source = ArraySource(images, [0, 1, 0, UNLABELLED], ["a", "b"], split=[0, 0, 1, 2])
    for i in range(4):
        assert torch.equal(decode(source.read(i)).pixels, torch.from_numpy(images[i].copy()).permute(2, 0, 1))
    grey = ArraySource(images[..., 0], [0] * 4, ["a"], names=list("wxyz"), masks=images[..., 1])
    assert decode(grey.read(1)).pixels[2].equal(torch.from_numpy(images[1, :, :, 0].copy()))
    assert grey.name(1) == "x" and grey.mask(2).shape == (9, 7) and source.mask(0) is None
    assert source.describe() == {
        "root": "memory", "pictures": 4, "classes": 2, "labelled": 3, "split": {"train": 2, "val": 1, "test": 1}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 4, 4)), [0, 0]),
        (np.zeros((2, 4), np.uint8), [0, 0]),
        (np.zeros((2, 4, 4, 4), np.uint8), [0, 0]),
        (np.zeros((2, 4, 4), np.uint8), [0]),
        (np.zeros((2, 4, 4), np.uint8), [0, 1]),
        (np.zeros((2, 4, 4), np.uint8), [0, -2]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, labels):
    with pytest.raises(UsageError):
        ArraySource(images, labels, ["only"])


def test_names_behave_as_a_list_in_one_buffer():
    texts = ["a", "", "é", os.fsdecode(b"\xff"), "b\nc"]
    names = Names(texts)
    assert list(names) == texts and names[-1] == "b\nc" and names[1:3] == texts[1:3] and len(names) == 5
    with pytest.raises(IndexError):
        names[5]
    assert sorted(["x10", "x2", "X1", "x"], key=natural) == ["x", "X1", "x2", "x10"]


def test_pictures_are_the_same_with_and_without_a_cache(plant, tmp_path, photo, encoded):
    root = plant()
    for i in range(6):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (root / "ab"[i % 2] / f"{i}.jpg").write_bytes(encoded(photo(300 + i, 200), "JPEG"))
    source, rules = open_source(root), Preprocess(store=64, size=48)
    digests = [hashlib.sha256(source.read(i)).hexdigest() for i in range(6)]
    bare = Pictures(source, [4, 0, 5], rules)
    assert len(bare) == 3 and bare.labels.tolist() == [1, 0, 1] and bare.classes == ("a", "b")
    assert [bare[i].index for i in range(3)] == [4, 0, 5]
    with Cache.open(tmp_path / "cache", rules) as cache:
        kept = Pictures(source, [4, 0, 5], rules, cache=cache, digests=digests)
        for _ in range(2):
            for a, b in zip((bare[i] for i in range(3)), (kept[i] for i in range(3)), strict=True):
                assert torch.equal(a.image, b.image) and a[1:] == b[1:]
                assert a.image.shape[0] == 3 and min(a.image.shape[1:]) == 64 and a.image.is_contiguous()
        assert len(cache) == 3
        (root / source.name(4)).unlink()
        assert kept[0].index == 4  # what is kept needs no file any more
        (root / source.name(1)).write_bytes(b"other")
        with pytest.raises(BadData, match=r"a/2\.jpg has changed"):
            Pictures(source, [1], rules, cache=cache, digests=digests)[0]
    with pytest.raises(BadData, match=r"a/2\.jpg cannot be used: not a picture"):
        Pictures(source, [1], rules)[0]
    with pytest.raises(UsageError):
        Pictures(source, [1], rules, digests=digests)


@pytest.mark.shared
def test_the_shared_badimages_folder_lists_its_pictures(shared):
    source = open_source(shared / "badimages")
    assert len(source) > 150 and "libjpeg-turbo/LICENSE.txt" in source.strays


def test_what_the_doctor_wrote_is_no_class(tmp_path: Path) -> None:
    for name in ("cat", "dog", "cat.check"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    (tmp_path / "cat.check" / "check.json").write_text("{}")
    assert open_source(tmp_path).classes == ("cat", "dog")
