"""Several engines, each in its own process, take turns at the same work: the fair way to time them on a noisy machine.

Knows how to run, discard and compare; ``engines.py`` says who, ``forward.py``, ``train_step.py`` and ``image_size.py``
say which jobs. Parent and children are this file: ``python bench/duel.py ENGINE JOB WEIGHTS`` serves one engine over
its standard input and output.
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
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from engines import Job, engines

from vitreous.models import CATALOGUE

RESULTS = Path(__file__).parent / "results"


# ---------------------------------------------------------------- the child: one engine


def work(network: Any, job: Job) -> Callable[[], Any]:
    """One unit of work, as a function without arguments."""
    import torch
    import torch.nn.functional as F
    from engines import layout

    torch.manual_seed(1)
    image = torch.randn(job.batch, 3, job.side, job.side).contiguous(memory_format=layout(job.model))
    label = torch.randint(0, 1000, (job.batch,))

    if job.work == "forward":
        image = image.bfloat16() if job.bfloat16 else image

        def forward() -> Any:
            with torch.inference_mode():
                return network(image)

        return forward

    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def train() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=job.bfloat16):
            loss = F.cross_entropy(network(image), label)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return loss.detach()

    return train


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
    from engines import build

    attend(work(build(engine, job, weights), job))


def attend(step: Callable[[], Any]) -> None:
    """What the parent's ``Child`` speaks with."""
    import torch

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

    seconds: list[float]  # undisturbed repeats; all of them where none was
    undisturbed: int  # repeats
    live: float  # most tensor memory of one unit of work, MiB
    resident: float  # most memory of the whole process, MiB

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]], slowest: float, live: float) -> Side:
        """From each repeat's seconds of calibration, seconds of work and MiB; it is undisturbed up to ``slowest``."""
        kept = [work for calibration, work, _ in rows if calibration <= slowest]
        return cls(kept or [work for _, work, _ in rows], len(kept), live, rows[-1][2])

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Child:
    """One engine's process."""

    def __init__(self, engine: str, job: Job, weights: str, script: str = __file__) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", script, engine, json.dumps(job), weights],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # so that threads of one engine do not spin while another works
            env=os.environ | {"OMP_WAIT_POLICY": "passive"},
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def hear(self) -> Any:
        """The next line of the child.

        Raises:
            RuntimeError: it has ended.
        """
        line = self.process.stdout.readline()
        while line and line[0] not in "[{":  # a library's own greeting
            line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.process.args)} ended early; run it alone to see why.")
        return json.loads(line)

    def work(self) -> Any:
        """One unit of work: (seconds of the calibration, seconds of the work, MiB)."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.hear()


def duel(job: Job, repeats: int, who: tuple[str, ...] = ()) -> dict[str, Side]:
    """The engines ``who``, all by default, on one job, taking turns; the first answers of ours and timm's must agree.

    A repeat during which a calibrating matrix product ran below 70 % of its best is thrown away, unless all were.
    """
    who = who or engines(job)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        weights = str(Path(folder) / "weights.safetensors")
        children, first = {}, {}
        for engine in ("timm", *(e for e in who if e != "timm")):  # timm first: it writes the weights
            children[engine] = stack.enter_context(Child(engine, job, weights))
            first[engine] = children[engine].hear()
        pairs = list(zip(first["vitreous"]["answer"], first["timm"]["answer"], strict=True))
        far = max(abs(a - b) for a, b in pairs) / max(abs(b) for _, b in pairs)
        assert far < (0.1 if job.bfloat16 else 1e-3), f"{job.label}: the engines disagree by {far}"
        return turns({engine: children[engine] for engine in who}, {e: first[e]["live"] for e in who}, repeats)


def turns(children: dict[str, Child], live: dict[str, float], repeats: int) -> dict[str, Side]:
    """Let the children work in turn, there and back, and once before it counts."""
    who = tuple(children)
    rows: dict[str, list[list[float]]] = {engine: [] for engine in who}
    for i in range(repeats + 1):
        for engine in who if i % 2 else reversed(who):
            rows[engine].append(children[engine].work())
    best = min(row[0] for engine in who for row in rows[engine])
    return {engine: Side.of(rows[engine][1:], best / 0.7, live[engine]) for engine in who}


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    import torch

    facts = dict(
        (part.strip() for part in line.split(":", 1))
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    )
    name = f"{facts.get('model name', platform.machine())}, family {facts.get('cpu family', 'unknown')}"
    return {"machine": name, "cores": os.cpu_count(), "load": os.getloadavg()[0], "torch": torch.__version__}


def record(job: Job, sides: dict[str, Side]) -> dict[str, Any]:
    """One row of the results file; ratios are the time of the fastest other engine over ours."""
    ours, others = sides["vitreous"], {engine: side for engine, side in sides.items() if engine != "vitreous"}
    return (
        job._asdict()
        | {"size": job.side}
        | {"ratio_of_medians": min(s.median for s in others.values()) / ours.median}
        | {"ratio_of_best": min(min(s.seconds) for s in others.values()) / min(ours.seconds)}
        | {f"{engine}_{field}": value for engine, side in sides.items() for field, value in side._asdict().items()}
    )


def known(jobs: Sequence[Job]) -> list[Job]:
    """The jobs whose model the catalogue has; the others are named and left out."""
    for job in jobs:
        if job.model not in CATALOGUE:
            print(f"{job.label}: not in the catalogue, left out")
    return [job for job in jobs if job.model in CATALOGUE]


def report(title: str, name: str, jobs: Sequence[Job], repeats: int) -> None:
    """Run all jobs, print the table and write bench/results/NAME.json."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=None)
    for column in ("model", "batch", "ours ms", "timm ms", "transf. ms", "ratio", "best", "live MiB", "timm", "kept"):
        table.add_column(column, justify="left" if column == "model" else "right")
    console, written = Console(width=130), []
    for job in known(jobs):
        sides = duel(job, repeats)
        row = record(job, sides)
        times = (f"{sides[e].median * 1e3:.1f}" if e in sides else "" for e in ("vitreous", "timm", "transformers"))
        ratios = (f"{row['ratio_of_medians']:.2f}", f"{row['ratio_of_best']:.2f}")
        memory = (f"{sides[e].live:.0f}" for e in ("vitreous", "timm"))
        kept = "/".join(str(sides[e].undisturbed) for e in ("vitreous", "timm"))
        table.add_row(job.label, str(job.batch), *times, *ratios, *memory, f"{kept} of {repeats}")
        written.append(row)
        save(name, repeats, written)  # after each job, for an hour may pass
    console.print(
        table,
        "ratio: the faster peer's median over ours (above 1 ours is faster); best: the same of the fastest repeats;"
        " live: peak of tensors; kept: undisturbed repeats of ours and timm's, and where there are 0 all count",
    )


def save(name: str, repeats: int, rows: list[dict[str, Any]]) -> None:
    """Write bench/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(machine() | {"repeats": repeats, "rows": rows}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    serve(sys.argv[1], Job(*json.loads(sys.argv[2])), sys.argv[3])
