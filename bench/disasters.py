"""Does any family fail on any kind of pictures? Each one's smallest network with nothing but defaults, one thread.

    python bench/disasters.py --data ../shared/data [--only cct] [--core 1]

A run is a disaster when it ends below twice the accuracy of chance, or below a logistic regression on 16x16 thumbnails
of the same pictures, divided alike. Every cell first gets a short budget to save hours; where that ends below the line,
the run is made again with three minutes, and where that does too, with the ten that `vitreous train` takes by itself.
The last one counts. Finished runs are kept in bench/results/disasters.json and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from vitreous.analyse import probe
from vitreous.config import from_dict
from vitreous.data.loader import Loader
from vitreous.data.prepare import DataConfig, Side, prepare
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Evaluate

RESULTS = Path(__file__).parent / "results" / "disasters.json"
SETS = {  # budget and further options of each
    "digits": ("40s",),
    "shapes": ("90s",),
    "pets/breeds3": ("1m",),
    "cifar10_jpeg": ("1m", "--set", "data.fraction=0.2353"),  # 1,000 of 4,250 training pictures
}
LONGER = ("3m", "10m")  # for what ended below the line
LARGE = {  # the smallest of each family
    "cct": "cct_7_7x2_224",
    "convnext": "convnext_atto",
    "efficientnet": "efficientnet_b0",
    "efficientvit": "efficientvit_b0",
    "efficientvit_ms": "efficientvit_m0",
    "hybrid": "auto",
    "mobilenet": "mobilenetv3_small_050",
    "mobilevit": "mobilevit_xxs",
    "mobilevitv2": "mobilevitv2_050",
    "resnet": "resnet18",
    "swin": "swin_tiny_patch4_window7_224",
    "swinv2": "swinv2_tiny_window8_256",
    "vit": "vit_pico_patch8_96",
}
SMALL = {**LARGE, "cct": "cct_2_3x2_32", "resnet": "resnet20_cifar", "vit": "vit_pico_patch4_32"}  # for 32 px


def load() -> dict[str, dict]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(key: str, value: dict) -> None:
    RESULTS.write_text(json.dumps({**load(), key: value}, indent=1) + "\n")


def train(data: Path, name: str, model: str, core: int | None, longer: str | None) -> dict:
    """Accuracy and course of one run, and how its data was divided."""
    short, *options = SETS[name]
    options += ["--budget", longer or short]
    source = str(data / name) if (data / name).exists() else name
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = ["train", source, "--model", model, *options, "--out", str(out), "--quiet"]
        done = subprocess.run(
            [sys.executable, "-m", "vitreous", *command],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1]}
        card, run = (json.loads((out / file).read_text()) for file in ("card.json", "run.json"))
    return {
        "model": card["network"]["model"],
        "size": run["network"]["size"],
        "accuracy": card["metrics"]["test"]["accuracy"],
        "epochs": card["train"]["epochs"],
        "pictures": card["metrics"]["test"]["count"],
        "data": {**run["data"], "source": name},
    }


def thumbnails(data: Path, name: str, settings: dict) -> dict:
    """Test accuracy of chance, and of a logistic regression on 16x16 thumbnails of the pictures that a run had."""
    source = str(data / name) if (data / name).exists() else name
    config = from_dict(DataConfig, {**settings, "source": source, "preprocess": {}})
    small = Preprocess(size=16, store=16, policy=settings["preprocess"]["policy"])
    prepared = prepare(DataConfig(**{**vars(config), "preprocess": small}))

    def part(side: Side) -> tuple[np.ndarray, np.ndarray]:
        pictures = prepared.pictures(side)
        batches = list(Loader(pictures, Evaluate(small), batch=256, train=False).evaluate())
        return (
            np.concatenate([b.image.flatten(1).numpy() for b in batches]) / 255.0,
            np.concatenate([b.label.numpy() for b in batches]),
        )

    features, labels = part("train")
    solved = probe.logistic(features, labels, part("val"), classes=len(prepared.classes))
    asked, true = part("test")
    return {"accuracy": probe.right(solved.logits(asked), true), "chance": 1 / len(prepared.classes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real pictures")
    parser.add_argument("--only", default="", help="what the names of families and sets contain, several with |")
    parser.add_argument("--core", type=int, help="bind the runs to this core")
    options = parser.parse_args()
    cells = [(name, family) for family in LARGE for name in SETS]
    chosen = [cell for cell in cells if any(part in " ".join(cell) for part in options.only.split("|"))]
    for longer in (None, *LONGER):
        for name, family in chosen:
            if key(name, family, longer) in load() or (longer and not below(runs(name, family)[-1], name)):
                continue
            model = (LARGE if name == "pets/breeds3" else SMALL)[family]
            result = train(options.data, name, model, options.core, longer)
            if "data" in result and f"{name} thumbnails" not in load():
                keep(f"{name} thumbnails", thumbnails(options.data, name, result["data"]))
            keep(key(name, family, longer), result)
    show()


def key(name: str, family: str, longer: str | None) -> str:
    return f"{name} {family}, {longer}" if longer else f"{name} {family}"


def runs(name: str, family: str) -> list[dict]:
    """Those of one cell, the longest last."""
    results = load()
    return [results[k] for k in (key(name, family, longer) for longer in (None, *LONGER)) if k in results]


def below(result: dict, name: str) -> bool:
    """Whether a run ended below what it is held against; one that failed did."""
    floor = load().get(f"{name} thumbnails", {"accuracy": 0.0, "chance": 0.0})
    return result.get("accuracy", 0.0) < max(floor["accuracy"], 2 * floor["chance"])


def show() -> None:
    """The table, failures in red; further figures are of longer budgets."""
    results = load()
    table = Table(title="Test accuracy with defaults (epochs), one thread", box=None)
    table.add_column("family")
    for name, (budget, *_) in SETS.items():
        table.add_column(f"{name}, {budget}", justify="right")
    table.add_row("thumbnails", *(f"{100 * results[f'{name} thumbnails']['accuracy']:.1f}" for name in SETS))
    for family in LARGE:
        row = []
        for name in SETS:
            made = runs(name, family)
            text = ", ".join(f"{100 * r['accuracy']:.1f} ({r['epochs']:.0f})" if "accuracy" in r else "-" for r in made)
            row.append(f"[red]{text}[/red]" if made and below(made[-1], name) else text)
        table.add_row(family, *row)
    Console().print(table)


if __name__ == "__main__":
    main()
