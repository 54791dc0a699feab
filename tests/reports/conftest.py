"""Run folders as training leaves them, made from a seed: every number is plausible and none is trained."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

BREEDS = """Abyssinian,American Bulldog,American Pit Bull Terrier,Basset Hound,Beagle,Bengal,Birman,Bombay,Boxer,
British Shorthair,Chihuahua,Egyptian Mau,English Cocker Spaniel,English Setter,German Shorthaired,Great Pyrenees,
Havanese,Japanese Chin,Keeshond,Leonberger,Maine Coon,Miniature Pinscher,Newfoundland,Persian,Pomeranian,Pug,Ragdoll,
Russian Blue,Saint Bernard,Samoyed,Scottish Terrier,Shiba Inu,Siamese,Sphynx,Staffordshire Bull Terrier,
Wheaten Terrier,Yorkshire Terrier""".replace("\n", "").split(",")
THINGS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def names_for(k: int) -> list[str]:
    """Believable class names for any number of classes."""
    if k == 2:
        return ["cat", "dog"]
    if k == 10:
        return THINGS
    return BREEDS[:k] if k <= len(BREEDS) else [f"species {i:03d}" for i in range(k)]


def fake_logits(rng: np.random.Generator, labels: np.ndarray, k: int, skill: float) -> np.ndarray:
    """Logits of a model that is over-confident and confuses neighbouring classes."""
    near = np.exp(-(np.abs(np.arange(k)[:, None] - np.arange(k)[None, :]) ** 2) / 3.0)  # (k, k)
    hardness = rng.gamma(2.0, 0.5, size=len(labels))[:, None]
    signal = skill * near[labels] * np.clip(1.8 - hardness, 0.05, None)
    return (2.2 * (signal + rng.normal(size=(len(labels), k)))).astype(np.float32)


def fake_card(classes: list[str], counts: dict[str, list[int]]) -> dict:
    """A complete card."""
    return {
        "vitreous": "0.1.0",
        "created": "2026-11-03T14:02:11+00:00",
        "command": "vitreous train pets --model vit_tiny_patch16_224 --epochs 60 --seed 0",
        "status": "finished",
        "seed": 0,
        "device": "cpu, 2 threads",
        "initialisation": "scratch",
        "data": {
            "source": "pictures/pets",
            "classes": classes,
            "split": "automatic",
            "counts": counts,
            "digests": {s: "9f2c51d0a7e84b63" * 4 for s in counts},
            "notices": ["4 pictures lie in two classes at once; see the data check."],
            "unreadable": [["Beagle/beagle_061.jpg", "the file ends in the middle of the picture"]],
            "left_out": [["Pug/pug_011.jpg", "a copy of Pug/pug_010.jpg"], ["Pug/x.gif", "in quarantine.csv"]],
        },
        "network": {
            "model": "vit_tiny_patch16_224",
            "parameters": 5531557,
            "macs": 1258000000,
            "size": 224,
            "options": {"drop_path": 0.1, "pool": "mean"},
        },
        "preprocess": {"size": 224, "store": 256, "policy": "crop", "crop": 1.0, "background": [255, 255, 255]},
        "train": {"steps": 1200, "epochs": 60, "batch": 64, "optimiser": "adamw", "lr": 0.001, "weight_decay": 0.05},
        "selection": {"step": 1040, "metric": "accuracy on validation", "value": 0.731},
        "cost": {
            "parameters": 5531557,
            "macs": 1258000000,
            "minutes": 73.2,
            "images_per_second_train": 18.4,
            "images_per_second_predict": 61.0,
            "peak_memory_mb": 1840.0,
        },
        "metrics": {"val": {"accuracy": 0.731, "count": 298, "correct": 218}},
        "versions": {"python": "3.12.3", "vitreous": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6", "pillow": "13.0.0"},
        "licences": {"vitreous": "Apache-2.0"},
        "notices": ["37 classes but fewer than 50 pictures each: expect much from augmentation, little from size."],
    }


def fake_rows(rng: np.random.Generator, steps: int, every: int) -> list[dict]:
    """Log rows of training and evaluation."""
    rows = []
    for step in range(1, steps + 1):
        done = step / steps
        lr = 1e-3 * min(step / (0.1 * steps), 0.5 * (1 + np.cos(np.pi * done)))
        rows.append(
            {"step": step, "epoch": step // 20, "loss": 3.6 * np.exp(-2.2 * done) + rng.normal(0, 0.12), "lr": lr}
        )
        if step % every == 0:
            accuracy = 0.74 * (1 - np.exp(-3.5 * done)) + rng.normal(0, 0.008)
            rows.append({"step": step, "val": {"accuracy": accuracy, "loss": 3.5 * np.exp(-1.6 * done) + 0.25}})
    return rows


@pytest.fixture
def picture() -> Callable[[str], bytes]:
    """A thumbnail maker: a small gradient that depends on the name."""

    def make(name: str) -> bytes:
        shade = sum(name.encode("utf-8", "surrogateescape")) % 200
        pixels = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8) + np.uint8(shade)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder of ``k`` classes and ``n`` test pictures (none: no test split) and gives its path."""

    def make(
        k: int = 10, n: int = 298, *, classes: list[str] | None = None, skill: float = 5.5, **card: object
    ) -> Path:
        rng = np.random.default_rng(k)
        classes = classes or names_for(k)
        weights = rng.dirichlet(np.full(k, 8.0))
        sizes = {"train": 12 * k + 900, "val": max(n, 200), "test": n}
        labels = {s: np.sort(rng.choice(k, size=m, p=weights)).astype(np.int64) for s, m in sizes.items()}
        counts = {s: np.bincount(y, minlength=k).tolist() for s, y in labels.items() if len(y)}
        folder = tmp_path / f"run-{k}-{n}"
        folder.mkdir()
        (folder / "card.json").write_text(json.dumps({**fake_card(classes, counts), **card}))
        rows = fake_rows(rng, 1200, 40)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        tensors, names = {}, {}
        for split in [s for s in ("val", "test") if sizes[s]]:
            tensors[f"{split}_logits"] = fake_logits(rng, labels[split], k, skill)
            tensors[f"{split}_labels"] = labels[split]
            tensors[f"{split}_index"] = np.arange(sizes[split])
            names[split] = [f"{classes[y]}/{split}_{i:04d}.jpg" for i, y in enumerate(labels[split])]
        save_file(tensors, folder / "outputs.safetensors")
        (folder / "outputs.json").write_text(json.dumps(names))
        return folder

    return make
