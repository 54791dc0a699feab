"""Inference against timm: same weights, same pictures, taking turns.

    scripts/peers && .venv-peers/bin/python bench/forward.py [--repeats 15] [--models NAME ...]

Goal: at least timm's speed (ratio of medians 1.0 or more) at no more than its peak memory.
"""

from __future__ import annotations

import argparse

from duel import Job, report

JOBS = (
    Job("forward", "vit_tiny_patch16_224", 8),
    Job("forward", "vit_small_patch16_224", 8),
    Job("forward", "vit_small_patch16_224", 8, bfloat16=True),
    Job("forward", "resnet50", 8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--models", nargs="*", help="only these")
    chosen = parser.parse_args()
    jobs = [job for job in JOBS if not chosen.models or job.model in chosen.models]
    report("Inference, images at 224 pixels", "forward", jobs, chosen.repeats)


if __name__ == "__main__":
    main()
