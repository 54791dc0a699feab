"""A small training that the tests of this folder share, in this process or as a program of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

from vitreous import config
from vitreous.store.checkpoint import RunFolder
from vitreous.training.config import TrainConfig
from vitreous.training.device import open_device
from vitreous.training.log import Log
from vitreous.training.trainer import Trainer

PROGRAM = Path(__file__).with_name("program.py")


@pytest.fixture(scope="session")
def program() -> ModuleType:
    """The pieces of program.py."""
    spec = importlib.util.spec_from_file_location("train_program", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make(program: ModuleType, tmp_path: Path) -> Callable[..., Trainer]:
    """``make(folder name, **TrainConfig fields)`` -> a trainer; ``task`` and ``data`` replace its pieces."""

    def trainer(
        name: str = "run", *, task=None, data=None, val=True, seed=0, identity=None, spent=0.0, **wishes: Any
    ) -> Trainer:
        wishes = {"steps": 24, "evaluate_every": 8, "precision": "fp32"} | wishes
        torch.manual_seed(seed)
        place = tmp_path / name
        folder = RunFolder(place) if place.exists() else RunFolder.create(place)
        with open_device("cpu", wishes["precision"]) as device:
            return Trainer(
                task or program.Sorting(program.Network()),
                config.from_dict(TrainConfig, wishes),
                train=data or program.Blobs(seed=seed),
                val=program.Blobs() if val else None,
                folder=folder,
                device=device,
                seed=seed,
                identity=identity,
                spent=spent,
                log=Log(place, quiet=True),
            )

    return trainer


class Ended(NamedTuple):
    """How a session of program.py ended."""

    code: int  # minus the signal that killed it
    errors: str


@pytest.fixture(scope="session")
def sessions() -> Iterator[subprocess.Popen[str]]:
    """A process that runs sessions of program.py on demand."""
    command = [sys.executable, "-W", "error", str(PROGRAM), "serve"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, bufsize=1, env=environment) as served:
        yield served
        served.stdin.close()


@pytest.fixture
def start(sessions, tmp_path: Path) -> Callable[..., Ended]:
    """``start(folder, **wishes)`` trains there in a process of its own until it ends, or for ``kill_after`` seconds."""

    def run(folder: Path, *, world: int = 1, kill_after: float | None = None, **wishes: Any) -> Ended:
        errors = tmp_path / "errors.txt"
        errors.write_text("")
        request = {"folder": str(folder), "errors": str(errors), "world": world, "kill_after": kill_after}
        sessions.stdin.write(json.dumps({**request, "wishes": wishes}) + "\n")
        return Ended(int(sessions.stdout.readline()), errors.read_text())

    return run


@pytest.fixture
def outcome() -> Callable[[Path], dict[str, Any]]:
    """Everything of a run folder that must not depend on when it was saved, killed or resumed."""

    def read(place: Path) -> dict[str, Any]:
        folder = RunFolder(place)
        last = folder.latest()
        assert last is not None
        tensors = {name: tensor.numpy().tobytes() for name, tensor in last.tensors.items()}
        return {
            "state": tensors,
            "counters": last.facts["counters"],
            "rows": (place / "metrics.jsonl").read_text(),
        }

    return read
