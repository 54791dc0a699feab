"""Models trained end to end on real pictures, several seeds each: the numbers of docs/recipes.md.

    python bench/recipes.py --data ../shared/data --table start [--only "3m hybrid"] [--seeds 3] [--jobs 2]

Each arm is one ``vitreous train`` command in a process of its own with one thread, bound to a core of its own, so that
two of them share two cores fairly. Finished runs are kept in bench/results/recipes.json and not repeated; the table is
printed at the end.
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
from queue import SimpleQueue
from threading import Lock
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "recipes.json"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantiles of Student's t for n seeds


class Arm(NamedTuple):
    """One line of a table: what is trained on what, and how."""

    data: str  # below --data
    label: str
    options: tuple[str, ...]


def arm(data: str, label: str, *options: str) -> Arm:
    """``options`` are words of a command line; what has an equals sign is a --set."""
    words = [word for option in options for word in (["--set", option] if "=" in option else option.split())]
    return Arm(data, label, tuple(words))


CIFAR, BREEDS = "cifar10_jpeg", "pets/breeds3"
HYBRID = "--model hybrid_tiny_32"
THOUSAND = "data.fraction=0.2353"  # of 4,250

TABLES = {
    # where the default stands on cifar10_jpeg, at equal time
    "start": [
        arm(CIFAR, f"{budget} {label}", f"--budget {budget}", *options)
        for budget in ("3m", "10m", "40m")
        for label, options in {
            "novice ViT": ("--model vit_pico_patch4_32", "--recipe plain"),
            "hybrid": (HYBRID,),
            "hybrid, convolution for attention": (HYBRID, "network.options.mixer=conv"),
            "hybrid, nothing for attention": (HYBRID, "network.options.mixer=none"),
            "small hybrid": ("--model hybrid_small_32",),
            "small hybrid, mixup and cutmix": ("--model hybrid_small_32", "task.mix.cutmix=1", "task.mix.mixup=0.8"),
            "small hybrid, convolution for attention": ("--model hybrid_small_32", "network.options.mixer=conv"),
            "small hybrid, nothing for attention": ("--model hybrid_small_32", "network.options.mixer=none"),
            "ResNet-20": ("--model resnet20_cifar",),
            "ResNet-32": ("--model resnet32_cifar",),
        }.items()
    ],
    "breeds": [
        arm(BREEDS, f"4m {label}", "--budget 4m", *options)
        for label, options in {
            "hybrid": ("--model hybrid_tiny_96",),
            "hybrid, nothing for attention": ("--model hybrid_tiny_96", "network.options.mixer=none"),
            "hybrid, plain crops": ("--model hybrid_tiny_96", "task.augment.policy=none"),
            "ViT": ("--model vit_pico_patch8_96",),
            "ResNet-18": ("--model resnet18", "--size 96"),
            "ResNet-18, last norms one": ("--model resnet18", "--size 96", "network.options.zero_init=false"),
        }.items()
    ],
}

TABLES["parts"] = [  # what single parts are worth, at equal epochs, so that a busy machine does not matter
    arm(data, f"{epochs} epochs {label}", f"--model {model} --epochs {epochs}", *options)
    for label, options in {
        "hybrid": (),
        "AdamW for Muon": ("train.optim.name=adamw",),
        "no running average": ("train.optim.ema=none",),
        "no label smoothing": ("task.label_smoothing=0",),
        "float32": ("train.precision=fp32",),
        "short running average": ("train.optim.ema=0.99",),
        "localisation": ("task.locate=0.1",),
        "nothing for attention": ("network.options.mixer=none",),
    }.items()
    for data, model, epochs in ((BREEDS, "hybrid_tiny_96", 150), (CIFAR, "hybrid_tiny_32", 20))
]
TABLES["long"] = [  # what helps where each picture is seen hundreds of times: 1,000 training pictures
    arm(CIFAR, f"1,000 pictures, {epochs} epochs {label}", f"--model {model} --epochs {epochs}", THOUSAND, *options)
    for label, model, epochs, options in (
        ("hybrid", "hybrid_tiny_32", 200, ()),
        ("hybrid, weight decay 0.1", "hybrid_tiny_32", 200, ("train.optim.muon_weight_decay=0.1",)),
        ("hybrid, mixup and cutmix", "hybrid_tiny_32", 200, ("task.mix.cutmix=1", "task.mix.mixup=0.8")),
        ("hybrid, stochastic depth", "hybrid_tiny_32", 200, ("network.options.drop_path=0.1",)),
        ("hybrid", "hybrid_tiny_32", 100, ()),
        ("hybrid", "hybrid_tiny_32", 400, ()),
        ("small hybrid", "hybrid_small_32", 100, ()),
        ("ResNet-20", "resnet20_cifar", 200, ()),
    )
]
TABLES["wide"] = [  # the wider hybrid against the usual one for about as long
    arm(BREEDS, f"{epochs} epochs {label}", f"--model {model} --epochs {epochs}")
    for label, model, epochs in (("small hybrid", "hybrid_small_96", 150), ("hybrid", "hybrid_tiny_96", 400))
]
TABLES["views"] = [  # how pictures are varied
    arm(BREEDS, f"150 epochs {label}", "--model hybrid_tiny_96 --epochs 150", f"task.augment.policy={policy}", *options)
    for label, policy, options in (
        ("plain crops", "none", ()),
        ("TrivialAugment", "trivial", ()),
        ("TrivialAugment, plain for the last fifth", "trivial", ("task.augment.off_after=0.8",)),
    )
] + [
    arm(
        CIFAR,
        f"{epochs} epochs {label}",
        f"--model hybrid_tiny_32 --epochs {epochs}",
        f"task.augment.policy={policy}",
        *options,
    )
    for epochs, label, policy, options in (
        (30, "plain crops", "none", ()),
        (30, "TrivialAugment, plain for the last half", "trivial", ("task.augment.off_after=0.5",)),
        (110, "plain crops", "none", ()),
        (110, "TrivialAugment", "trivial", ()),
        (110, "TrivialAugment, plain for the last fifth", "trivial", ("task.augment.off_after=0.8",)),
    )
]

lock = Lock()


def load() -> dict[str, dict]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def words(arm: Arm, seed: int) -> list[str]:
    return ["train", f"DATA/{arm.data}", *arm.options, "--seed", str(seed)]


def key(arm: Arm, seed: int) -> str:
    return " ".join(["vitreous", *words(arm, seed)])


def train(data: Path, arm: Arm, seed: int, cores: SimpleQueue[int]) -> None:
    if key(arm, seed) in load():
        return
    command = words(arm, seed)
    core = cores.get()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        real = [str(data / arm.data) if c.startswith("DATA/") else c for c in command]
        start = time.monotonic()
        try:
            subprocess.run(
                [sys.executable, "-m", "vitreous", *real, "--out", str(out), "--quiet"],
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )
        finally:
            cores.put(core)
        card = json.loads((out / "card.json").read_text())
    result = {
        "data": arm.data,
        "model": card["network"]["model"],
        "seed": seed,
        "accuracy": card["metrics"]["test"]["accuracy"],
        "interval": card["metrics"]["test"]["accuracy_interval"],
        "pictures": card["metrics"]["test"]["count"],
        "validation": card["metrics"]["val"]["accuracy"],  # what choices are made by
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
        RESULTS.write_text(json.dumps({**load(), key(arm, seed): result}, indent=1) + "\n")


def table(arms: list[Arm], seeds: int) -> None:
    shown = Table(title="Test accuracy, one thread", box=None)
    for column in ("data", "arm", "seeds", "accuracy", "95 % interval", "epochs", "images/s", "minutes", "ECE"):
        shown.add_column(column, justify="left" if column in ("data", "arm") else "right")
    results = load()
    for arm in arms:
        runs = [results[k] for k in (key(arm, seed) for seed in range(seeds)) if k in results]
        if not runs:
            continue
        accuracy = [100 * r["accuracy"] for r in runs]
        half = STUDENT[len(runs)] * statistics.stdev(accuracy) / len(runs) ** 0.5 if len(runs) > 1 else float("nan")
        mean = {k: statistics.fmean(r[k] for r in runs) for k in ("epochs", "images_per_second", "minutes", "ece")}
        shown.add_row(
            arm.data,
            arm.label,
            ", ".join(f"{a:.1f}" for a in accuracy),
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
    parser.add_argument("--table", choices=TABLES, required=True)
    parser.add_argument("--only", default="", help="what the labels of the arms contain, several with |")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    arms = [a for a in TABLES[options.table] if any(part in a.label for part in options.only.split("|"))]
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[: options.jobs]:
        cores.put(core)
    with ThreadPoolExecutor(options.jobs) as pool:
        done = [pool.submit(train, options.data, a, seed, cores) for seed in range(options.seeds) for a in arms]
        for future in done:
            future.result()
    table(arms, options.seeds)


if __name__ == "__main__":
    main()
