"""Images a second to a ready training batch at 224 px (random resized crop and flip), on one core, against Pillow.

    python bench/loader.py [--repeats 5] [--core 0] [--small 384] [--large 16]

Three questions, each engine in a process of its own, repeats interleaved, ratio of medians:

    first pass     12-megapixel JPEGs seen for the first time; ours includes the survey, digests and filling the cache
    later epochs   500 x 375 JPEGs, ours from the cache; Pillow decodes again, having nowhere to keep pixels
    memory         resident memory of our loader after one epoch and after eight, and with four workers instead of one

The Pillow pipeline is what most training scripts do: open, decode, crop and resize with antialiasing, mirror, stack
as uint8. Pictures are generated: smoothed noise over gradients, of the size in bytes that photographs have.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

SIDE, BATCH = 224, 64
POLICIES = ("none", "randaugment", "trivial", "three")
GOALS = {"first pass": 3.0, "later epochs": 4.0}
MEMORY_GOAL = 1.1


# ---------------------------------------------------------------- pictures


def make_jpegs(folder: Path, count: int, width: int, height: int, noise: float) -> float:
    """Write ``count`` different JPEGs of quality 90; their mean size in kB."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    ground = sum(_octave(rng, width, height, cells) / cells**0.6 for cells in (2, 4, 8, 16, 32, 64, 128))
    ground = 128 + 55 * ground / ground.std()
    grain = rng.normal(0, noise, (height, width, 1)) + rng.normal(0, noise / 3, (height, width, 3))
    for i in range(count):
        place = tuple(rng.integers((height, width)))
        picture = np.roll(ground, place, (0, 1)) * rng.uniform(0.7, 1.0, 3) + np.roll(grain, place[::-1], (0, 1))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{i:04d}.jpg", quality=90)
    return statistics.mean(path.stat().st_size for path in folder.iterdir()) / 1000


def _octave(rng: np.random.Generator, width: int, height: int, cells: int) -> np.ndarray:
    coarse = Image.fromarray(rng.integers(256, size=(cells, cells, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) / 128 - 1


# ---------------------------------------------------------------- engines, each in its own process


def pillow_batches(paths: list[Path], seed: int) -> Iterator[object]:
    import torch

    from vitreous.data.transforms import AugmentConfig, random_box  # the same crops for both

    rng, config = np.random.default_rng(seed), AugmentConfig()
    order = rng.permutation(len(paths))
    for start in range(0, len(order), BATCH):
        views = []
        for i in order[start : start + BATCH]:
            with Image.open(paths[i]) as file:
                picture = file.convert("RGB")
            box = random_box(picture.height, picture.width, config, rng)
            edges = (box.left, box.top, box.left + box.width, box.top + box.height)
            picture = picture.crop(edges).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            if rng.random() < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            views.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
        yield torch.stack(views)


def ours(folder: Path, cache: Path, policy: str = "none", workers: int = 1, batch: int = BATCH) -> object:
    """Survey the folder, which fills the cache, and a loader over it."""
    from vitreous.data.cache import Cache
    from vitreous.data.dataset import Pictures, open_source
    from vitreous.data.loader import Loader
    from vitreous.data.preprocess import Preprocess
    from vitreous.data.survey import survey
    from vitreous.data.transforms import Augment, AugmentConfig

    preprocess, source = Preprocess(size=SIDE), open_source(folder)
    kept = Cache.open(cache, preprocess)
    found = survey(source, preprocess, kept, workers=1)
    pictures = Pictures(source, np.arange(len(source)), preprocess, cache=kept, digests=found.digests)
    transform = Augment(AugmentConfig(policy=policy), preprocess)
    return Loader(pictures, transform, batch=min(batch, len(source)), train=True, workers=workers)


def first_pass(engine: str, folder: Path) -> dict[str, float]:
    paths = sorted(folder.rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as cache:
        _warm_up(folder.parent / "warm", Path(cache) / "warm")
        begin = time.perf_counter()
        if engine == "pillow":
            count = sum(len(batch) for batch in pillow_batches(paths, 0))
        else:
            count = sum(len(batch.image) for batch in ours(folder, Path(cache) / "pixels").train(0, 1))
        return {"rate": count / (time.perf_counter() - begin)}


def later_epochs(engine: str, folder: Path) -> dict[str, float]:
    paths = sorted(folder.rglob("*.jpg"))
    if engine == "pillow":
        sum(1 for _ in pillow_batches(paths[:BATCH], 0))
        begin = time.perf_counter()
        count = sum(len(batch) for batch in pillow_batches(paths, 1))
        return {"rate": count / (time.perf_counter() - begin)}
    rates = {}
    with tempfile.TemporaryDirectory() as cache:
        for policy in POLICIES:
            loader = ours(folder, Path(cache), policy)
            steps = loader.steps_per_epoch
            sum(1 for _ in loader.train(0, steps))
            begin = time.perf_counter()
            count = sum(len(batch.image) for batch in loader.train(steps, 4 * steps))
            rates["rate" if policy == "none" else policy] = count / (time.perf_counter() - begin)
    return rates


def memory(engine: str, folder: Path) -> dict[str, float]:
    """MB resident, the median over the steps of the first and of the eighth epoch; ``engine`` is the worker count."""
    with tempfile.TemporaryDirectory() as cache:
        loader = ours(folder, Path(cache), workers=int(engine))
        steps, seen = loader.steps_per_epoch, []
        for _ in loader.train(0, 8 * steps):
            time.sleep(0.1)  # a consumer that trains: the loader is as far ahead as it may be
            seen.append(_resident())
    return {"first": statistics.median(seen[:steps]), "last": statistics.median(seen[-steps:])}


def _resident() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def _warm_up(folder: Path, cache: Path) -> None:
    """Imports, allocator and first calls of both engines, which no data set pays for twice."""
    paths = sorted(folder.rglob("*.jpg"))
    for _ in pillow_batches(paths, 0):
        pass
    for _ in ours(folder, cache).train(0, 1):
        pass


TASKS = {"first pass": first_pass, "later epochs": later_epochs, "memory": memory}


# ---------------------------------------------------------------- measuring


def measure(task: str, engine: str, folder: Path, core: int) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = ["taskset", "-c", str(core), sys.executable, __file__, "--child", task, engine, str(folder)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def compare(task: str, folder: Path, core: int, repeats: int) -> dict[str, object]:
    runs = {"pillow": [], "vitreous": []}
    for _ in range(repeats):
        for engine, results in runs.items():
            results.append(measure(task, engine, folder, core))
    median = {
        engine: {key: statistics.median(r[key] for r in results) for key in results[0]}
        for engine, results in runs.items()
    }
    ratio = median["vitreous"]["rate"] / median["pillow"]["rate"]
    spread = {engine: sorted(r["rate"] for r in results) for engine, results in runs.items()}
    return {
        "images_per_second": median,
        "all": spread,
        "ratio": ratio,
        "goal": GOALS[task],
        "met": ratio >= GOALS[task],
    }


def compare_memory(folder: Path, core: int, repeats: int) -> dict[str, object]:
    runs = {workers: [] for workers in ("1", "4")}
    for _ in range(repeats):
        for workers, results in runs.items():
            results.append(measure("memory", workers, folder, core))
    megabytes = {w: {k: statistics.median(r[k] for r in results) for k in results[0]} for w, results in runs.items()}
    epochs = megabytes["1"]["last"] / megabytes["1"]["first"]
    workers = megabytes["4"]["last"] / megabytes["1"]["last"]
    met = max(epochs, workers) <= MEMORY_GOAL
    return {"megabytes": megabytes, "epochs_8_to_1": epochs, "workers_4_to_1": workers, "goal": MEMORY_GOAL, "met": met}


def show(result: dict) -> None:
    table = Table(title=f"Loading at {SIDE} px on one core", box=None)
    for column in ("", "Pillow", "vitreous", "ratio", "goal"):
        table.add_column(column, justify="right" if column else "left")
    for task in GOALS:
        row = result[task]
        rates = row["images_per_second"]
        pillow, vitreous = rates["pillow"]["rate"], rates["vitreous"]["rate"]
        table.add_row(
            f"{task}, images/s", f"{pillow:.0f}", f"{vitreous:.0f}", f"{row['ratio']:.1f}", f">= {row['goal']}"
        )
    for policy in POLICIES[1:]:
        rate = result["later epochs"]["images_per_second"]["vitreous"][policy]
        table.add_row(f"  with {policy}, images/s", "", f"{rate:.0f}")
    row = result["memory"]
    first, last, more = row["megabytes"]["1"]["first"], row["megabytes"]["1"]["last"], row["megabytes"]["4"]["last"]
    goal = f"<= {row['goal']}"
    table.add_row("memory, epoch 1 to 8, MB", "", f"{first:.0f} to {last:.0f}", f"{row['epochs_8_to_1']:.2f}", goal)
    table.add_row("memory, 1 to 4 workers, MB", "", f"{last:.0f} to {more:.0f}", f"{row['workers_4_to_1']:.2f}", goal)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--small", type=int, default=384, help="500 x 375 pictures")
    parser.add_argument("--large", type=int, default=16, help="4000 x 3000 pictures")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, engine, folder = options.child
        print(json.dumps(TASKS[task](engine, Path(folder))))
        return
    with tempfile.TemporaryDirectory() as place:
        small, large, warm = Path(place, "small"), Path(place, "large"), Path(place, "warm")
        kilobytes = {
            "500x375": make_jpegs(small / "a", options.small, 500, 375, noise=4.2),
            "4000x3000": make_jpegs(large / "a", options.large, 4000, 3000, noise=2.5),
        }
        make_jpegs(warm / "a", 2, 500, 375, noise=4.2)
        result = {
            "first pass": compare("first pass", large, options.core, options.repeats),
            "later epochs": compare("later epochs", small, options.core, options.repeats),
            "memory": compare_memory(small, options.core, min(3, options.repeats)),
        }
    show(result)
    result |= {"kilobytes": kilobytes, "pictures": {"small": options.small, "large": options.large}, "batch": BATCH}
    result |= {"repeats": options.repeats, "versions": {name: version(name) for name in ("torch", "pillow", "numpy")}}
    result |= {"python": platform.python_version(), "cpu": _cpu()}
    target = Path(__file__).parent / "results" / "loader.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
