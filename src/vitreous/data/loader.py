"""Batches in an order, and with randomness, that are pure functions of (seed, epoch, sample).

Nothing here has a state that a checkpoint would have to carry: ``at(step)`` is the batch of a step, asked at any time,
by any number of worker threads. Threads rather than processes, because pixels come from a memory map and torch
releases the interpreter lock while it works on them: no copies, no pickling, no shared memory to run out of.

Knows nothing of files or models; what a batch looks like is the transform's business.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, Event
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from vitreous.data.transforms import Transform
from vitreous.errors import BadData, UsageError
from vitreous.types import UNLABELLED, Batch, Sample

Order = tuple[np.ndarray, np.ndarray]  # (n,) positions in the data set; (n,) how often each was there before

_ORDER, _SAMPLE, _AFTER = range(3)  # what random numbers are for; each purpose has streams of its own


_PIECE = 16  # samples that go through the transform together; the same for any number of workers


class Samples(Protocol):
    """What the loader asks of a data set; ``Pictures`` is one."""

    labels: np.ndarray  # (n,) int64

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Sample: ...


After = Callable[[Batch, int, np.random.Generator], Batch]
"""Changes a finished training batch in the worker: ``after(batch, step, rng)``, rng pure in (seed, step, rank)."""


class _Draw(NamedTuple):
    """Which samples a batch, or a piece of one, is made of."""

    order: np.ndarray  # (b,) positions in the data set
    turn: np.ndarray  # (b,) how often each was drawn before in this epoch
    epoch: int
    step: int | None = None  # of training; None in evaluation

    def pieces(self) -> list[_Draw]:
        parts = (slice(i, i + _PIECE) for i in range(0, len(self.order), _PIECE))
        return [self._replace(order=self.order[part], turn=self.turn[part]) for part in parts]


class Loader:
    """Samples of a data set, transformed and stacked, for training or for evaluation.

    Training draws from one endless sequence of epochs. An epoch is a permutation of the data set, of which a last
    part too small for a batch is left out: another part each time. A data set smaller than one batch fills it with
    further permutations, so every batch of every rank is full. With ``balanced`` an epoch has as many samples, spread
    evenly over the classes: rare ones return within an epoch, each time as another random view.

    Args:
        pictures: the data set, shared by all worker threads.
        transform: samples and their generators to a batch.
        batch: samples a step over all ranks together.
        train: whether epochs are shuffled; otherwise they keep the order of the data set.
        rank: this process, of ``world``; it gets its slice of each batch.
        workers: threads that prepare batches ahead; 0 prepares them in the consumer. Never changes a batch.
        balanced: draw classes equally often; unlabelled samples are left out.
        after: applied to each training batch.
        at_step: the transform of a training step, in place of ``transform``.

    Attributes:
        steps_per_epoch: training batches an epoch.
        waited: seconds the consumer has waited for batches since ``reset_waited``.

    Raises:
        UsageError: sizes that do not go together.
        BadData: there is nothing to draw from.
    """

    def __init__(
        self,
        pictures: Samples,
        transform: Transform,
        *,
        batch: int,
        seed: int = 0,
        train: bool,
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
        balanced: bool = False,
        after: After | None = None,
        at_step: Callable[[int], Transform] | None = None,
    ) -> None:
        if batch < 1 or batch % world:
            raise UsageError(f"A batch of {batch} cannot be shared by {world} processes; choose a multiple of {world}.")
        if not 0 <= rank < world:
            raise UsageError(f"Rank {rank} does not exist among {world} processes; count from 0.")
        if workers < 0:
            raise UsageError(f"There cannot be {workers} workers; give 0 or more.")
        if train and not len(pictures):
            raise BadData("There is no picture to train on; check the data folder and the split.")
        if balanced and not np.any(pictures.labels != UNLABELLED):
            raise BadData("Balanced sampling needs labels, and no picture has one; switch balanced off.")
        self.pictures = pictures
        self.transform = transform
        self.batch = batch
        self.seed = seed
        self.shuffled = train
        self.rank = rank
        self.world = world
        self.workers = workers
        self.balanced = balanced
        self.after = after
        self.at_step = at_step
        self.steps_per_epoch = max(1, len(pictures) // batch)
        self.waited = 0.0
        self._order = lru_cache(maxsize=2)(self._draw_order)  # two: workers look ahead across the seam

    def at(self, step: int) -> Batch:
        """The training batch of global ``step``, this rank's slice of it: a pure function."""
        return self._make(self._drawn(step))

    def train(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """The batches of steps ``start`` to ``stop - 1``, prepared ahead by the workers.

        An error in a worker is raised here, in place of the batch it concerns. Closing the generator ends the threads.
        """
        return self._ahead(self._drawn(step) for step in range(start, stop))

    def evaluate(self) -> Generator[Batch, None, None]:
        """This rank's share, each sample exactly once over all ranks, in order; the last batch may be short."""
        mine = np.arange(self.rank, len(self.pictures), self.world)
        size = self.batch // self.world
        none = np.zeros_like(mine)
        return self._ahead(_Draw(mine[i : i + size], none[i : i + size], 0) for i in range(0, len(mine), size))

    def reset_waited(self) -> float:
        """Seconds waited since the last call."""
        waited, self.waited = self.waited, 0.0
        return waited

    # ------------------------------------------------------------ what is in a batch

    def _drawn(self, step: int) -> _Draw:
        epoch, place = divmod(step, self.steps_per_epoch)
        order, turn = self._order(epoch)
        size = self.batch // self.world
        start = place * self.batch + self.rank * size
        return _Draw(order[start : start + size], turn[start : start + size], epoch, step)

    def _make(self, draw: _Draw) -> Batch:
        return self._join([self._prepare(piece, Event()) for piece in draw.pieces()], draw.step)

    def _prepare(self, piece: _Draw, stop: Event) -> Batch:
        samples: list[Sample] = []
        places = piece.order.tolist()
        for i in places:
            if stop.is_set():
                raise CancelledError
            samples.append(self.pictures[i])
        # by the place in the data set, as the order is: the number in the source hangs on what else lies there
        rng = [
            _stream(self.seed, _SAMPLE, i, piece.epoch, turn)
            for i, turn in zip(places, piece.turn.tolist(), strict=True)
        ]
        transform = self.transform if self.at_step is None or piece.step is None else self.at_step(piece.step)
        return transform(samples, rng)

    def _join(self, pieces: list[Batch], step: int | None) -> Batch:
        batch = pieces[0] if len(pieces) == 1 else Batch._make(_cat(column) for column in zip(*pieces, strict=True))
        if self.after is not None and step is not None:
            batch = self.after(batch, step, _stream(self.seed, _AFTER, step, self.rank))
        return batch

    def _draw_order(self, epoch: int) -> Order:
        length = self.steps_per_epoch * self.batch
        rng = _stream(self.seed, _ORDER, epoch)
        if self.balanced:
            return _balanced(np.asarray(self.pictures.labels), length, rng)
        return _laps(np.arange(len(self.pictures)), length, rng if self.shuffled else None)

    # ------------------------------------------------------------ preparing ahead

    def _ahead(self, draws: Iterable[_Draw]) -> Generator[Batch, None, None]:
        """The batches of ``draws``, in their order, a bounded number of samples before they are asked for.

        Threads share the pieces of a batch rather than taking a batch each: the first one is there sooner, and memory
        does not grow with the number of threads.
        """
        if self.workers == 0:
            yield from (self._timed(self._make, draw) for draw in draws)
            return
        stop, pool = Event(), _pool(self.workers)
        pending: deque[Future[Batch]] = deque()
        bound = max(2, math.ceil(2 * self.workers * _PIECE * self.world / self.batch))  # two pieces for each thread
        try:
            for draw in draws:
                pieces = [pool.submit(self._prepare, piece, stop) for piece in draw.pieces()]
                # the pool takes work in order: whoever comes to the joining waits for running pieces only
                pending.append(
                    pool.submit(lambda p, step: self._join([f.result() for f in p], step), pieces, draw.step)
                )
                if len(pending) > bound:
                    yield self._timed(pending.popleft().result)
            while pending:
                yield self._timed(pending.popleft().result)
        finally:
            stop.set()  # pieces in the making end at their next sample
            pool.shutdown(wait=True, cancel_futures=True)

    def _timed(self, get: Callable[..., Batch], *arguments: Any) -> Batch:
        begin = time.perf_counter()
        try:
            return get(*arguments)
        finally:
            self.waited += time.perf_counter() - begin


def _stream(seed: int, purpose: int, *place: int) -> np.random.Generator:
    """The random numbers of one purpose and place (up to three numbers): a pure function, 6 microseconds.

    Philox (Salmon et al. 2011) is a function of key and counter: key (seed, purpose), counter (0, *place) whose first
    word is left to count the draws, so two streams cannot overlap.
    """
    key = np.array((seed % 2**64, purpose), dtype=np.uint64)
    counter = np.array((0, *place, 0, 0)[:4], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _laps(items: np.ndarray, length: int, rng: np.random.Generator | None) -> Order:
    """``length`` of ``items``, round after round, each round in an order of its own (the given one without ``rng``)."""
    rounds = -(-length // len(items))
    order = np.concatenate([items if rng is None else rng.permutation(items) for _ in range(rounds)])
    return order[:length], np.arange(length) // len(items)


def _balanced(labels: np.ndarray, length: int, rng: np.random.Generator) -> Order:
    """``length`` labelled samples, every class as often as the others give or take one, in random order."""
    classes = rng.permutation(np.unique(labels[labels != UNLABELLED]))  # who gets the odd ones is random too
    quotas = [len(part) for part in np.array_split(np.arange(length), len(classes))]
    parts = [_laps(np.flatnonzero(labels == c), q, rng) for c, q in zip(classes, quotas, strict=True) if q]
    shuffle = rng.permutation(length)
    order, turn = (np.concatenate(column)[shuffle] for column in zip(*parts, strict=True))
    return order, turn


def _cat(column: tuple[Tensor | None, ...]) -> Tensor | None:
    present = [x for x in column if x is not None]
    return torch.cat(present) if present else None


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads in each of which torch works with one thread.

    Every Python thread that runs a parallel operation otherwise founds an OpenMP team as large as the trainer's, and
    the teams fight for the same cores. ``set_num_threads`` binds the calling thread, through a per-thread OpenMP
    variable, and besides sets the default that threads to come begin with. So each worker binds itself, and then the
    consumer repeats its own number: nothing changes for it, and the default is what it was.
    """
    own = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    together = Barrier(workers + 1)  # keeps each thread from taking the turn of another

    def bind() -> None:
        torch.get_num_threads()  # makes the thread adopt the default now; at its first operation that would undo ours
        torch.set_num_threads(1)
        together.wait()

    try:
        for _ in range(workers):
            pool.submit(bind)
        together.wait()
    except BaseException:  # interrupted, or no more threads to be had: nobody may wait for those that never come
        together.abort()
        raise
    finally:
        torch.set_num_threads(own)
    return pool
