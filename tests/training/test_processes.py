"""Training as a process of its own: killed, stopped, out of disk, or one of several."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from vitreous.store.checkpoint import RunFolder

WISHES = {"steps": 60, "evaluate_every": 20, "save": {"seconds": 60.0, "steps": 7}}


def files(place: Path) -> dict[str, bytes]:
    """What a finished run consists of, clocks apart."""
    return {
        **{name: (place / name).read_bytes() for name in ("weights.safetensors", "card.json", "metrics.jsonl")},
        "state": (place / "checkpoints" / "step-00000060" / "state.safetensors").read_bytes(),
    }


def rows(place: Path) -> list[dict]:
    return [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]


def test_killed_twenty_times_and_resumed_it_is_the_same_run(start, tmp_path):
    """``kill -9`` at random moments of a run that saves at every step: weights, average, optimiser, rows."""
    wishes = {**WISHES, "save": {"seconds": 0.0}}
    assert start(tmp_path / "first", **wishes).code == 0
    begin = time.monotonic()
    assert start(tmp_path / "whole", **wishes).code == 0
    length = time.monotonic() - begin
    whole = files(tmp_path / "whole")
    rng, kills, runs = random.Random(0), 0, 0
    while kills < 20:
        place = tmp_path / f"run-{runs}"
        code = -9
        while code == -9:
            ended = start(place, **wishes, kill_after=rng.uniform(length / 8, 0.7 * length) if kills < 20 else None)
            code = ended.code
            kills += code == -9
        assert code == 0, ended.errors
        runs += 1
        assert files(place) == whole
        assert not list(place.rglob(".tmp-*"))
        RunFolder(place).verify()


def test_killed_at_every_point_of_its_end_it_is_the_same_run(start, tmp_path):
    """Where chance need not hit: before each flush and rename of last checkpoint, weights, card and manifest."""
    whole, stopped, place = tmp_path / "whole", tmp_path / "stopped", tmp_path / "run"
    assert start(whole, **WISHES).code == 0
    assert start(stopped, **WISHES, signal_at=57).code == 143
    for call in itertools.count(1):
        shutil.copytree(stopped, place)
        code = start(place, **WISHES, kill_at_call=call).code
        if code == 0:  # it has no more such calls
            break
        assert code == -9
        assert RunFolder(place).latest().step in (58, 60)  # raises if a save can be seen before it is whole
        assert start(place, **WISHES).code == 0
        assert files(place) == files(whole)
        RunFolder(place).verify()
        assert not list(place.rglob(".tmp-*"))
        shutil.rmtree(place)
    assert call > 15


def test_killed_at_every_point_of_its_beginning_it_can_still_be_resumed(start, tmp_path):
    whole = tmp_path / "whole"
    assert start(whole, **WISHES).code == 0
    for call in range(1, 11):
        place = tmp_path / f"run-{call}"
        assert start(place, **WISHES, kill_at_call=call).code == -9
        assert start(place, **WISHES).code == 0
        assert files(place) == files(whole)


def test_a_terminated_program_says_how_to_go_on(start, tmp_path):
    place, whole = tmp_path / "run", tmp_path / "whole"
    assert start(whole, **WISHES).code == 0
    stopped = start(place, **WISHES, signal_at=20)
    assert stopped.code == 143
    assert stopped.errors == f"Stopped at step 21 of 60; everything is saved: go on with vitreous resume {place}.\n"
    assert start(place, **WISHES).code == 0
    assert files(place) == files(whole)


def test_a_second_interrupt_stops_at_once(program, tmp_path):
    place = tmp_path / "run"
    command = [sys.executable, program.__file__, str(place), json.dumps({**WISHES, "pause": 2.0})]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (place / "checkpoints" / "step-00000000").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert child.wait(5) == -signal.SIGINT  # what a shell shows as 130
        assert time.monotonic() - begin < 1.5
    finally:
        child.kill()
        child.wait()
    assert RunFolder(place).latest() is not None


def test_out_of_disk_the_run_waits_at_its_last_checkpoint(start, tmp_path):
    whole, place = tmp_path / "whole", tmp_path / "run"
    assert start(whole, **WISHES).code == 0
    size = (whole / "checkpoints" / "step-00000060" / "state.safetensors").stat().st_size
    # room for the weights and their average, as at step 0, and not for what the optimiser remembers besides
    full = start(place, **WISHES, file_limit=size * 2 // 3)
    assert full.code == 5
    assert f"No space left in {place / 'checkpoints'} for state.safetensors" in full.errors
    assert "bytes are needed" in full.errors
    assert RunFolder(place).steps() == [0] and not list(place.rglob(".tmp-*"))
    assert start(place, **WISHES).code == 0
    assert files(place) == files(whole)


def test_out_of_disk_in_the_rows(start, tmp_path):
    """The log of steps finds the disk full: its file has outgrown the limit already."""
    whole, place = tmp_path / "whole", tmp_path / "run"
    assert start(whole, **WISHES).code == 0
    assert start(place, **WISHES, signal_at=30).code == 143
    full = start(place, **WISHES, file_limit=(place / "metrics.jsonl").stat().st_size)
    assert full.code == 5 and f"No space left in {place}" in full.errors
    assert start(place, **WISHES).code == 0
    assert files(place) == files(whole)


def test_torchrun_trains_one_model_and_measures_it_as_one_process_would(program, tmp_path):
    """101 pictures: the second process has one less to evaluate, and nobody waits for anybody for ever."""
    place = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [program.__file__, str(place), json.dumps(WISHES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    network = program.Network().eval()
    RunFolder(place).load_weights(network)
    with torch.no_grad():
        alone = program.Sorting(network).evaluate(program.Blobs().evaluate(), lambda tensor: tensor)
    best = max((row["val"] for row in rows(place) if "val" in row), key=lambda val: val["score"])
    assert best["n"] == 101
    assert best == alone


def test_several_processes_stop_and_resume_together(start, tmp_path):
    """Each is signalled at its own moment; unless they agreed on the step, one would wait for the other for ever."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    wishes = {**WISHES, "accumulate": 2}
    assert start(whole, world=3, **wishes).code == 0
    stopped = start(parts, world=3, **wishes, signal_at=17)
    assert stopped.code == 143 and stopped.errors.count("Stopped at step 18 of 60") == 3
    ended = start(parts, world=3, **wishes)
    assert ended.code == 0, ended.errors
    assert files(parts) == files(whole)


def test_several_processes_leave_a_bad_batch_out_together(start, tmp_path):
    """Only one of them sees it."""
    place = tmp_path / "run"
    ended = start(place, world=2, **WISHES, spoil_at=20)
    assert ended.code == 0, ended.errors
    assert [row["step"] for row in rows(place) if row.get("skipped")] == [21]
