"""One look at every file: complete, the same for any number of threads, and never twice at the same pixels."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from vitreous.data import survey as survey_module
from vitreous.data.cache import Cache
from vitreous.data.dataset import open_source
from vitreous.data.image import Preprocess, decode
from vitreous.data.memory import Memory
from vitreous.data.survey import survey

RULES = Preprocess(size=16, store=16)


@pytest.fixture
def mixed(album):
    """Forty scenes and four files that are none."""
    files = {f"{'ab'[i % 2]}/{i}.png": i for i in range(40)}
    html = b"<!DOCTYPE html><html>not found</html>"
    return album({**files, "a/empty.jpg": b"", "a/page.jpg": html, "b/page.png": html, "b/zeros.png": bytes(99)})


@pytest.fixture
def decoded(monkeypatch):
    """A list that grows with every picture decoded by the survey."""
    calls: list[int] = []

    def counted(data, preprocess):
        calls.append(len(data))
        return decode(data, preprocess)

    monkeypatch.setattr(survey_module, "decode", counted)
    return calls


def test_everything_is_known_of_every_file(mixed):
    source = open_source(mixed)
    seen = survey(source, RULES)
    assert len(seen) == 44 == len(source)
    for i in range(44):
        data = source.read(i)
        assert seen.digests[i] == hashlib.sha256(data).hexdigest()
        assert seen.sizes[i] == len(data)
    bad = [source.name(i) for i in seen.errors]
    assert bad == ["a/empty.jpg", "a/page.jpg", "b/page.png", "b/zeros.png"]
    assert seen.errors[len(seen) // 2 - 1] == "an HTML page saved as a picture"
    assert seen.usable.sum() == 40
    assert {(f.width, f.height) for f in seen.facts if f} == {(64, 48)}
    assert len(set(seen.hashes[seen.usable].tolist())) == 40
    assert not seen.thumbnails[~seen.usable].any()


def test_the_same_for_any_number_of_threads(mixed):
    source = open_source(mixed)
    one, many = (survey(source, RULES, workers=n) for n in (1, 7))
    assert one.digests == many.digests
    assert one.facts == many.facts
    assert list(one.errors.items()) == list(many.errors.items())
    assert (one.thumbnails == many.thumbnails).all()


def test_the_pixels_are_in_the_cache_and_are_those_of_step_one(mixed, tmp_path):
    source = open_source(mixed)
    with Cache.open(tmp_path / "cache", RULES) as cache:
        seen = survey(source, RULES, cache)
        for i in np.flatnonzero(seen.usable):
            assert (cache.get(seen.digests[i]) == decode(source.read(int(i)), RULES).pixels).all()


def test_nothing_is_decoded_twice(mixed, tmp_path, decoded):
    source = open_source(mixed)
    for run in range(3):
        with Cache.open(tmp_path / "cache", RULES) as cache:
            seen = survey(source, RULES, cache, memory=Memory(tmp_path / "cache", RULES))
        assert len(decoded) == 44 + 4 * run  # failures are looked at again
        assert seen.usable.sum() == 40


def test_what_is_remembered_is_what_was_seen(mixed, tmp_path):
    source = open_source(mixed)
    first, second = (survey(source, RULES, memory=Memory(tmp_path, RULES)) for _ in range(2))
    assert first.facts == second.facts
    assert (first.thumbnails == second.thumbnails).all()


def test_a_full_cache_does_not_make_every_survey_decode(mixed, tmp_path, decoded):
    source = open_source(mixed)
    for _ in range(2):
        with Cache.open(None, RULES, limit_bytes=2000) as cache:
            survey(source, RULES, cache, memory=Memory(tmp_path, RULES), workers=1)
    assert len(decoded) < 60


@pytest.mark.parametrize("damage", ["truncate", "flip", "garbage"])
def test_a_damaged_memory_costs_time_and_nothing_else(mixed, tmp_path, damage):
    source = open_source(mixed)
    first = survey(source, RULES, memory=Memory(tmp_path, RULES))
    (path,) = tmp_path.glob("facts-*.jsonl")
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[::50] = bytes(b ^ 1 for b in data[::50])
    else:
        data[:] = os.urandom(5000)
    path.write_bytes(data)
    second = survey(source, RULES, memory=Memory(tmp_path, RULES))
    assert first.facts == second.facts
    assert (first.thumbnails == second.thumbnails).all()


def test_other_rules_are_another_memory(mixed, tmp_path, decoded):
    source = open_source(mixed)
    survey(source, RULES, memory=Memory(tmp_path, RULES))
    survey(source, Preprocess(size=16, store=20), memory=Memory(tmp_path, Preprocess(size=16, store=20)))
    assert len(decoded) == 88


def test_pictures_in_quarantine_are_not_even_read(mixed):
    source = open_source(mixed)
    read = []
    source.read = lambda i, read_it=source.read: read.append(i) or read_it(i)
    seen = survey(source, RULES, quarantine={"a/page.jpg": "page", "b/1.png": "blurred", "gone.jpg": ""})
    assert {source.name(i): r for i, r in seen.quarantined.items()} == {"a/page.jpg": "page", "b/1.png": "blurred"}
    assert not set(read) & set(seen.quarantined)
    assert not seen.usable[list(seen.quarantined)].any()
    assert len(seen.errors) == 3


def test_a_file_that_vanishes_is_one_error(mixed):
    source = open_source(mixed)
    (mixed / "a" / "0.png").unlink()
    seen = survey(source, RULES)
    assert seen.errors[0] == "no such file"
    assert seen.digests[0] == ""


def test_progress_reaches_the_end_and_never_goes_back(mixed):
    told = []
    survey(open_source(mixed), RULES, quarantine={"a/0.png": ""}, workers=3, progress=lambda *x: told.append(x))
    assert told == sorted(told)
    assert told[-1] == (44, 44)


def test_an_interrupt_ends_the_survey(mixed):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        survey(open_source(mixed), RULES, progress=stop)
