"""One training step (forward, backward, AdamW) against timm and transformers: same pictures, taking turns.

    scripts/peers && .venv-peers/bin/python bench/train_step.py [--repeats 9] [--models NAME ...]

bfloat16 by autocast. Goal: ratio of medians to the faster of both at least 1.1 for ViT-Ti and 1.0 for the others, at no
more than timm's live memory.
"""

from __future__ import annotations

import argparse

from duel import Job, report

JOBS = (
    Job("train", "vit_tiny_patch16_224", 32),
    Job("train", "vit_tiny_patch16_224", 32, bfloat16=True),
    Job("train", "vit_small_patch16_224", 8),
    Job("train", "swin_tiny_patch4_window7_224", 8),
    Job("train", "mobilevit_s", 8),
    Job("train", "resnet50", 8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--out", default="train_step", help="name of the file in bench/results")
    chosen = parser.parse_args()
    jobs = [job for job in JOBS if not chosen.models or job.model in chosen.models]
    report("Training step at each model's own size", chosen.out, jobs, chosen.repeats)


if __name__ == "__main__":
    main()
