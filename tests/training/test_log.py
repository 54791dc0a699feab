"""What a run says, and the files it says it in."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest
from rich.console import Console

from vitreous.errors import DamagedFile, UsageError
from vitreous.training.log import Journal, Log, counting


def test_the_journal_comes_back_to_its_mark(tmp_path):
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path)
    journal.write({"step": 1, "loss": 0.1})
    mark = journal.mark()
    journal.write({"step": 2, "loss": math.nan, "val": {"accuracy": math.inf, "name": "é"}})
    journal.close()
    assert path.read_text().splitlines()[1] == '{"step":2,"loss":null,"val":{"accuracy":null,"name":"é"}}'

    again = Journal(path)
    again.rewind(mark)
    again.write({"step": 2, "loss": 0.5})
    end = again.mark()
    again.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [0.1, 0.5]
    assert end["bytes"] == path.stat().st_size

    last = Journal(path)
    last.rewind(None)
    last.close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("damage", [b"", b'{"step":1,"loss":0.2}\n', b'{"step":1,"loss":0.1'])
def test_a_journal_that_was_changed_is_refused(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path)
    journal.write({"step": 1, "loss": 0.1})
    mark = journal.mark()
    journal.close()
    path.write_bytes(damage)
    again = Journal(path)
    with pytest.raises(DamagedFile, match=r"metrics\.jsonl"):
        again.rewind(mark)
    again.close()


@pytest.fixture
def terminal(monkeypatch):
    """``terminal(is_terminal)`` -> what is written to it from then on."""

    def use(is_terminal: bool) -> io.StringIO:
        text = io.StringIO()
        make = lambda stderr, **options: Console(file=text, force_terminal=is_terminal, width=120, **options)  # noqa: E731
        monkeypatch.setattr("vitreous.training.log.Console", make)
        return text

    return use


def speak(folder, **options):
    log = Log(folder, **options)
    log.open(0, 20)
    log.step({"step": 10, "loss": 0.5}, 64, 0.0)
    log.milestone({"step": 10, "val": {"accuracy": 0.75, "score": 0.7}}, 12.0, 20)
    log.notice("mind the gap")
    log.close()
    return log


def test_one_plain_line_an_evaluation_when_nobody_watches(terminal, tmp_path):
    text = terminal(False)
    log = speak(tmp_path)
    first, second = text.getvalue().splitlines()
    assert first.startswith("step 10/20 · loss 0.5000 · accuracy 0.7500 · ") and first.endswith("12s left")
    assert second == "mind the gap" and log.notices == ["mind the gap"]
    assert json.loads((tmp_path / "timings.jsonl").read_text())["step"] == 10


def test_a_bar_on_a_terminal_and_the_cursor_stays(terminal, tmp_path):
    text = terminal(True)
    speak(tmp_path)
    shown = text.getvalue()
    assert "training" in shown and "10/20" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")


@pytest.mark.parametrize(("folder", "quiet"), [(True, True), (False, False)])
def test_quiet_runs_and_other_processes_say_nothing(terminal, tmp_path, folder, quiet):
    text = terminal(False)
    speak(tmp_path if folder else None, quiet=quiet)
    assert text.getvalue() == ""
    assert (tmp_path / "timings.jsonl").exists() == folder


def test_tensorboard_events_are_purged_from_the_step_on(tmp_path):
    pytest.importorskip("tensorboard")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboard's own
        speak(tmp_path, quiet=True, tensorboard=True)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert {"train/loss", "val/accuracy"} <= set(events.Tags()["scalars"])
    assert [(e.step, e.value) for e in events.Scalars("val/accuracy")] == [(10, 0.75)]


def test_tensorboard_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'vitreous\[tensorboard\]'"):
        Log(tmp_path, tensorboard=True)


def test_counting_shows_only_to_people(terminal):
    for is_terminal in (False, True):
        text = terminal(is_terminal)
        with counting("Looking") as progress:
            progress(1, 2)
        assert bool(text.getvalue()) == is_terminal
