"""Processes that end, fail, are killed, or are stopped: nothing that was done is lost, and every end has its reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from vitreous.comparison import work as room
from vitreous.comparison.work import Job, work
from vitreous.config import to_dict
from vitreous.data.prepare import DataConfig
from vitreous.data.preprocess import Preprocess
from vitreous.errors import DamagedFile, UsageError
from vitreous.network import NetworkConfig
from vitreous.run.plan import Run, TuneConfig, to_json
from vitreous.training.config import TrainConfig
from vitreous.training.interrupt import Interrupted
from vitreous.training.optim import OptimConfig
from vitreous.training.schedule import Plan

SEAL = "mkdir -p {place} && touch {place}/manifest.json"


@pytest.fixture
def run():
    return Run(
        data=DataConfig(source="digits", preprocess=Preprocess(size=32, store=32)),
        network=NetworkConfig(model="resnet20_cifar", classes=10, size=32),
        train=TrainConfig(steps=1),
    )


@pytest.fixture
def shells(monkeypatch, tmp_path, run):
    """``shells(a="exit 3", ...)``: jobs that are shell scripts; ``{place}`` in them is the job's run folder."""

    def make(**scripts):
        def command(job):
            return ["/bin/sh", "-c", scripts[job.label].format(place=job.place)]

        monkeypatch.setattr(room, "command", command)
        return [Job(label=name, run=run, place=tmp_path / name) for name in scripts]

    return make


def silent(active, ended):
    pass


def test_a_failed_or_killed_process_is_a_reason_and_the_others_go_on(shells):
    jobs = shells(
        killed="kill -9 $$",
        said="echo first >&2; echo 'There is no room.' >&2; exit 5",
        mute="exit 4",
        empty="exit 0",
        good=SEAL,
    )
    seen = []
    work(jobs, at_once=2, tell=lambda active, ended: seen.append((len(active), len(ended))))
    killed, said, mute, empty, good = jobs
    assert "killed (SIGKILL), perhaps for want of memory" in killed.reason
    assert said.reason == "There is no room."
    assert "exit code 4" in mute.reason and "no whole run folder" in empty.reason
    assert good.reason == "" and good.is_finished
    assert max(active for active, _ in seen) <= 2 and seen[-1] == (0, 5)


def test_what_is_finished_is_left_alone_and_what_failed_is_tried_again(shells, tmp_path):
    work(shells(a=SEAL, b="exit 1"), at_once=1, tell=silent)
    jobs = shells(a="touch {place}/again", b=SEAL)
    work(jobs, at_once=1, tell=silent)
    assert all(job.is_finished and not job.reason for job in jobs)
    assert not (tmp_path / "a" / "again").exists()


def test_a_stopped_comparison_stops_its_processes_and_says_how_to_go_on(shells, tmp_path):
    saves = (
        "mkdir -p {place}; trap 'touch {place}/saved; exit 143' TERM; touch {place}/up; while :; do sleep 0.05; done"
    )
    jobs = shells(a=saves, b=SEAL)

    def stop():
        while not (tmp_path / "a" / "up").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted, match="the same command goes on from here") as error:
        work(jobs, at_once=1, tell=silent)
    assert error.value.exit_code == 130
    assert (tmp_path / "a" / "saved").exists(), "the process was asked to save itself, and waited for"
    assert not jobs[1].is_finished, "nothing further was begun"


def test_another_run_in_the_folder_is_refused_before_anything_begins(run, shells, tmp_path):
    (job,) = shells(a="touch {place}/again")
    job.place.mkdir()
    (job.place / "run.json").write_bytes(to_json(to_dict(run)))
    with pytest.raises(DamagedFile, match=r"a\.json is missing"):
        work([job], at_once=1, tell=silent)
    (tmp_path / "a.json").write_bytes(to_json(to_dict(replace(run, train=TrainConfig(steps=7)))))
    with pytest.raises(UsageError, match=r"train.steps was 7, is 1"):
        work([job], at_once=1, tell=silent)
    assert not (job.place / "again").exists()


def test_settings_that_a_run_has_settled_itself_do_not_make_it_another(run, shells, tmp_path):
    begun = replace(run, weights="elsewhere", tune=TuneConfig(probe=True, guard="lower"))
    settled = replace(
        begun,
        network=replace(run.network, classes=9),
        tune=replace(begun.tune, guard="refuse", pictures=210),
        train=replace(run.train, optim=OptimConfig(lr=1e-5), plan=Plan(steps=1, evaluate_every=1)),
    )
    (job,) = shells(a=SEAL)
    job.run = begun
    job.place.mkdir()
    (job.place / "run.json").write_bytes(to_json(to_dict(settled)))
    (tmp_path / "a.json").write_bytes(to_json(to_dict(begun)))
    work([job], at_once=1, tell=silent)
    assert job.is_finished and not job.reason


def test_a_new_run_is_trained_and_a_begun_one_is_resumed(run, tmp_path):
    job = Job(label="a", run=run, place=tmp_path / "runs" / "a")
    assert room.command(job)[:4] == [sys.executable, "-m", "vitreous", "train"]
    assert (tmp_path / "runs" / "a.json").exists()
    (job.place / "checkpoints" / "step-00000001").mkdir(parents=True)
    (job.place / "run.json").write_bytes(to_json(to_dict(run)))
    assert room.command(job)[3:] == ["resume", str(job.place), "--quiet"]


def test_runs_share_the_cores_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(room, "usable_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [room.threads(n) for n in (1, 2, 9)] == [7, 3, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert room.threads(1) == 2, "what was asked for"


def test_no_process_outlives_the_call(shells):
    jobs = shells(a="sleep 30")

    def fail(active, ended):
        raise RuntimeError("our mistake")

    with pytest.raises(RuntimeError):
        work(jobs, at_once=1, tell=fail)
    assert isinstance(jobs[0].process, subprocess.Popen) and jobs[0].process.poll() is not None
