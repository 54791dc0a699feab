"""Pictures of what is learned without labels: the same few pictures at each evaluation, as the task shows them.

Files of the run folder, of which those far enough apart are kept. Knows no method but by its contract.
"""

from __future__ import annotations

import re
from contextlib import closing

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vitreous.data.dataset import Pictures
from vitreous.data.image import encode_png
from vitreous.data.loader import Loader
from vitreous.data.preprocess import Preprocess, shrink
from vitreous.store.checkpoint import LEARNED, RunFolder
from vitreous.tasks.task import SelfSupervised

SHOWN = 6  # pictures
KEPT = 12  # strips
SIDE = 96  # of a panel in pixels: larger ones are reduced to it, smaller ones repeated up to it
GAP = 4  # transparent pixels around a panel
_NAME = re.compile(r"step-(\d{8,})\.png")


class Strips:
    """Draws a strip at each evaluation into ``folder``.

    What is kept hangs on the strips alone that lie there, so a run that was killed and goes on keeps the same.

    Args:
        pictures: what is drawn of, the same each time.
    """

    def __init__(self, folder: RunFolder, pictures: Pictures) -> None:
        self.folder, self.pictures = folder, pictures

    def __call__(self, task: SelfSupervised) -> None:
        """Draw what ``task`` shows now, and drop the strip that is missed least if there are too many.

        Raises:
            NoSpace: the disk is full.
        """
        with closing(Loader(self.pictures, task.views(False), batch=SHOWN, train=False, workers=0).evaluate()) as views:
            batch = next(views).to(task.network.mean.device)
        self.folder.write(f"{LEARNED}/step-{task.step:08d}.png", encode_png(strip(task.show(batch).cpu())))
        steps = self._steps()
        later = [step for step in steps if step > task.step]  # of a course that was given up
        for step in [*later, *crowded([step for step in steps if step not in later])]:
            (self.folder.path / LEARNED / f"step-{step:08d}.png").unlink()

    def _steps(self) -> list[int]:
        found = (_NAME.fullmatch(path.name) for path in (self.folder.path / LEARNED).iterdir())
        return sorted(int(match[1]) for match in found if match)


def crowded(steps: list[int]) -> list[int]:
    """Which of ``steps``, in order, go so that ``KEPT`` stay: each time the one whose neighbours are closest."""
    kept, gone = list(steps), []
    while len(kept) > KEPT:
        place = min(range(1, len(kept) - 1), key=lambda i: kept[i + 1] - kept[i - 1])
        gone.append(kept.pop(place))
    return gone


def strip(shown: Tensor) -> Tensor:
    """(b, v, 3, h, w) in [0, 1] -> (4, H, W) uint8 with transparency: a column a picture, its panels from the top."""
    b, v = shown.shape[:2]
    pixels = (255 * shown.float()).round().to(torch.uint8).flatten(0, 1)  # (b v, 3, h, w)
    small = Preprocess(size=SIDE, store=SIDE)
    times = max(1, SIDE // min(pixels.shape[2:]))
    panels = torch.stack([shrink(panel, small) for panel in pixels])
    panels = panels.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    opaque = torch.full_like(panels[:, :1], 255)
    framed = F.pad(torch.cat([panels, opaque], dim=1), (0, GAP, 0, GAP))
    return rearrange(framed, "(b v) c h w -> c (v h) (b w)", b=b, v=v)[:, :-GAP, :-GAP]
