"""How soon is the default as good as what timm's ViT-Ti ends with? One thread each, on the same core, on cifar10_jpeg.

    .venv-peers/bin/python bench/time_to_accuracy.py peer --data ../shared/data --minutes 15
    python bench/time_to_accuracy.py ours --data ../shared/data

The peer is ``vit_tiny_patch16_224`` of timm with the defaults of its training script: SGD with momentum 0.9, rate 0.05,
weight decay 2e-5, batch 128, label smoothing 0.1, random resized crops from 8 % of the area on, colour jitter 0.4,
mirror images; the cosine is annealed over the time. Our default is run with longer and longer budgets until its test
accuracy is the peer's or better; a budget counts as a whole, from the start of the process on. The peer learns from all
training pictures, ours holds some out for validation. Results: bench/results/time_to_accuracy.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "time_to_accuracy.json"
DATA = "cifar10_jpeg"
BUDGETS = (10, 15, 20, 30, 45, 60, 90, 120, 180)


def keep(**values: object) -> None:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**known, **values}, indent=1) + "\n")


def peer(data: Path, minutes: float) -> None:
    """Train timm's ViT-Ti for ``minutes``, and measure it on the test pictures."""
    import peers  # noqa: F401 - makes torchvision importable
    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform, resolve_data_config
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

    torch.set_num_threads(1)
    torch.manual_seed(0)
    begin = time.monotonic()
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10)
    config = resolve_data_config({}, model=model)
    views = create_transform(**config, is_training=True, color_jitter=0.4, hflip=0.5, scale=(0.08, 1.0))
    plain = create_transform(**config, is_training=False)
    classes = sorted(p.name for p in (data / DATA / "train").iterdir())

    def listed(side: str) -> list[tuple[Path, int]]:
        return [(f, k) for k, name in enumerate(classes) for f in sorted((data / DATA / side / name).iterdir())]

    train = listed("train")
    optimiser = create_optimizer_v2(model, opt="sgd", lr=0.05, weight_decay=2e-5, momentum=0.9)
    judge, batch, done, seconds = LabelSmoothingCrossEntropy(0.1), 128, 0, minutes * 60
    order = torch.randperm(len(train)).tolist()
    while time.monotonic() - begin < seconds:
        share = (time.monotonic() - begin) / seconds
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * min(1.0, share / 0.05) * 0.5 * (1 + math.cos(math.pi * share))
        if done + batch > len(order):
            order, done = torch.randperm(len(train)).tolist(), 0
        some = [train[i] for i in order[done : done + batch]]
        done += batch
        images = torch.stack([views(Image.open(f).convert("RGB")) for f, _ in some])
        loss = judge(model(images), torch.tensor([k for _, k in some]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    test, right = listed("test"), 0
    with torch.inference_mode():
        for start in range(0, len(test), batch):
            some = test[start : start + batch]
            images = torch.stack([plain(Image.open(f).convert("RGB")) for f, _ in some])
            right += int((model(images).argmax(1) == torch.tensor([k for _, k in some])).sum())
    keep(peer={"minutes": minutes, "accuracy": right / len(test), "timm": timm.__version__})


def ours(data: Path) -> None:
    """Longer and longer budgets of the default, until one is as good."""
    wanted = json.loads(RESULTS.read_text())["peer"]
    tried = {}
    for budget in BUDGETS:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            command = ["train", str(data / DATA), "--budget", f"{budget}s", "--out", str(out), "--quiet"]
            subprocess.run(
                [sys.executable, "-m", "vitreous", *command],
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            card = json.loads((out / "card.json").read_text())
        tried[budget] = card["metrics"]["test"]["accuracy"]
        keep(ours=tried)
        print(f"{budget} s: {100 * tried[budget]:.1f} %, wanted {100 * wanted['accuracy']:.1f} %")
        if tried[budget] >= wanted["accuracy"]:
            print(f"ratio {budget / 60 / wanted['minutes']:.3f}")
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("peer", "ours"))
    parser.add_argument("--data", type=Path, required=True, help="the folder of real pictures")
    parser.add_argument("--minutes", type=float, default=15.0)
    options = parser.parse_args()
    if options.engine == "peer":
        peer(options.data, options.minutes)
    else:
        ours(options.data)


if __name__ == "__main__":
    main()
