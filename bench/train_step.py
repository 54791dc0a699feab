"""One training step (forward, backward, AdamW) against timm: same weights, same pictures, taking turns.

    scripts/peers && .venv-peers/bin/python bench/train_step.py [--repeats 9] [--models NAME ...]

Goal: at least timm's speed (ratio of medians 1.0 or more) at no more than its peak memory.
"""

from __future__ import annotations

import argparse

from duel import Job, report

JOBS = (
    Job("train", "vit_tiny_patch16_224", 32),
    Job("train", "vit_tiny_patch16_224", 32, bfloat16=True),
    Job("train", "vit_small_patch16_224", 8),
    Job("train", "resnet50", 8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--models", nargs="*", help="only these")
    chosen = parser.parse_args()
    jobs = [job for job in JOBS if not chosen.models or job.model in chosen.models]
    report("Training step, images at 224 pixels", "train_step", jobs, chosen.repeats)


if __name__ == "__main__":
    main()
