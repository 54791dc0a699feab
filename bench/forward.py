"""Inference against timm and transformers: same architecture, same pictures, taking turns.

    scripts/peers && .venv-peers/bin/python bench/forward.py [--repeats 15] [--models NAME ...] [--precision float32]

Ours is ``Network.optimise()``; the others as they come, in evaluation mode, channels last where they are convolutional,
and in bfloat16 whole (not by autocast, which is a little slower). Goals as ratio of medians to the faster of both, by
family: ViT 1.05, Swin 1.25, MobileViT 1.5, convolutional networks 1.3; no more live memory than timm.
"""

from __future__ import annotations

import argparse

from duel import Job, report

MODELS = (
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "mobilevit_s",
    "mobilevitv2_100",
    "efficientvit_b1",
    "efficientvit_m2",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "resnet50",
    "convnext_tiny",
)
JOBS = [Job("forward", model, 8, bfloat16) for model in MODELS for bfloat16 in (False, True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="only this one")
    parser.add_argument("--out", default="forward", help="name of the file in bench/results")
    chosen = parser.parse_args()
    jobs = [
        job
        for job in JOBS
        if (not chosen.models or job.model in chosen.models)
        and chosen.precision in (None, "bfloat16" if job.bfloat16 else "float32")
    ]
    report("Inference at each model's own size", chosen.out, jobs, chosen.repeats)


if __name__ == "__main__":
    main()
