"""A run folder: whole or not at all, and every bit of it accounted for."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitreous.errors import DamagedFile, NoSpace, RunBusy, UsageError, VitreousError
from vitreous.store.checkpoint import RunFolder
from vitreous.store.sealed import read_sealed, seal
from vitreous.store.tensors import load_into, read_tensors, write_tensors


def tensors(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {"a.weight": torch.randn(20, 30, generator=generator), "a.count": torch.tensor(step)}


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A sealed run with all that a run holds."""
    run = RunFolder.create(tmp_path / "run")
    for step in (0, 10, 20, 30):
        run.save(step, tensors(step), {"note": "é", "rate": 0.1}, score=-step if step else None, milestone=True)
    run.write("metrics.jsonl", b'{"step":1,"loss":0.5}\n' * 40)
    (run.path / "events").mkdir()
    (run.path / "events" / "log").write_bytes(bytes(range(256)))
    (run.path / "empty").touch()
    run.publish({"weight": torch.randn(4, 4)}, {"classes": ["cat", "dog"]}, {"outputs.json": b'{"val": []}'})
    run.seal()
    run.verify()
    return run


def files(run: RunFolder) -> list[Path]:
    return sorted(p for p in run.path.rglob("*") if p.is_file())


# ------------------------------------------------------------ damage


def test_every_flipped_bit_is_found(finished):
    """500 single bits anywhere in the folder, in proportion to the sizes of its files, and each file at least once."""
    rng = random.Random(0)
    places = files(finished)
    places = [p for p in places if p.stat().st_size]
    sizes = [p.stat().st_size for p in places]
    for path in places + rng.choices(places, sizes, k=500 - len(places)):
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match=path.name):
            finished.verify()
        path.write_bytes(sound)
    finished.verify()


def test_every_flipped_bit_of_a_seal_is_found(tmp_path):
    """All bits of a sealed file, without any manifest: spaces, the case of escapes, the seal itself."""
    path = tmp_path / "card.json"
    sound = seal({"a": [1.0e-7, None, True], "é\n": {"ß": -1}})
    path.write_bytes(sound)
    assert read_sealed(path) == {"a": [1.0e-7, None, True], "é\n": {"ß": -1}}
    for place in range(len(sound) * 8):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile):
            read_sealed(path)


def test_every_cut_is_found(finished):
    """Each file of the folder cut at every 1/64 of its length, and made longer, and removed."""
    for path in files(finished):
        sound = path.read_bytes()
        for part in range(64 if sound else 0):
            path.write_bytes(sound[: len(sound) * part // 64])
            with pytest.raises(DamagedFile, match=path.name):
                finished.verify()
        path.write_bytes(sound + b"\n")
        with pytest.raises(DamagedFile, match=path.name):
            finished.verify()
        path.unlink()
        expected = UsageError if path.name == "manifest.json" else DamagedFile
        with pytest.raises(expected, match=path.name):
            finished.verify()
        path.write_bytes(sound)
    finished.verify()


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_damaged_checkpoint_is_never_loaded(finished, name):
    """First 64 bytes, last 64, and every 1/64: without the manifest, as a run that was cut off."""
    finished.write("run.json", b"{}")  # a file changed on purpose takes the manifest away
    assert not finished.is_sealed()
    path = finished.path / "checkpoints" / "step-00000030" / name
    sound = path.read_bytes()
    lengths = {*range(64), *range(len(sound) - 64, len(sound)), *(len(sound) * i // 64 for i in range(64))}
    for length in sorted(lengths):
        path.write_bytes(sound[:length])
        with pytest.raises(DamagedFile, match=rf"{name}.*step 20 is sound.*--previous"):
            finished.latest()
        assert finished.latest(fallback=True).step == 20
    path.unlink()
    assert finished.latest(fallback=True).step == 20


def test_when_all_checkpoints_are_damaged_it_says_so(finished):
    for path in finished.path.rglob("state.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(DamagedFile, match="no earlier sound checkpoint"):
        finished.latest()
    with pytest.raises(DamagedFile, match="Every checkpoint"):
        finished.latest(fallback=True)


def test_weights_and_card_vouch_for_each_other(finished):
    (finished.path / "manifest.json").unlink()
    write_tensors(finished.path / "weights.safetensors", {"weight": torch.zeros(4, 4)})  # sound, but not these
    with pytest.raises(DamagedFile, match=r"weights\.safetensors"):
        finished.load_weights()
    card = finished.path / "card.json"
    card.write_bytes(card.read_bytes().replace(b"dog", b"dig"))
    with pytest.raises(DamagedFile, match=r"card\.json"):
        finished.load_card()


# ------------------------------------------------------------ tensors


def test_tensors_go_through_a_file_exactly(tmp_path):
    shared = torch.arange(6.0)
    kinds = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]
    written = {str(kind): torch.tensor([[0, 1], [1, 0]]).to(kind) for kind in kinds}
    written |= {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 3), "nan": torch.tensor([float("nan")])}
    written |= {"turned": torch.randn(3, 4).T, "part": shared[2:4], "whole": shared, "again": shared}
    digest = write_tensors(tmp_path / "t.safetensors", written)
    read = read_tensors(tmp_path / "t.safetensors", str(digest["sha256"]))
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor) or name == "nan"
    assert write_tensors(tmp_path / "u.safetensors", dict(reversed(written.items()))) == digest


HEADERS = {
    "huge": struct.pack("<Q", 99_000_000) + b"{" + b" " * 1000,
    "beyond": struct.pack("<Q", 2**63) + b"{}",
    "not json": struct.pack("<Q", 4) + b"nope",
    "a list": struct.pack("<Q", 2) + b"[]",
    "overlapping": json.dumps(
        {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}, separators=(",", ":")
    ).encode(),
    "overflow": json.dumps({"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 8]}}).encode(),
    "unknown type": json.dumps({"a": {"dtype": "Q7", "shape": [2], "data_offsets": [0, 8]}}).encode(),
    "negative": json.dumps({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}).encode(),
    "deep": b"[" * 20000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_odd_headers_are_damage(tmp_path, name):
    path = tmp_path / "odd.safetensors"
    header = HEADERS[name]
    raw = header if name in ("huge", "beyond", "not json", "a list") else struct.pack("<Q", len(header)) + header
    path.write_bytes(raw + bytes(8))
    begin = time.monotonic()
    with pytest.raises(DamagedFile, match=r"odd\.safetensors"):
        read_tensors(path)
    assert time.monotonic() - begin < 2


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_files_are_loaded_or_refused_and_nothing_else(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    raw = bytearray(safetensors.torch.save({"a": torch.ones(3), "b": torch.zeros(2, 2, dtype=torch.int64)}))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with contextlib.suppress(DamagedFile):
        read_tensors(path)


def test_weights_that_do_not_fit_are_named():
    layer = nn.Linear(2, 3)
    with pytest.raises(
        UsageError, match=r"bias is missing; extra is not known; weight is \(3, 3\) and should be \(3, 2\)"
    ):
        load_into(layer, {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}, "the file")
    with pytest.raises(DamagedFile, match="NaN or infinity in bias"):
        load_into(layer, {"weight": torch.zeros(3, 2), "bias": torch.tensor([1, torch.nan, 2])}, "the file")
    load_into(layer, {"weight": torch.zeros(3, 2), "bias": torch.ones(3)}, "the file")
    assert layer.bias.tolist() == [1, 1, 1]


def test_nan_is_never_published(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    with pytest.raises(DamagedFile, match="NaN"):
        run.publish({"weight": torch.tensor([float("inf")])}, {})
    assert not (run.path / "weights.safetensors").exists()


# ------------------------------------------------------------ which checkpoints are kept


def test_checkpoints_come_back_exactly(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    assert run.latest() is None and run.best() is None
    run.save(7, tensors(7), {"rate": 0.1 + 0.2, "nothing": None, "nan": float("nan")}, score=0.25)
    last = run.latest()
    assert last is not None and (last.step, last.score) == (7, 0.25)
    assert last.facts == {"rate": 0.1 + 0.2, "nothing": None, "nan": None}
    assert all(torch.equal(last.tensors[n], t) for n, t in tensors(7).items())


def test_the_last_two_are_kept_and_what_they_go_back_to(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    kept = []
    for step, score, milestone in [
        (0, None, True),
        (5, None, False),
        (10, 0.9, True),
        (15, None, False),
        (20, 0.1, True),
        (25, None, False),
        (30, None, False),
        (40, 0.95, True),
        (45, None, False),
        (50, None, False),
    ]:
        run.save(step, tensors(step), {}, score=score, milestone=milestone)
        kept.append(run.steps())
    assert kept[2] == [0, 5, 10]  # the milestone of step 5 is step 0
    assert kept[6] == [10, 20, 25, 30]
    assert kept[7] == [10, 20, 30, 40]  # should 40 be damaged, 30 still has its best and its milestone
    assert kept[-1] == [40, 45, 50]
    assert run.best().step == 40


def test_of_equal_scores_the_earliest_is_best(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    for step in (10, 20, 30):
        run.save(step, tensors(step), {}, score=0.5)
    assert run.best().step == 10


def test_a_course_that_was_given_up_is_removed(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    for step in (10, 20, 30):
        run.save(step, tensors(step), {}, milestone=True)
    run.save(20, tensors(99), {"second": True})
    assert run.steps() == [20]
    assert run.load(20).facts == {"second": True}


@pytest.mark.parametrize("step", [30, 40])
def test_a_checkpoint_gets_its_name_in_one_step(finished, monkeypatch, step):
    """Whatever happens before the rename, nothing half-written is visible and what was there is still there."""
    before = {step: finished.load(step).facts for step in finished.steps()}

    def torn(source, target):
        assert sorted(p.name for p in Path(source).iterdir()) == ["state.json", "state.safetensors"]
        raise OSError(errno.EIO, "torn")

    monkeypatch.setattr(os, "rename", torn)
    with pytest.raises(OSError, match="torn"):
        finished.save(step, tensors(99), {"new": True})
    monkeypatch.undo()
    assert {step: finished.load(step).facts for step in finished.steps()} == before
    assert not list(finished.path.rglob(".tmp-*"))


def test_anything_written_later_takes_the_manifest_away(finished):
    finished.save(40, tensors(40), {})
    with pytest.raises(UsageError, match="has not finished"):
        finished.verify()
    finished.seal()
    finished.verify()


# ------------------------------------------------------------ creating, locking, room


def test_a_run_begins_where_nothing_is(tmp_path, finished):
    with pytest.raises(UsageError, match="--overwrite"):
        finished.require_free()
    other = RunFolder.create(tmp_path / "photos")
    other.require_free()
    (other.path / "cat.jpg").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="holds no run"):
            other.require_free(overwrite=overwrite)
    with pytest.raises(UsageError, match="is a file"):
        RunFolder.create(other.path / "cat.jpg")
    with pytest.raises(UsageError, match="not a run folder"):
        RunFolder.open(other.path)
    RunFolder.create(tmp_path / "a" / "b" / "c").require_free()


def test_overwriting_removes_a_run_and_nothing_but_a_run(finished):
    (finished.path / "empty").unlink()
    finished.require_free(overwrite=True)
    for name in ("thesis.tex", ".git/HEAD", "photos/cat.jpg", "checkpoints.bak/x"):
        strange = finished.path / name
        strange.parent.mkdir(exist_ok=True)
        strange.write_text("years of work")
        with pytest.raises(UsageError, match="holds more than a run"):
            finished.require_free(overwrite=True)
    finished.clear()  # even if somebody forgot to ask
    left = {p.relative_to(finished.path).as_posix() for p in finished.path.rglob("*") if p.is_file()}
    assert left == {"thesis.tex", ".git/HEAD", "photos/cat.jpg", "checkpoints.bak/x"}


def test_a_finished_run_can_do_without_its_checkpoints(finished):
    finished.seal()
    shutil.rmtree(finished.path / "checkpoints")
    finished.verify()
    (finished.path / "checkpoints").mkdir()  # some gone, some not: that is damage
    with pytest.raises(DamagedFile, match="missing"):
        finished.verify()


HOLDER = """
import sys, time
from vitreous.store.checkpoint import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_turned_away_until_the_first_is_gone(finished):
    (finished.path / ".tmp-torn").write_bytes(b"half")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(finished.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        for attempt in (finished.lock().__enter__, RunFolder(finished.path).lock().__enter__):
            with pytest.raises(RunBusy, match=rf"\({holder.pid}\)") as caught:
                attempt()
            assert caught.value.exit_code == 3
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (finished.path / "run.lock").exists()
        with finished.lock():
            assert not (finished.path / ".tmp-torn").exists()
            assert (finished.path / "run.lock").read_text() == str(os.getpid())
        assert not (finished.path / "run.lock").exists()
        finished.verify()
    finally:
        holder.kill()
        holder.communicate()


def test_a_disk_that_is_too_small_is_told_before_training(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    free = shutil.disk_usage(tmp_path).free
    run.require_space(1)
    with pytest.raises(NoSpace, match=rf"{run.path} has .* bytes free, and .* needs {2 * free:,}") as caught:
        run.require_space(free)
    assert caught.value.exit_code == 5


READ_ONLY = """
import os, sys, time
from vitreous.store.checkpoint import RunFolder
from vitreous.errors import UsageError
if os.getuid() == 0:  # the mode bits do not bind root
    os.setuid(65534)
begin = time.monotonic()
for call in (lambda: RunFolder.create(sys.argv[1]).lock().__enter__(),
             lambda: RunFolder(sys.argv[1]).lock().__enter__(),
             lambda: RunFolder.create(sys.argv[1] + "/new")):
    try:
        call()
    except UsageError as error:
        print(error)
print(time.monotonic() - begin < 1)
"""


def test_a_read_only_folder_is_told_at_once():
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        Path(place).chmod(0o555)
        done = subprocess.run([sys.executable, "-c", READ_ONLY, place], capture_output=True, text=True, check=True)
        Path(place).chmod(0o755)
    *told, quick = done.stdout.splitlines()
    assert len(told) == 3 and all("choose another folder" in line for line in told)
    assert quick == "True"


FULL = """
import resource, sys, torch
from vitreous.store.checkpoint import RunFolder
run = RunFolder(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
run.save(40, {"a": torch.zeros(100_000)}, {})
"""


@pytest.mark.parametrize("room", [0, 100, 200_000])
def test_a_full_disk_leaves_the_old_and_no_half(finished, room):
    before = finished.steps()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(finished.path), str(room)], capture_output=True, text=True, check=False
    )
    assert f"NoSpace: No space left in {finished.path / 'checkpoints'} for state.safetensors" in done.stderr
    assert re.search(r"400,\d{3} bytes are needed", done.stderr)
    assert finished.steps() == before and finished.latest().step == 30
    assert not list(finished.path.rglob(".tmp-*"))


def test_every_error_is_one_the_user_can_mend():
    for kind in (UsageError, DamagedFile, NoSpace, RunBusy):
        assert issubclass(kind, VitreousError) and kind.exit_code != 1
