"""A whole small training as a program, so that tests can kill it, limit it, or start it under torchrun.

    python program.py FOLDER '{"steps": 40, ...}'    trains, or resumes when FOLDER holds a run
    python program.py serve                          does so for each request on standard input

The pieces (``Blobs``, ``Sorting``, ``Network``) are what the in-process tests train as well.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous import config
from vitreous.errors import VitreousError
from vitreous.store.checkpoint import RunFolder
from vitreous.tasks.task import Loss, Task
from vitreous.training.config import TrainConfig
from vitreous.training.device import open_device
from vitreous.training.log import Log
from vitreous.training.trainer import Trainer
from vitreous.types import Batch

CLASSES = 4


class Network(nn.Module):
    """Stem, two hidden kernels and matrices, a depthwise one, norms, positions, dropout, and a head."""

    def __init__(self, width: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.config = SimpleNamespace(classes=CLASSES)
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.position = nn.Parameter(torch.zeros(1, width, 4, 4))
        self.conv = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * width)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.dense = nn.Linear(2 * width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """(b, 3, 8, 8) -> (b, k)"""
        x = F.relu(self.stem(image)) + self.position
        x = F.relu(self.depthwise(self.norm(self.conv(x))))
        return self.head(self.dropout(F.relu(self.dense(x.mean((2, 3))))))

    def groups(self) -> list[list[str]]:
        parts = [("stem", "position"), ("conv", "norm"), ("depthwise", "dense"), ("head",)]
        return [[n for n, _ in self.named_parameters() if n.split(".")[0] in part] for part in parts]


class Sorting(Task):
    """Classification with cross-entropy; ``bad`` steps are spoiled the way ``poison`` says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def views(self, train: bool):
        raise NotImplementedError

    def loss(self, batch: Batch) -> Loss:
        total = F.cross_entropy(self.network(batch.image).float(), batch.label)
        return Loss(total, {"entropy": total.detach()})

    def evaluate(self, batches, gather) -> dict[str, float]:
        parts = [(self.network(b.image).float(), b.label, b.index) for b in batches]
        empty = (torch.zeros(0, CLASSES), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        logits, label, index = (
            gather(torch.cat(c)) for c in (zip(*parts, strict=True) if parts else ([e] for e in empty))
        )
        order = index.argsort()
        logits, label = logits[order], label[order]
        accuracy = float((logits.argmax(1) == label).double().mean())
        return {"accuracy": accuracy, "n": float(len(label)), "score": accuracy - float(F.cross_entropy(logits, label))}


class Blobs:
    """Loader of coloured noise: ``at`` is pure in (seed, step). ``spoil`` maps steps to what is written into pixels."""

    def __init__(self, n=101, batch=16, seed=0, rank=0, world=1, pause=0.0, spoil=None) -> None:
        g = torch.Generator().manual_seed(7)
        self.label = torch.randint(CLASSES, (n,), generator=g)
        means = torch.randn(CLASSES, 3, 1, 1, generator=g)
        self.image = torch.randn(n, 3, 8, 8, generator=g) * 0.5 + means[self.label]
        self.batch, self.seed, self.rank, self.world, self.pause = batch, seed, rank, world, pause
        self.spoil = spoil or {}
        self.steps_per_epoch = n // batch
        self.waited = 0.0
        self.served: list[int] = []

    def at(self, step: int) -> Batch:
        g = torch.Generator().manual_seed(self.seed * 100_003 + step)
        size = self.batch // self.world
        index = torch.randint(len(self.label), (self.batch,), generator=g)[self.rank * size : (self.rank + 1) * size]
        noise = torch.randn(self.batch, 3, 8, 8, generator=g)[self.rank * size : (self.rank + 1) * size]
        image = self.image[index] + 0.1 * noise
        if step in self.spoil:
            image[0, 0, 0, 0] = self.spoil[step]
        return Batch(image, self.label[index], index)

    def train(self, start: int, stop: int) -> Iterator[Batch]:
        for step in range(start, stop):
            if self.pause:
                time.sleep(self.pause)
            self.served.append(step)
            yield self.at(step)

    def evaluate(self) -> Iterator[Batch]:
        mine = torch.arange(self.rank, len(self.label), self.world)
        for index in mine.split(self.batch):
            if self.pause:
                time.sleep(self.pause)
            yield Batch(self.image[index], self.label[index], index)

    def reset_waited(self) -> float:
        return 0.0


def main(folder: str, wishes: dict) -> int:
    """One session. ``wishes``: fields of TrainConfig, and pause, signal_at, spoil_at, file_limit, kill_at_call."""
    torch.set_num_threads(1)
    pause, signal_at, limit = wishes.pop("pause", 0.0), wishes.pop("signal_at", None), wishes.pop("file_limit", None)
    spoil_at = wishes.pop("spoil_at", None)
    die_at_call(wishes.pop("kill_at_call", None))
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with open_device("cpu", wishes.pop("precision", "fp32")) as device:
        known = RunFolder(folder).is_run()
        device.barrier()
        run = RunFolder.create(folder) if device.is_first and not known else RunFolder(folder)
        device.barrier()
        torch.manual_seed(0)
        share = {"rank": device.rank, "world": device.world, "pause": pause}
        train, val = Blobs(**share), Blobs(**share)
        if spoil_at is not None and device.rank == device.world - 1:
            train.spoil[spoil_at] = math.nan
        if signal_at is not None:
            serve = train.at
            train.at = lambda step: (step == signal_at and os.kill(os.getpid(), signal.SIGTERM), serve(step))[1]
        log = Log(run.path if device.is_first else None, quiet=True)
        settings = config.from_dict(TrainConfig, wishes)
        task = Sorting(Network())
        trainer = Trainer(task, settings, train=train, val=val, folder=run, device=device, log=log)
        with run.lock() if device.is_first else nullcontext():
            fitted = trainer.fit(resume=known)
            if device.is_first:
                run.publish(fitted.weights, {"steps": fitted.steps, "step": fitted.step, "score": fitted.score})
                run.seal()
    return 0


def die_at_call(number: int | None) -> None:
    """Kill this process before its ``number``-th call that makes something durable or gives it its name."""
    if number is None:
        return
    calls = itertools.count(1)

    def deadly(call):
        return lambda *arguments: (next(calls) == number and os.kill(os.getpid(), signal.SIGKILL), call(*arguments))[1]

    os.fsync, os.replace, os.rename = deadly(os.fsync), deadly(os.replace), deadly(os.rename)


def guarded(folder: str, wishes: dict) -> int:
    """``main`` with its errors as the command line shows them."""
    try:
        return main(folder, wishes)
    except VitreousError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def serve() -> None:
    """Sessions on demand, each a fork of this process: fresh, but without the seconds that importing torch takes.

    A request is a line of JSON: folder, wishes, errors (a file), world (processes), kill_after (seconds, or null).
    The answer is a line with the exit code, or minus the signal. Nothing here may start a thread.
    """
    importlib.import_module("torch._dynamo")  # the first optimiser of each session would, for more than a second
    for line in sys.stdin:
        request = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(request["world"]):
            child = os.fork()
            if child == 0:
                _session(request, rank, port)
            children.append(child)
        if request["kill_after"] is not None:
            time.sleep(request["kill_after"])
            for child in children:
                os.kill(child, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(f"{codes[0]}\n")
        sys.stdout.flush()


def _session(request: dict, rank: int, port: int) -> None:
    code = 70
    try:
        errors = os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(errors, 2)
        if request["world"] > 1:
            world = str(request["world"])
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": world, "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": world}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.fsync = lambda handle: None  # half of the time, and without effect on what is left after a kill
        code = guarded(request["folder"], request["wishes"])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        sys.exit(guarded(sys.argv[1], json.loads(sys.argv[2])))
