"""The pixel cache: what was put comes back, or nothing does."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from vitreous.data import segment as segment_module
from vitreous.data.cache import Cache
from vitreous.data.image import Preprocess
from vitreous.data.segment import Segment
from vitreous.errors import UsageError

RULES = Preprocess(store=32)


def digest(i: int) -> str:
    return hashlib.sha256(str(i).encode()).hexdigest()


def picture(i: int, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(i)
    return torch.randint(0, 256, (3, side, side + i % 5), dtype=torch.uint8, generator=generator)


def fill(folder: Path, numbers: range, rules: Preprocess = RULES, limit: int = 1 << 30) -> None:
    with Cache.open(folder, rules, limit) as cache:
        for i in numbers:
            cache.put(digest(i), picture(i))


def served(cache: Cache, numbers: range) -> int:
    """How many pictures are served; each of them is checked."""
    count = 0
    for i in numbers:
        got = cache.get(digest(i))
        if got is not None:
            assert torch.equal(got, picture(i))
            count += 1
    return count


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_what_was_put_comes_back_now_and_in_later_runs(tmp_path):
    fill(tmp_path / "a" / "b", range(600))
    with Cache.open(tmp_path / "a" / "b", RULES, 1 << 30) as cache:
        assert len(cache) == 600 and digest(3) in cache and digest(700) not in cache
        assert served(cache, range(700)) == 600
        assert cache.put(digest(700), picture(700)) and served(cache, range(701)) == 601
    with Cache.open(tmp_path / "a" / "b", RULES, 1 << 30) as cache:
        assert served(cache, range(701)) == 601 and cache.notices == ()


def test_other_settings_of_step_one_are_other_pixels(tmp_path):
    fill(tmp_path, range(3))
    for other in (Preprocess(store=33), Preprocess(store=32, background=(0, 0, 0))):
        with Cache.open(tmp_path, other, 1 << 30) as cache:
            assert cache.get(digest(0)) is None
    with Cache.open(tmp_path, Preprocess(store=32, size=96, policy="letterbox"), 1 << 30) as cache:
        assert served(cache, range(3)) == 3  # step 2 is none of the cache's business


@pytest.mark.parametrize("folder", [True, False])
def test_answers_own_their_memory(folder, tmp_path):
    with Cache.open(tmp_path if folder else None, RULES, 1 << 30) as cache:
        given = picture(0)
        cache.put(digest(0), given)
        given.zero_()
        cache.get(digest(0)).zero_()
        assert served(cache, range(1)) == 1


def test_wrong_pixels_are_refused(tmp_path):
    with Cache.open(tmp_path, RULES) as cache:
        for bad in (picture(0).float(), picture(0)[:1], picture(0)[None]):
            with pytest.raises(UsageError):
                cache.put(digest(0), bad)


def test_any_layout_of_memory_is_kept_right(tmp_path):
    with Cache.open(tmp_path, RULES) as cache:
        turned = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8).permute(2, 0, 1)
        cache.put(digest(0), turned)
        assert torch.equal(cache.get(digest(0)), turned)


# ---------------------------------------------------------------- damage


def test_damaged_pixels_are_never_served(tmp_path):
    fill(tmp_path, range(40))
    pixels = next(tmp_path.glob("*.pixels"))
    content = bytearray(pixels.read_bytes())
    for position in range(50, len(content), len(content) // 10):
        content[position] ^= 1
    pixels.write_bytes(content)
    with Cache.open(tmp_path, RULES) as cache:
        count = served(cache, range(40))
        assert 25 <= count < 40
        for i in range(40):
            cache.put(digest(i), picture(i))
        assert served(cache, range(40)) == 40  # what was damaged has been kept anew
    with Cache.open(tmp_path, RULES) as cache:
        assert served(cache, range(40)) == 40


def test_pixels_cut_short_are_never_served(tmp_path):
    fill(tmp_path, range(40))
    pixels = next(tmp_path.glob("*.pixels"))
    with Cache.open(tmp_path, RULES) as cache:
        os.truncate(pixels, pixels.stat().st_size // 2)
        assert 15 <= served(cache, range(40)) < 25
    pixels.unlink()
    with Cache.open(tmp_path, RULES) as cache:
        assert served(cache, range(40)) == 0


def test_a_damaged_index_means_an_empty_cache(tmp_path):
    fill(tmp_path, range(5))
    index = next(tmp_path.glob("*.index"))
    sound = index.read_bytes()
    for position in range(0, len(sound), 7):
        index.write_bytes(sound[:position] + bytes([sound[position] ^ 4]) + sound[position + 1 :])
        assert Segment.open(index.with_suffix("")) is None
        index.write_bytes(sound[:position])
        assert Segment.open(index.with_suffix("")) is None
    with Cache.open(tmp_path, RULES) as cache:
        assert served(cache, range(5)) == 0
    assert not list(tmp_path.iterdir())


FILLER = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from test_cache import RULES, digest, picture
from vitreous.data import cache as module
module._COMMIT = 50_000
cache = module.Cache.open(sys.argv[1], RULES, 1 << 30)
for i in range(10**6):
    cache.put(digest(i), picture(i))
    if i == 40:
        print("ready", flush=True)
"""


def test_a_killed_process_leaves_only_whole_pictures(tmp_path):
    place = str(Path(__file__).parent)
    for attempt in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", FILLER, str(tmp_path), place], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.05 * attempt)
            process.send_signal(signal.SIGKILL)
            process.wait()
        with Cache.open(tmp_path, RULES) as cache:
            assert served(cache, range(len(cache) + 50)) == len(cache) > 0


def test_litter_of_killed_processes_is_removed_and_that_of_living_ones_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(segment_module, "_ORPHAN", 0.0)
    living = Segment.create(tmp_path, "key")
    (tmp_path / "dead.pixels").write_bytes(b"x" * 1000)
    (tmp_path / "lost.index").write_bytes(b"x")
    (tmp_path / ".tmp-1").write_bytes(b"x")
    time.sleep(0.01)
    with Cache.open(tmp_path, RULES):
        assert [file.name for file in tmp_path.iterdir()] == [f"{living.stem.name}.pixels"]
    living.close()


# ---------------------------------------------------------------- bounds


def test_the_bound_holds_and_is_told(tmp_path):
    limit = 20 * 3 * 32 * 36
    with Cache.open(tmp_path, RULES, limit) as cache:
        kept = sum(cache.put(digest(i), picture(i)) for i in range(40))
        assert 19 <= kept < 25
        assert len(cache.notices) == 1 and "full" in cache.notices[0]
        assert served(cache, range(40)) == kept
    assert on_disk(tmp_path) < limit * 1.1


def test_files_least_recently_used_give_way(tmp_path):
    sets = [Preprocess(store=32 + i) for i in range(3)]
    for rules in sets:
        fill(tmp_path, range(20), rules)
        time.sleep(0.02)
    with Cache.open(tmp_path, sets[0]) as cache:
        assert served(cache, range(20)) == 20  # used again: now the second is the oldest
    fill(tmp_path, range(20), Preprocess(store=64), limit=on_disk(tmp_path) + 1000)
    left = []
    for rules in (*sets, Preprocess(store=64)):
        with Cache.open(tmp_path, rules) as cache:
            left.append(served(cache, range(20)))
    assert left == [20, 0, 20, 20]


def test_files_in_use_never_give_way(tmp_path):
    fill(tmp_path, range(20))
    with Cache.open(tmp_path, RULES) as used:
        assert served(used, range(1)) == 1
        with Cache.open(tmp_path, Preprocess(store=99), limit_bytes=1000) as other:
            assert not other.put(digest(0), picture(0))
        assert served(used, range(20)) == 20
    with Cache.open(tmp_path, Preprocess(store=99), limit_bytes=1000):
        assert on_disk(tmp_path) == 0


def test_a_folder_that_cannot_be_written_means_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file" / "cache", Path("/proc/no-such-place")):
        with Cache.open(folder, RULES, 30 * 3 * 32 * 36) as cache:
            assert "memory is used" in cache.notices[0]
            kept = sum(cache.put(digest(i), picture(i)) for i in range(60))
            assert 29 <= kept < 36 and served(cache, range(60)) == kept
            assert "full" in cache.notices[1]


def test_a_full_disk_means_memory_and_keeps_what_is_there(tmp_path, monkeypatch):
    with Cache.open(tmp_path, RULES) as cache:
        for i in range(10):
            cache.put(digest(i), picture(i))
        written = os.pwrite

        def half(descriptor: int, content: memoryview, start: int) -> int:
            if len(content) < 1000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return written(descriptor, content[: len(content) // 2], start)

        monkeypatch.setattr(os, "pwrite", half)
        for i in range(10, 20):
            assert cache.put(digest(i), picture(i))
        assert served(cache, range(20)) == 20
        assert len(cache.notices) == 1 and "No space" in cache.notices[0]
    monkeypatch.undo()
    with Cache.open(tmp_path, RULES) as cache:
        assert served(cache, range(20)) == 10


# ---------------------------------------------------------------- company


def test_many_threads(tmp_path):
    with Cache.open(tmp_path, RULES) as cache:
        faults: list[BaseException] = []

        def work(offset: int) -> None:
            try:
                for i in range(200):
                    number = (i * 7 + offset * 31) % 200
                    if cache.get(digest(number)) is None:
                        cache.put(digest(number), picture(number))
                    if i % 50 == 0:
                        cache.commit()
                    assert torch.equal(cache.get(digest(number)), picture(number))
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults and len(cache) == 200


def test_two_processes_on_one_folder(tmp_path):
    """As two processes: two caches open at once, each with its own files and locks."""
    with Cache.open(tmp_path, RULES) as one, Cache.open(tmp_path, RULES) as two:
        for i in range(30):
            one.put(digest(i), picture(i))
            two.put(digest(i + 20), picture(i + 20))
        one.commit()
        with Cache.open(tmp_path, RULES) as third:
            assert served(third, range(60)) == 30
    with Cache.open(tmp_path, RULES) as cache:
        assert served(cache, range(60)) == 50


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_memory_does_not_grow_with_the_epochs(tmp_path):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with Cache.open(tmp_path, RULES) as cache:
        for i in range(40):
            cache.put(digest(i), picture(i, 800))  # 77 MB in all
    with Cache.open(tmp_path, RULES) as cache:
        for i in range(40):
            cache.get(digest(i))
        before = resident()
        for _ in range(3):
            for i in range(40):
                cache.get(digest(i))
        assert resident() - before < 15_000_000


def test_forgotten_caches_give_their_files_back(tmp_path):
    fill(tmp_path, range(3))
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for _ in range(5):
        cache = Cache.open(tmp_path, RULES)
        cache.get(digest(0))
        cache.put(digest(9), picture(9))
        del cache
    assert sys.platform != "linux" or len(os.listdir("/proc/self/fd")) <= before
