"""Two engines, each in its own process, take turns at the same work: the fair way to time them on a noisy machine.

Knows how to run, discard and compare; ``forward.py`` and ``train_step.py`` say which jobs. Parent and children are
this file: ``python bench/duel.py ENGINE JOB WEIGHTS`` serves one engine over its standard input and output.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ENGINES = ("vitreous", "timm")
RESULTS = Path(__file__).parent / "results"


class Job(NamedTuple):
    """One row of a comparison."""

    work: str  # "forward" or "train"
    model: str
    batch: int
    bfloat16: bool = False
    size: int = 224

    @property
    def label(self) -> str:
        return f"{self.model}{' bf16' if self.bfloat16 else ''}"


# ---------------------------------------------------------------- the child: one engine


def build(engine: str, job: Job, weights: str) -> Any:
    """The engine's network, image -> logits, with the weights that the timm child wrote."""
    import torch

    if engine == "timm":
        import peers  # noqa: F401 - before timm
        import timm
        from safetensors.torch import save_file

        torch.manual_seed(0)
        network = timm.create_model(job.model, num_classes=1000)
        save_file(network.state_dict(), weights)
    else:
        from vitreous.network import NetworkConfig, build_network
        from vitreous.weights import foreign

        config = NetworkConfig(model=job.model, classes=1000, size=job.size)
        whole = build_network(config)
        foreign.load(whole, weights)
        network = torch.nn.Sequential(whole.backbone, whole.head)  # both engines start at normalised pixels
    layout = torch.channels_last if job.model.startswith("resnet") else torch.contiguous_format
    return network.to(memory_format=layout)


def work(network: Any, job: Job) -> Callable[[], Any]:
    """One unit of work, as a function without arguments."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(1)
    image = torch.randn(job.batch, 3, job.size, job.size)
    if job.model.startswith("resnet"):
        image = image.contiguous(memory_format=torch.channels_last)
    label = torch.randint(0, 1000, (job.batch,))
    network.train(job.work == "train")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def forward() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=job.bfloat16):
            return network(image)

    def train() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=job.bfloat16):
            loss = F.cross_entropy(network(image), label)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return loss.detach()

    return train if job.work == "train" else forward


def resident() -> float:
    """The most memory this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def live_peak(step: Callable[[], Any]) -> float:
    """The most tensor memory that one unit of work holds at once, MiB: exact, where resident memory is luck."""
    from torch.profiler import profile

    with profile(profile_memory=True) as record:
        step()
    live = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak / 2**20


def serve(engine: str, job: Job, weights: str) -> None:
    """Build, say so, then time one unit of work for each line that comes in, until the input ends."""
    import torch

    step = work(build(engine, job, weights), job)
    square = torch.randn(512, 512)
    answer = step().float().flatten()[:8].tolist()
    step()
    print(json.dumps({"answer": answer, "live": live_peak(step)}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(4):
            square @ square
        middle = time.perf_counter()
        step()
        print(json.dumps([middle - start, time.perf_counter() - middle, resident()]), flush=True)


# ---------------------------------------------------------------- the parent: the comparison


class Side(NamedTuple):
    """What one engine did in one job."""

    seconds: list[float]  # undisturbed repeats
    discarded: int
    live: float  # most tensor memory of one unit of work, MiB
    resident: float  # most memory of the whole process, MiB

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def duel(job: Job, repeats: int) -> dict[str, Side]:
    """Both engines on one job, taking turns; their first answers must agree.

    A repeat during which a calibrating matrix product ran below 70 % of its best is thrown away.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "weights.safetensors")
        children, first = {}, {}
        for engine in reversed(ENGINES):  # timm first: it writes the weights
            command = [sys.executable, "-W", "ignore", __file__, engine, json.dumps(job), weights]
            children[engine] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_WAIT_POLICY": "passive"},
            )
            first[engine] = json.loads(children[engine].stdout.readline())
        far = max(abs(a - b) for a, b in zip(*(f["answer"] for f in first.values()), strict=True))
        assert far < (0.05 if job.bfloat16 else 1e-3), f"{job.label}: the engines disagree by {far}"
        rows: dict[str, list[list[float]]] = {engine: [] for engine in ENGINES}
        for i in range(repeats + 1):
            for engine in ENGINES if i % 2 else reversed(ENGINES):
                child = children[engine]
                child.stdin.write("go\n")
                child.stdin.flush()
                rows[engine].append(json.loads(child.stdout.readline()))
        for child in children.values():
            child.stdin.close()
            child.wait()
    best = min(row[0] for engine in ENGINES for row in rows[engine])
    sides = {}
    for engine in ENGINES:
        kept = [row[1] for row in rows[engine][1:] if row[0] <= best / 0.7] or [row[1] for row in rows[engine][1:]]
        sides[engine] = Side(kept, repeats - len(kept), first[engine]["live"], rows[engine][-1][2])
    return sides


def report(title: str, name: str, jobs: Sequence[Job], repeats: int) -> None:
    """Run all jobs, print the table and write bench/results/NAME.json."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=None)
    for column in (
        "model",
        "batch",
        "ours ms",
        "timm ms",
        "ratio",
        "best ratio",
        "live MiB",
        "timm MiB",
        "resident",
        "timm",
        "repeats kept",
    ):
        table.add_column(column, justify="left" if column == "model" else "right")
    written = []
    for job in jobs:
        ours, theirs = duel(job, repeats).values()
        ratio, best = theirs.median / ours.median, min(theirs.seconds) / min(ours.seconds)
        times = (f"{ours.median * 1e3:.1f}", f"{theirs.median * 1e3:.1f}", f"{ratio:.2f}", f"{best:.2f}")
        memory = [f"{x:.0f}" for x in (ours.live, theirs.live, ours.resident, theirs.resident)]
        kept = f"{len(ours.seconds)} and {len(theirs.seconds)} of {repeats}"
        table.add_row(job.label, str(job.batch), *times, *memory, kept)
        sides = {"vitreous": ours, "timm": theirs}
        written.append(
            job._asdict()
            | {"ratio_of_medians": ratio, "ratio_of_best": best}
            | {f"{engine}_{field}": value for engine, side in sides.items() for field, value in side._asdict().items()}
        )
    Console(width=130).print(
        table,
        "ratio: timm's time over ours (above 1 ours is faster); live: peak of tensors; resident: whole process",
    )
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(machine | {"repeats": repeats, "rows": written}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    serve(sys.argv[1], Job(*json.loads(sys.argv[2])), sys.argv[3])
