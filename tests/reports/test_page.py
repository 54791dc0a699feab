"""The page as a whole: well-formed, self-contained, inert, true, and there for every kind of run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vitreous.analyse.calibration import fit_temperature
from vitreous.analyse.scores import most_confused, score
from vitreous.errors import DamagedFile, UnreadableImage, UsageError
from vitreous.reports import write_report
from vitreous.reports.gallery import on_page
from vitreous.reports.text import interval, percent

VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script>alert(2)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202egpj.exe",
    "nul\x00 bell\x07",
    "😀 שלום café",
    os.fsdecode(b"caf\xe9"),
    "javascript:alert(3)",
    "x" * 255,
]


class Reader(HTMLParser):
    """Collects what the tests ask about and fails on anything left open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "wbr":
            self.words.append("\u2060")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return re.sub(
            r"\s+", " ", " ".join(self.words).replace(" \u2060 ", "").replace("\N{NARROW NO-BREAK SPACE}", "")
        )


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    reader.close()
    assert not reader.open
    return reader


def flat(text: str) -> str:
    return text.replace("\N{NARROW NO-BREAK SPACE}", "")


@pytest.mark.parametrize(
    ("k", "n"), [(1, 30), (2, 120), (10, 298), (37, 740), (100, 5000), (210, 400), (10, 0), (2, 1)]
)
def test_every_size_gives_a_sound_page(make_run: Callable[..., Path], picture: Callable, k: int, n: int) -> None:
    page = read(write_report(make_run(k, n), thumbnail=picture))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    identities = [a["id"] for _, a in page.tags if "id" in a]
    assert len(identities) == len(set(identities))
    assert all(link["href"][1:] in identities for link in page.all("a"))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(drawing.get("aria-label") for drawing in page.all("svg"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(h.get("scope") in ("row", "col") for h in page.all("th"))
    assert not re.search(r"\b(nan|inf|None|NaN)\b", page.text)
    assert not any(value in ("nan", "inf", "None") for _, a in page.tags for value in a.values())


def test_it_loads_nothing(make_run: Callable[..., Path], picture: Callable) -> None:
    path = write_report(make_run(10), thumbnail=picture)
    page, source = read(path), path.read_text("utf-8")
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", source, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"'sha256-{digest}'" in policy and "unsafe" not in policy
    loads = [v for _, a in page.tags for n, v in a.items() if n in ("src", "href", "xlink:href", "srcset", "data")]
    assert loads and all(v.startswith(("data:", "#")) for v in loads)
    assert not re.search(r"https?://|@import|url\(", source)
    assert not page.all("script") and not page.all("iframe") and not page.all("object")
    assert not any(name == "style" or name.startswith("on") for _, a in page.tags for name in a)


def test_hostile_names_are_inert(make_run: Callable[..., Path]) -> None:
    bait = HOSTILE[0]
    folder = make_run(
        10,
        classes=HOSTILE,
        command=f"vitreous train {bait}",
        initialisation=HOSTILE[1],
        notices=[bait],
        versions={bait: HOSTILE[2]},
    )
    path = write_report(folder)
    page, raw = read(path), path.read_bytes()
    assert not page.all("script") and not page.all("img")
    assert b"\x00" not in raw and b"\x07" not in raw and "\u202e".encode() not in raw
    for told in (bait, HOSTILE[2], "😀 שלום café", r"caf\udce9", r"a\u202egpj.exe", r"nul\x00 bell\x07"):
        assert told in page.text
    assert "{{ 7 * 7 }}{% raw %}" in page.text


def test_pictures_are_inside_and_only_pictures(make_run: Callable[..., Path], picture: Callable) -> None:
    folder = make_run(10)

    def some(name: str) -> bytes | None:
        kind = sum(name.encode()) % 4
        if kind == 0:
            raise UnreadableImage("it has moved")
        return [None, None, b"<svg onload=alert(1)>", picture(name)][kind]

    page = read(write_report(folder, thumbnail=some))
    sources = [image["src"] for image in page.all("img")]
    assert sources and all(s.startswith("data:image/png;base64,") for s in sources)
    assert base64.b64decode(sources[0].split(",")[1]).startswith(b"\x89PNG")
    assert "no picture" in page.text
    assert len(sources) + page.text.count("no picture") == 24


@pytest.mark.parametrize("classes", [None, HOSTILE])
def test_pictures_can_be_had_back_from_a_page(
    make_run: Callable[..., Path], picture: Callable, classes: list[str] | None
) -> None:
    folder = make_run(10, classes=classes)
    page = write_report(folder, thumbnail=picture).read_text("utf-8")
    assert page.count("<img ") == 24
    assert write_report(folder, thumbnail=on_page(folder / "report.html")).read_text("utf-8") == page
    assert on_page(folder / "none.html")("x") is None


def test_the_numbers_are_the_scores(make_run: Callable[..., Path]) -> None:
    folder = make_run(10)
    tensors = load_file(folder / "outputs.safetensors")
    classes = json.loads((folder / "card.json").read_text())["data"]["classes"]
    heat = fit_temperature(tensors["val_logits"], tensors["val_labels"])
    found = score(tensors["test_logits"], tensors["test_labels"], classes, heat)
    text = read(write_report(folder)).text
    assert f"On {found.count} pictures it never saw, this model was right {flat(percent(found.accuracy.value))}" in text
    assert flat(interval(found.accuracy.low, found.accuracy.high)) in text
    for value in (found.balanced_accuracy, found.top5.value, found.ece):
        assert flat(percent(value)) in text
    assert f"{found.macro_f1:.3f}" in text and f"{found.log_loss:.3f}" in text and f"({heat:.2f})" in text
    worst = min(found.classes, key=lambda c: c.recall.value)
    assert f"{worst.name} {flat(percent(worst.recall.value, 0))}" in re.sub(
        r" +", " ", text.split("Class by class")[-1]
    )
    pair = most_confused(found.confusion)[0]
    assert f"{classes[pair.true]} {classes[pair.predicted]} {pair.count}" in text
    counts = json.loads((folder / "card.json").read_text())["data"]["counts"]["train"]
    share = found.classes[int(np.argmax(counts))].support / found.count
    assert f"would be right {flat(percent(share))} of the time" in text


def test_the_cards_temperature_is_used(make_run: Callable[..., Path]) -> None:
    assert "temperature (3.33)" in read(write_report(make_run(10, calibration={"temperature": 3.33}))).text


def test_a_temperature_of_one_is_not_praised(make_run: Callable[..., Path]) -> None:
    text = read(write_report(make_run(10, calibration={"temperature": 1.0}))).text
    assert "is left at 1" in text and "corrects for that" not in text


def test_no_better_than_a_guess_is_said(make_run: Callable[..., Path]) -> None:
    assert "not clearly better" in read(write_report(make_run(10, skill=0.0))).text


def test_a_constant_answer_that_is_no_better_than_chance_is_not_held_up(make_run: Callable[..., Path]) -> None:
    folder = make_run(3, 60)
    card = json.loads((folder / "card.json").read_text())
    tensors = load_file(folder / "outputs.safetensors")
    for counts, support, said in (
        ([88, 88, 88], [18, 20, 22], "Guessing blindly would be right 33.3% of the time"),
        ([88, 88, 70], [18, 20, 22], "Guessing blindly would be right 33.3% of the time"),
        ([88, 88, 70], [18, 24, 18], "Always answering “ class B ”, the commonest class, would be right 40.0%"),
        ([90, 80, 70], [20, 20, 20], "Guessing blindly would be right 33.3% of the time"),
    ):
        card["data"].update(classes=["class A", "class B", "class C"])
        card["data"]["counts"]["train"] = counts
        (folder / "card.json").write_text(json.dumps(card))
        tensors["test_labels"] = np.repeat(np.arange(3), support)
        save_file(tensors, folder / "outputs.safetensors")
        text = read(write_report(folder)).text
        assert said in text
        assert ("always the commonest class" in text) == said.startswith("Always")


def test_a_long_name_is_shortened_and_kept_as_a_title(make_run: Callable[..., Path]) -> None:
    long = "".join(f"part{i:02d}-" for i in range(28))
    path = write_report(make_run(2, 120, classes=[long, "short"]))
    visible = re.sub(r"<title>.*?</title>|<[^>]*>", "", path.read_text("utf-8"))
    assert long not in visible and "part00-part01-pa…" in visible
    assert sum(a.get("title") == long for a in read(path).all("bdi")) >= 3


def test_without_a_test_split_it_says_so(make_run: Callable[..., Path]) -> None:
    text = read(write_report(make_run(10, 0))).text
    assert "held out for validation" in text and "There is no test split" in text and "never saw" not in text


def test_where_the_weights_began_is_beside_the_number(make_run: Callable[..., Path]) -> None:
    text = read(write_report(make_run(10, initialisation="vit_tiny.augreg_in21k"))).text
    assert "Started from vit_tiny.augreg_in21k" in text and "may have held some of these" in text


def test_an_unfinished_run_has_a_page(make_run: Callable[..., Path]) -> None:
    folder = make_run(10, status="stopped")
    for name in ("outputs.safetensors", "outputs.json", "card.json"):
        (folder / name).unlink()
    (folder / "run.json").write_text(json.dumps({"train": {"lr": 0.001}, "seed": 3}))
    begun = {"source": "pets", "classes": ["cat", "dog"], "counts": {"train": [7, 3], "val": [2, 1], "test": [0, 0]}}
    (folder / "data.json").write_text(json.dumps(begun))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1201, "loss": NaN, "lr": 1e-3}\n[1]\n{"step": 1202, "lo')
    text = read(write_report(folder)).text
    assert "no score yet" in text and "How it learned" in text and "train.lr" in text
    assert "cat (7)" in text and "2.3 times the pictures of the rarest" in text


def test_a_card_alone_still_has_a_headline(make_run: Callable[..., Path]) -> None:
    card = {"val": {"count": 50, "correct": 30}, "test": {"count": 40, "correct": 20, "accuracy": 0.5, "ece": None}}
    folder = make_run(10, metrics=card)
    (folder / "outputs.safetensors").unlink()
    assert "On 40 pictures it never saw, this model was right 50.0%" in read(write_report(folder)).text


def test_a_card_of_wrong_types_is_left_out(make_run: Callable[..., Path]) -> None:
    wrong = {"data": [], "network": "vit", "train": None, "cost": {"minutes": "long"}, "seed": "x", "selection": 4}
    text = read(write_report(make_run(10, **wrong, notices=None, metrics={"val": 3}))).text
    assert "class 3" in text and "What it costs" not in text


def test_unlabelled_pictures_are_not_counted(make_run: Callable[..., Path]) -> None:
    folder = make_run(10)
    tensors = load_file(folder / "outputs.safetensors")
    tensors["test_labels"][:98] = -1
    save_file(tensors, folder / "outputs.safetensors")
    assert "On 200 pictures" in read(write_report(folder)).text


@pytest.mark.parametrize("name", ["card.json", "outputs.json", "outputs.safetensors"])
def test_a_damaged_file_is_named(make_run: Callable[..., Path], name: str) -> None:
    folder = make_run(10)
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DamagedFile, match=re.escape(name)):
        write_report(folder)


def test_outputs_that_do_not_fit_are_refused(make_run: Callable[..., Path]) -> None:
    folder = make_run(10)
    (folder / "outputs.json").write_text('{"test": ["one"]}')
    with pytest.raises(DamagedFile, match="does not fit"):
        write_report(folder)


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        write_report(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_beside(make_run: Callable[..., Path]) -> None:
    folder = make_run(10)
    before = {p.name for p in folder.iterdir()}
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert {p.name for p in folder.iterdir()} == before | {"report.html"}
    elsewhere = write_report(folder, folder.parent / "new" / "page.html")
    assert elsewhere.read_bytes() == first
    shutil.rmtree(elsewhere.parent)
