"""The ledger of weights against timm's own records. Run it in the peers' environment.

Compares licence, repository, size, crop, normalisation, interpolation and number of classes of every row, and which tag
is the default; accuracies are not in the library. With ``--load PATTERN`` it also makes timm's model of each tag with
random weights, and loads its file here by the way that published weights take.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from pathlib import Path

import peers  # noqa: F401 - before timm
import timm
from safetensors.torch import save_model
from timm.models import get_pretrained_cfg

from vitreous.errors import VitreousError
from vitreous.models import CATALOGUE
from vitreous.weights import pretrained
from vitreous.weights.ledger import LEDGER, Weights, repository

LICENCES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cvnets-license": "Apple-CVNets",
}


def differences(name: str, weights: Weights) -> list[str]:
    """What timm says otherwise."""
    theirs = get_pretrained_cfg(f"{name}.{weights.tag}")
    if theirs is None or theirs.tag != weights.tag:
        return ["timm has no such tag"]
    sizes = [(theirs.input_size[1], theirs.crop_pct)]
    if theirs.test_input_size:
        sizes.append((theirs.test_input_size[1], theirs.test_crop_pct))
        sizes.append((theirs.test_input_size[1], theirs.crop_pct))
    pairs = {
        "licence": (LICENCES.get(theirs.license, theirs.license), weights.licence),
        "repository": (theirs.hf_hub_id, repository(name, weights)),
        "normalisation": ((tuple(theirs.mean), tuple(theirs.std)), weights.normalisation),
        "interpolation": (theirs.interpolation, weights.interpolation),
        "classes": (theirs.num_classes, weights.classes),
    }
    found = [f"{what}: timm {a}, ledger {b}" for what, (a, b) in pairs.items() if a != b]
    if (weights.size, weights.crop) not in sizes:
        found.append(f"size and crop: timm {sizes}, ledger {(weights.size, weights.crop)}")
    return found


def refusal(name: str, weights: Weights) -> str | None:
    """Why timm's file does not load here, if it does not."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_model(timm.create_model(f"{name}.{weights.tag}"), str(file))
        try:
            pretrained.create(name, tag=weights.tag, file=file, classes=None if weights.classes else 3)
        except VitreousError as error:
            return str(error)
    return None


def main() -> int:
    """Print every difference; 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", metavar="PATTERN", default="", help="names whose files are loaded, such as 'vit_*'")
    pattern = parser.parse_args().load
    bad = 0
    for name, rows in LEDGER.items():
        default = get_pretrained_cfg(name)
        if default is None or default.tag != rows[0].tag:
            print(f"{name}: timm's default is {default and default.tag}, ours {rows[0].tag}")
            bad += 1
        for weights in rows:
            for text in differences(name, weights):
                print(f"{name}.{weights.tag}: {text}")
                bad += 1
            said = refusal(name, weights) if fnmatch.fnmatch(name, pattern) else None
            if said:
                print(f"{name}.{weights.tag} does not load: {said}")
                bad += 1
    for name in CATALOGUE:
        if timm.is_model_pretrained(name) and name not in LEDGER:
            print(f"{name}: timm has weights, the ledger has none")
            bad += 1
    count = sum(len(rows) for rows in LEDGER.values())
    print(f"{count} weights of {len(LEDGER)} models against timm {timm.__version__}: {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
