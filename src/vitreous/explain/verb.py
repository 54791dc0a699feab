"""The verb ``trace``. Importing this loads neither torch nor another room: the command line's help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitreous.explain.trace import Trace


def trace(
    model: str,
    *,
    size: int | tuple[int, int] | str | None = None,
    batch: int = 1,
    stage: str | None = None,
    image: str | Path | None = None,
    out: str | Path | None = None,
    timed: bool = True,
) -> Trace:
    """Every tensor on its way through a model, and what it costs.

    Parameters
    ----------
    model
        A name of the catalogue.
    size
        Side of the pictures in pixels, (rows, columns), or a text such as 160x224; the model's own by default.
        Pictures that are not square go through the model built for its own size.
    batch
        Pictures that go through at once.
    stage
        Keep only the operations of this stage, or of the module at this dotted path.
    image
        A picture to draw the model's patches, windows and cells on; without it an embedded one.
    out
        Where to write that drawing, a PNG; MODEL.trace.png by default. There is none if neither is given.
    timed
        Also run the model, for the share of time of each stage, unless a pass is more than 2 * 10^12 MACs.

    Raises:
        UsageError: an unknown model or stage, a size or batch it cannot take, no such picture, or no place for the
            drawing.
        UnreadableImage: the picture cannot be decoded.
    """
    from vitreous.explain.trace import trace as follow

    if image is None and out is None:
        return follow(model, size=size, batch=batch, stage=stage, timed=timed)
    from vitreous.explain.cuts import draw, opened

    place = Path(f"{model}.trace.png" if out is None else out)
    pixels = opened(place, image)  # before the passes, which take their time
    found = follow(model, size=size, batch=batch, stage=stage, timed=timed)
    return found._replace(drawing=draw(model, place, size=size, pixels=pixels))
