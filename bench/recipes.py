"""Models trained end to end on real pictures, several seeds each: the numbers of docs/recipes.md.

    python bench/recipes.py --data ../shared/data [--only breeds3] [--seeds 3] [--jobs 2]

Each arm is one ``vitreous train`` command in a process of its own with one thread, so two of them share two cores
fairly. Finished runs are kept in bench/results/recipes.json and not repeated; the table is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "recipes.json"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantiles of Student's t for n seeds

ARMS = [
    # name of the data, below --data, model, further options
    ("breeds3", "pets/breeds3", "vit_pico_patch8_96", ("--budget", "4m")),
    ("breeds3", "pets/breeds3", "resnet18", ("--budget", "4m", "--size", "96")),
    ("cifar10_jpeg", "cifar10_jpeg", "vit_pico_patch4_32", ("--budget", "4m")),
    ("cifar10_jpeg", "cifar10_jpeg", "resnet20_cifar", ("--budget", "4m")),
]

lock = Lock()


def load() -> dict[str, dict]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def train(data: Path, arm: tuple[str, str, str, tuple[str, ...]], seed: int) -> None:
    name, place, model, options = arm
    command = ["train", f"DATA/{place}", "--model", model, *options, "--seed", str(seed)]
    key = "vitreous " + " ".join(command)
    if key in load():
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        real = [str(data / place) if c.startswith("DATA/") else c for c in command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "vitreous", *real, "--out", str(out), "--quiet"], check=True, env=environment
        )
        card = json.loads((out / "card.json").read_text())
    result = {
        "data": name,
        "model": model,
        "seed": seed,
        "accuracy": card["metrics"]["test"]["accuracy"],
        "interval": card["metrics"]["test"]["accuracy_interval"],
        "pictures": card["metrics"]["test"]["count"],
        "ece": card["metrics"]["test"]["ece"],
        "epochs": card["train"]["epochs"],
        "minutes": card["cost"]["minutes"],
        "wall_seconds": time.monotonic() - start,
        "images_per_second": card["cost"]["images_per_second_train"],
        "parameters": card["cost"]["parameters"],
        "macs": card["cost"]["macs"],
        "peak_memory_mb": card["cost"]["peak_memory_mb"],
        "machine": card["machine"],
    }
    with lock:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({**load(), key: result}, indent=1) + "\n")


def table() -> None:
    shown = Table(title="Test accuracy, from scratch, one thread", box=None)
    for column in ("data", "model", "seeds", "accuracy", "95 % interval", "epochs", "images/s", "minutes", "ECE"):
        shown.add_column(column, justify="left" if column in ("data", "model") else "right")
    rows: dict[tuple[str, str], list[dict]] = {}
    for result in load().values():
        rows.setdefault((result["data"], result["model"]), []).append(result)
    for (data, model), runs in sorted(rows.items()):
        accuracy = [100 * r["accuracy"] for r in runs]
        half = STUDENT[len(runs)] * statistics.stdev(accuracy) / len(runs) ** 0.5 if len(runs) > 1 else float("nan")
        mean = {k: statistics.fmean(r[k] for r in runs) for k in ("epochs", "images_per_second", "minutes", "ece")}
        shown.add_row(
            data,
            model,
            str(len(runs)),
            f"{statistics.fmean(accuracy):.1f}",
            f"± {half:.1f}",
            f"{mean['epochs']:.1f}",
            f"{mean['images_per_second']:.0f}",
            f"{mean['minutes']:.1f}",
            f"{mean['ece']:.3f}",
        )
    Console().print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real pictures")
    parser.add_argument("--only", default="", help="part of a data set's or model's name")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    chosen = [arm for arm in ARMS if options.only in f"{arm[0]} {arm[2]}"]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = [pool.submit(train, options.data, arm, seed) for seed in range(options.seeds) for arm in chosen]
        for future in done:
            future.result()
    table()


if __name__ == "__main__":
    main()
