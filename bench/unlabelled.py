"""What pictures without labels are worth, the seconds spent on them counted: cifar10_jpeg, one thread.

    python bench/unlabelled.py --data ../shared/data [--seconds 240] [--seeds 3] [--only dino] [--core 1]

Each arm has the same time in all. Arms that learn without labels first take half of it for that, on the 10,000
unlabelled and the training pictures, and begin the other half with those weights; ``pseudo`` learns from both kinds at
once. Finished arms are kept in bench/results/unlabelled.json and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "unlabelled.json"
LABELS = {"4,250": (), "500": ("--set", "data.fraction=0.1176")}
HYBRID, VIT = "hybrid_tiny_32", "vit_pico_patch4_32"
ARMS = {  # model and what is learned first, if anything
    "scratch, hybrid": (HYBRID, None),
    "scratch, ViT": (VIT, None),
    "simmim, hybrid": (HYBRID, "simmim"),
    "dino, hybrid": (HYBRID, "dino"),
    "mae, ViT": (VIT, "mae"),
    "dino, ViT": (VIT, "dino"),
    "pseudo, hybrid": (HYBRID, None),
}


def load() -> dict[str, dict]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def vitreous(*words: str, core: int | None) -> None:
    subprocess.run(
        [sys.executable, "-m", "vitreous", *words, "--quiet"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )


def measure(data: Path, label: str, labels: str, *, seconds: float, seed: int, core: int | None) -> dict:
    """One arm from beginning to end."""
    model, method = ARMS[label]
    source, further = str(data / "cifar10_jpeg"), ("--unlabelled", str(data / "cifar10_jpeg" / "unlabelled"))
    with tempfile.TemporaryDirectory() as folder:
        first, out = Path(folder) / "first", Path(folder) / "run"
        fixed = ("--model", model, "--seed", str(seed), *LABELS[labels])
        half, found = f"{seconds / 2:g}s", {}
        if method is None:
            also = further if label.startswith("pseudo") else ()
            vitreous("train", source, *fixed, *also, "--budget", f"{seconds:g}s", "--out", str(out), core=core)
        else:
            vitreous(
                "pretrain", source, "--method", method, *fixed, *further, "--budget", half, "--out", str(first),
                core=core,
            )  # fmt: skip
            found = json.loads((first / "frozen.json").read_text())
            vitreous(
                "train", source, "--weights", str(first), "--seed", str(seed), *LABELS[labels], "--budget", half,
                "--out", str(out), core=core,
            )  # fmt: skip
        card = json.loads((out / "card.json").read_text())
    return {
        "accuracy": card["metrics"]["test"]["accuracy"],
        "validation": card["metrics"]["val"]["accuracy"],
        "linear": found.get("logistic"),
        "neighbours": found.get("neighbours"),
        "epochs": card["train"]["epochs"],
        "machine": card["machine"],
    }


def table(seconds: float) -> None:
    shown = Table(title=f"Test accuracy after {seconds:g} s in all", box=None)
    for column in ("labels", "arm", "seeds", "mean", "frozen, linear"):
        shown.add_column(column, justify="left" if column in ("labels", "arm") else "right")
    for labels in LABELS:
        for label in ARMS:
            runs = [v for k, v in load().items() if k.startswith(f"{seconds:g} {labels} {label} ")]
            if runs:
                accuracy, linear = [100 * r["accuracy"] for r in runs], [r["linear"] for r in runs if r["linear"]]
                seen = f"{100 * statistics.fmean(linear):.1f}" if linear else "-"
                each = ", ".join(f"{a:.1f}" for a in accuracy)
                shown.add_row(labels, label, each, f"{statistics.fmean(accuracy):.1f}", seen)
    Console().print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real pictures")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="what the arm and the labels contain, several with |")
    parser.add_argument("--core", type=int, help="bind the runs to this core")
    options = parser.parse_args()
    for seed in range(options.seeds):
        for labels in LABELS:
            for label in ARMS:
                key = f"{options.seconds:g} {labels} {label} {seed}"
                if key not in load() and any(part in key for part in options.only.split("|")):
                    found = measure(options.data, label, labels, seconds=options.seconds, seed=seed, core=options.core)
                    RESULTS.write_text(json.dumps({**load(), key: found}, indent=1) + "\n")
    table(options.seconds)


if __name__ == "__main__":
    main()
