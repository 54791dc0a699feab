"""Order and randomness as pure functions, the same batches from any number of threads and ranks, no zombies."""

from __future__ import annotations

import gc
import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from vitreous.data.loader import Loader, _stream
from vitreous.data.mix import MixConfig, Mixer
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Augment, AugmentConfig
from vitreous.errors import BadData, UsageError
from vitreous.types import UNLABELLED, Batch, Sample


class Memory:
    """Pictures in memory, in the way of ``Pictures``; number ``broken`` cannot be read."""

    def __init__(self, n: int, classes: int = 3, broken: int | None = None, slow: float = 0.0) -> None:
        g = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (n, 3, 24, 31), dtype=torch.uint8, generator=g)
        self.labels = np.arange(n) % classes
        self.broken, self.slow = broken, slow

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Sample:
        time.sleep(self.slow)
        if i == self.broken:
            raise BadData(f"picture {i} is gone.")
        return Sample(self.images[i], int(self.labels[i]), 1000 + i)


def draws(samples: Sequence[Sample], rng: Sequence[np.random.Generator]) -> Batch:
    """A transform whose picture is the first number that each sample's generator draws."""
    image = torch.tensor([r.random() for r in rng], dtype=torch.float64).view(-1, 1, 1, 1)
    label = torch.tensor([s.label for s in samples])
    return Batch(image, label, torch.tensor([s.index for s in samples]))


AUGMENT = Augment(AugmentConfig(policy="randaugment", erase=0.3), Preprocess(size=16))


def loader(n: int = 40, batch: int = 8, **options) -> Loader:
    options = {"train": True, "transform": draws, "pictures": Memory(n)} | options
    return Loader(options.pop("pictures"), options.pop("transform"), batch=batch, **options)


def indices(batches: Iterator[Batch]) -> list[int]:
    return [i - 1000 for batch in batches for i in batch.index.tolist()]


def same(a: Batch, b: Batch) -> bool:
    return all((x is None and y is None) or torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture(autouse=True)
def no_thread_survives() -> Iterator[None]:
    before, default = threading.active_count(), torch.get_num_threads()
    yield
    gc.collect()
    assert threading.active_count() == before
    assert torch.get_num_threads() == default


# ---------------------------------------------------------------- order


def test_an_epoch_is_a_permutation_and_the_next_is_another() -> None:
    data = loader(40, 8)
    assert data.steps_per_epoch == 5
    first, second = indices(data.train(0, 5)), indices(data.train(5, 10))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second and first != list(range(40))
    assert first != indices(loader(40, 8, seed=1).train(0, 5))


def test_the_last_part_of_an_epoch_is_left_out_another_each_time() -> None:
    data = loader(43, 8)
    assert data.steps_per_epoch == 5
    left_out = [set(range(43)) - set(indices(data.train(5 * e, 5 * e + 5))) for e in range(4)]
    assert all(len(part) == 3 for part in left_out)
    assert len(set(map(frozenset, left_out))) > 1


def test_a_small_data_set_fills_its_batches_with_more_permutations() -> None:
    data = loader(5, 12)
    assert data.steps_per_epoch == 1
    batch = data.at(3)
    counts = Counter(batch.index.tolist())
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]
    assert len(batch.image.unique()) == 12, "a sample that returns within an epoch is another random view"


def test_without_shuffling_the_order_is_that_of_the_data_set() -> None:
    assert indices(loader(20, 8, train=False).train(0, 4)) == [*range(16), *range(16)]


def test_every_batch_is_a_pure_function_of_its_step() -> None:
    data, again = loader(transform=AUGMENT), loader(transform=AUGMENT)
    streamed = list(data.train(0, 12))
    for step in (11, 3, 7, 0):
        assert same(again.at(step), streamed[step])
    assert all(same(a, b) for a, b in zip(again.train(6, 12), streamed[6:], strict=True)), "resume at a step"


def test_a_samples_generator_depends_on_seed_epoch_and_index_alone() -> None:
    def views(**options) -> dict[tuple[int, int], float]:
        data, found = loader(40, **options), {}
        for step in range(2 * data.steps_per_epoch):
            batch = data.at(step)
            for i, x in zip(batch.index.tolist(), batch.image.flatten().tolist(), strict=True):
                found[step // data.steps_per_epoch, i] = x
        return found

    one, other = views(batch=8), views(batch=20)
    assert one == other and len(set(one.values())) == 80
    assert not set(views(batch=8, seed=1).values()) & set(one.values())


def test_the_same_in_another_process() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from vitreous.data.loader import _stream\n"
        "print(hashlib.sha256(_stream(7, 1, 2, 3, 4).random(64).tobytes()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == hashlib.sha256(_stream(7, 1, 2, 3, 4).random(64).tobytes()).hexdigest()


# ---------------------------------------------------------------- balance


def test_balanced_epochs_hold_every_class_equally_often() -> None:
    pictures = Memory(60)
    pictures.labels = np.array([0] * 50 + [1] * 7 + [2] * 2 + [UNLABELLED])
    data = loader(pictures=pictures, batch=20, balanced=True)
    batches = [data.at(step) for step in range(data.steps_per_epoch)]
    labels = torch.cat([b.label for b in batches])
    assert labels.bincount().tolist() == [20, 20, 20]
    counts = Counter(indices(iter(batches)))
    assert 59 not in counts
    assert {counts[i] for i in range(50, 57)} <= {2, 3} and {counts[57], counts[58]} == {10}
    assert max(counts[i] for i in range(50)) == 1
    assert len(torch.cat([b.image for b in batches]).unique()) == 60, "each return is another random view"
    assert same(loader(pictures=pictures, batch=20, balanced=True).at(1), batches[1])


def test_balance_with_more_classes_than_places() -> None:
    data = loader(pictures=Memory(30, classes=30), batch=4, balanced=True)
    assert data.at(0).label.unique().numel() == 4
    few = loader(pictures=Memory(3, classes=3), batch=2, balanced=True)
    assert {tuple(sorted(few.at(s).label.tolist())) for s in range(30)} == {(0, 1), (0, 2), (1, 2)}


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_worker_count_never_changes_a_batch(workers: int) -> None:
    options = {"transform": AUGMENT, "after": Mixer(MixConfig(), 3, lambda step: step / 100)}
    alone = list(loader(workers=0, **options).train(2, 14))
    data = loader(workers=workers, **options)
    assert all(same(a, b) for a, b in zip(alone, data.train(2, 14), strict=True))
    large = [list(loader(n=50, batch=50, workers=w, **options).train(0, 3)) for w in (0, workers)]
    assert all(same(a, b) for a, b in zip(*large, strict=True)), "batches of several pieces"
    evaluated = [list(loader(n=21, workers=w, transform=AUGMENT).evaluate()) for w in (0, workers)]
    assert all(same(a, b) for a, b in zip(*evaluated, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_in_place_of_its_batch(workers: int) -> None:
    data = loader(pictures=Memory(40, broken=29), train=False, workers=workers)
    got = []
    with pytest.raises(BadData, match="picture 29 is gone"):
        for batch in data.train(0, 5):
            got.append(batch)
    assert len(got) == 3
    assert len(list(data.train(0, 3))) == 3, "and the loader still works"


def test_closing_early_ends_the_threads_at_once() -> None:
    data = loader(pictures=Memory(400, slow=0.005), batch=200, workers=2)
    stream = data.train(0, 100)
    next(stream)
    begin = time.perf_counter()
    stream.close()
    assert time.perf_counter() - begin < 0.5, "not after the second that a batch takes"
    for _ in loader(workers=3).train(0, 50):
        break  # an abandoned generator is closed by its collection


def test_look_ahead_is_bounded() -> None:
    read: list[int] = []

    class Counting(Memory):
        def __getitem__(self, i: int) -> Sample:
            read.append(i)
            return super().__getitem__(i)

    stream = loader(pictures=Counting(1000), batch=40, workers=2).train(0, 25)
    next(stream)
    time.sleep(0.2)
    assert len(read) == 40 * (1 + 2)  # the one asked for, and two ahead
    stream.close()


def test_threads_share_a_batch() -> None:
    names: set[str] = set()

    class Watched(Memory):
        def __getitem__(self, i: int) -> Sample:
            names.add(threading.current_thread().name)
            return super().__getitem__(i)

    list(loader(pictures=Watched(64, slow=0.002), batch=64, workers=4).train(0, 1))
    assert len(names) == 4


def test_workers_leave_torch_threads_as_they_were() -> None:
    own, seen = torch.get_num_threads(), []

    def look(samples: Sequence[Sample], rng: Sequence[np.random.Generator]) -> Batch:
        torch.rand(1 << 16).exp()  # the first parallel operation is where a thread would found its team
        seen.append(torch.get_num_threads())
        return draws(samples, rng)

    torch.set_num_threads(2)
    try:
        list(loader(transform=look, workers=3).train(0, 12))
        assert set(seen) == {1}, "alone in a worker"
        assert torch.get_num_threads() == 2
        fresh: list[int] = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [2], "threads of other parts of the program start as before"
    finally:
        torch.set_num_threads(own)


def test_ctrl_c_ends_the_process() -> None:
    code = (
        "import signal, sys, time, numpy as np, torch\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs inherit its absence
        "from vitreous.data.loader import Loader\n"
        "from vitreous.types import Batch, Sample\n"
        "class Slow:\n"
        "    labels = np.zeros(1000, np.int64)\n"
        "    def __len__(self): return 1000\n"
        "    def __getitem__(self, i): print(flush=True); time.sleep(0.02); return Sample(torch.zeros(3, 4, 4), 0, i)\n"
        "stack = lambda samples, rng: Batch(torch.stack([s.image for s in samples]), torch.zeros(8), torch.zeros(8))\n"
        "for b in Loader(Slow(), stack, batch=500, train=True, workers=2).train(0, 100):\n"
        "    pass\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline(), "the workers are at it"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert b"KeyboardInterrupt" in errors


def test_waiting_is_counted() -> None:
    data = loader(pictures=Memory(16, slow=0.01), batch=8, workers=1)
    list(data.train(0, 2))
    assert 0.1 < data.waited < 2
    assert data.reset_waited() > 0.1 and data.waited == 0.0


# ---------------------------------------------------------------- ranks


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_each_batch_of_a_single_process(world: int) -> None:
    whole = loader(43, 8)
    parts = [loader(43, 8, rank=r, world=world) for r in range(world)]
    for step in range(12):
        joined = [part.at(step) for part in parts]
        assert all(len(b.index) == 8 // world for b in joined)
        assert torch.equal(torch.cat([b.index for b in joined]), whole.at(step).index)
        assert torch.equal(torch.cat([b.image for b in joined]), whole.at(step).image)


@pytest.mark.parametrize("n", [0, 1, 7, 101])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_sample_exactly_once(n: int, world: int) -> None:
    options = {"batch": 6, "train": False, "world": world}
    shares = [indices(loader(n, rank=r, **options).evaluate()) for r in range(world)]
    assert sorted(i for share in shares for i in share) == list(range(n))
    assert all(share == sorted(share) for share in shares)
    sizes = [len(b.index) for b in loader(n, rank=0, **options).evaluate()]
    assert all(size == 6 // world for size in sizes[:-1])


def test_after_is_pure_in_seed_step_and_rank() -> None:
    def note(batch: Batch, step: int, rng: np.random.Generator) -> Batch:
        return batch._replace(target=torch.tensor([step, rng.random()], dtype=torch.float64))

    def numbers(**options) -> list[list[float]]:
        return [b.target.tolist() for b in loader(after=note, **options).train(0, 6)]

    assert numbers() == numbers(workers=3)
    assert [step for step, _ in numbers()] == list(range(6))
    values = [x for o in ({}, {"seed": 1}, {"rank": 1, "world": 2}) for _, x in numbers(**o)]
    assert len(set(values)) == 18
    assert all(b.target is None for b in loader(after=note).evaluate()), "training batches only"


def test_a_step_may_have_a_transform_of_its_own_and_evaluation_never_has() -> None:
    early, late = (Augment(AugmentConfig(flip=flip), Preprocess(size=8)) for flip in (0.0, 1.0))
    changing = loader(transform=early, at_step=lambda step: early if step < 3 else late, workers=2)
    for only, steps in ((early, range(3)), (late, range(3, 6))):
        whole = loader(transform=only)
        assert all(torch.equal(changing.at(step).image, whole.at(step).image) for step in steps)
        assert all(torch.equal(b.image, whole.at(s).image) for s, b in enumerate(changing.train(0, 6)) if s in steps)
    for ours, theirs in zip(changing.evaluate(), loader(transform=early).evaluate(), strict=True):
        assert torch.equal(ours.image, theirs.image)


# ---------------------------------------------------------------- mistakes


def test_impossible_settings_are_named() -> None:
    for wrong, word in (
        ({"batch": 9, "world": 2}, "multiple of 2"),
        ({"batch": 0}, "batch of 0"),
        ({"rank": 2, "world": 2}, "Rank 2"),
        ({"workers": -1}, "workers"),
    ):
        with pytest.raises(UsageError, match=word):
            loader(**wrong)
    with pytest.raises(BadData, match="no picture"):
        loader(0)
    unlabelled = Memory(8)
    unlabelled.labels = np.full(8, UNLABELLED)
    with pytest.raises(BadData, match="balanced"):
        loader(pictures=unlabelled, balanced=True)
