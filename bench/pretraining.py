"""One step of MAE against one supervised step of the same ViT on all tokens, and against transformers' ViT-MAE.

    scripts/peers && .venv-peers/bin/python bench/pretraining.py [--repeats 9] [--batch 16]

Each engine has a process of its own, and they take turns. All do forward, backward and a fused AdamW step of
ViT-S/16 at 224 pixels in the same precision; both decoders are 2 blocks of width 192, hide three quarters of the
patches, begin with the same weights, and must begin with the same loss. Goals: 3.5 times the images a second of the
supervised step at 45 % of its live memory, and 1.2 times those of transformers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from duel import Child, Side, attend, save, turns
from engines import Job

MODEL, PATCHES, HIDDEN = "vit_small_patch16_224", 196, 147
DECODER = {"width": 192, "depth": 2, "heads": 6}
ENGINES = ("transformers", "mae", "supervised")  # the first one writes the weights


def step(engine: str, job: Job, weights: str) -> Callable[[], Any]:
    """One step of the engine, as a function without arguments that returns the loss."""
    import torch

    torch.manual_seed(1)
    image, label = torch.rand(job.batch, 3, job.side, job.side), torch.randint(0, 1000, (job.batch,))
    hidden = torch.rand(job.batch, PATCHES).argsort(dim=1) < HIDDEN
    torch.manual_seed(0)
    module, loss = {"transformers": _transformers, "mae": _mae, "supervised": _supervised}[engine](job, weights)
    optimiser = torch.optim.AdamW([p for p in module.train().parameters() if p.requires_grad], lr=1e-4, fused=True)

    def train() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=job.bfloat16):
            value = loss(image, label, hidden)
        value.backward()
        optimiser.step()
        optimiser.zero_grad()
        return value.detach()

    return train


Built = tuple[Any, Callable[[Any, Any, Any], Any]]


def _network(job: Job) -> Any:
    from vitreous.network import NetworkConfig, build_network

    return build_network(NetworkConfig(model=job.model, classes=1000, size=job.side))


def _supervised(job: Job, weights: str) -> Built:
    import torch.nn.functional as F

    network = _network(job)
    return network, lambda image, label, hidden: F.cross_entropy(network(image), label)


def _mae(job: Job, weights: str) -> Built:
    import torch
    from pretexts import Unwatched, load

    from vitreous.data.preprocess import Preprocess
    from vitreous.data.transforms import AugmentConfig
    from vitreous.tasks.mae import Mae, MaeConfig
    from vitreous.types import Batch

    side = job.side
    task = Mae(_network(job), MaeConfig(**DECODER), Preprocess(size=side, store=side), AugmentConfig(), Unwatched())
    load(task, torch.load(weights))
    return task, lambda image, label, hidden: task.loss(Batch(image, label, label, hidden=hidden)).total


def _transformers(job: Job, weights: str) -> Built:
    import peers  # noqa: F401 - before torchvision
    import torch
    import transformers
    from torchvision.transforms.functional import normalize

    from vitreous.network import IMAGENET_MEAN, IMAGENET_STD

    theirs = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "layer_norm_eps": 1e-6}
    decoder = {
        "decoder_hidden_size": DECODER["width"],
        "decoder_num_hidden_layers": DECODER["depth"],
        "decoder_num_attention_heads": DECODER["heads"],
        "decoder_intermediate_size": 4 * DECODER["width"],
    }
    peer = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**theirs, **decoder, norm_pix_loss=True))
    torch.save(peer.state_dict(), weights)

    def loss(image: torch.Tensor, label: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return peer(normalize(image, IMAGENET_MEAN, IMAGENET_STD), noise=hidden.float()).loss

    return peer, loss


def compare(job: Job, repeats: int) -> dict[str, Side]:
    """All engines on one job; both MAEs must begin with the same loss."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        weights, children, first = str(Path(folder) / "weights.pt"), {}, {}
        for engine in ENGINES:
            children[engine] = stack.enter_context(Child(engine, job, weights, __file__))
            first[engine] = children[engine].hear()
        ours, theirs = (first[engine]["answer"][0] for engine in ("mae", "transformers"))
        assert abs(ours / theirs - 1) < (0.02 if job.bfloat16 else 1e-5), f"losses begin at {ours} and {theirs}"
        return turns(children, {engine: told["live"] for engine, told in first.items()}, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch", type=int, default=16)
    chosen = parser.parse_args()
    rows = []
    for bfloat16 in (False, True):
        job = Job("mae", MODEL, chosen.batch, bfloat16)
        sides = compare(job, chosen.repeats)
        mae = sides["mae"]
        row = (
            job._asdict()
            | {"size": job.side}
            | {f"{e}_{k}": v for e, s in sides.items() for k, v in s._asdict().items()}
        )
        row |= {f"times_{e}": sides[e].median / mae.median for e in ("supervised", "transformers")}
        row |= {"memory_of_supervised": mae.live / sides["supervised"].live}
        rows.append(row)
        save("pretraining", chosen.repeats, rows)
        print(
            f"{job.label}: {job.batch / mae.median:.1f} images/s; {row['times_supervised']:.2f} times the supervised"
            f" step's, {row['times_transformers']:.2f} times transformers'; {mae.live:.0f} MiB live,"
            f" {row['memory_of_supervised']:.0%} of the supervised step's; undisturbed repeats"
            f" {'/'.join(str(sides[e].undisturbed) for e in ENGINES)} of {chosen.repeats}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in ENGINES:
        attend(step(sys.argv[1], Job(*json.loads(sys.argv[2])), sys.argv[3]))
    else:
        main()
