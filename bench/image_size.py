"""What a larger picture costs: time and memory of inference at 224, 448 and 896 pixels, ours and timm's.

    scripts/peers && .venv-peers/bin/python bench/image_size.py [--repeats 9] [--sizes 224 448 896] [--models NAME ...]

Batch 1, float32. Theory: everything in a Swin grows with the number of pixels, four times a doubling; a ViT's attention
grows with its square, sixteen times, and takes over when there are many more tokens than the width. Writes
bench/results/image_size.json and draws docs/image_size.svg from it; ``--draw`` only draws.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from duel import RESULTS, Job, duel, record, save

from vitreous.reports.svg import Markup, Plane, drawing, tag

MODELS = {"vit_small_patch16_224": "ViT-S/16", "swin_tiny_patch4_window7_224": "Swin-T"}
PICTURE = Path(__file__).parents[1] / "docs" / "image_size.svg"
STYLE = """
.grid{stroke:#8884;stroke-width:1}.line{fill:none;stroke-width:2}
.ViT-S_16{stroke:#3b6fb6}.Swin-T{stroke:#c7622b}.timm{stroke-dasharray:3 4}.pixels{stroke:#888;stroke-width:1}
text{font:12px system-ui,sans-serif;fill:#777}.title{font-weight:600}
"""


def panel(rows: list[dict[str, Any]], left: float, title: str, of: str) -> list[Markup]:
    """Both axes doubling, so that what grows with the pixels is a straight line as steep as the grey one."""
    values = [_value(row, engine, of) for row in rows for engine in ("vitreous", "timm")]
    sizes = sorted({row["size"] for row in rows})
    ends = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    plane = Plane(x=(math.log2(sizes[0]), math.log2(sizes[-1])), y=ends, left=left, top=34, width=250, height=250)
    marks = [(math.log2(s), f"{s}") for s in sizes], [(float(e), f"{2.0**e:g}") for e in range(ends[0], ends[1] + 1)]
    parts = plane.axes(*marks)
    parts.append(tag("text", title, x=left, y=18, class_="title"))
    ends_of_lines = {}
    for model, name in MODELS.items():
        chosen = sorted((row for row in rows if row["model"] == model), key=lambda row: row["size"])
        for engine in ("vitreous", "timm") if chosen else ():
            xs, ys = zip(*((math.log2(r["size"]), math.log2(_value(r, engine, of))) for r in chosen), strict=True)
            parts.append(plane.path(xs, ys, f"line {name.replace('/', '_')} {engine}"))
            if engine == "vitreous":
                ends_of_lines[name] = plane.at(xs[-1], ys[-1])
    lowest = math.inf
    for name, (x, y) in sorted(ends_of_lines.items(), key=lambda item: -item[1][1]):
        lowest = min(y, lowest - 14)  # a name stands clear of the one below it
        parts.append(tag("text", name, x=x + 6, y=lowest + 4))
    steep = min(float(ends[1] - ends[0]), 2 * (plane.x[1] - plane.x[0]))
    parts.append(plane.segment(plane.x[0], ends[0], plane.x[0] + steep / 2, ends[0] + steep, "pixels"))
    return parts


def _value(row: dict[str, Any], engine: str, of: str) -> float:
    """Milliseconds, or MiB."""
    return statistics.median(row[f"{engine}_seconds"]) * 1e3 if of == "seconds" else row[f"{engine}_live"]


def draw(rows: list[dict[str, Any]]) -> str:
    """The picture as SVG."""
    said = "; ".join(
        f"{MODELS[r['model']]} at {r['size']} pixels {_value(r, 'vitreous', 'seconds'):.0f} ms and "
        f"{r['vitreous_live']:.0f} MiB, timm {_value(r, 'timm', 'seconds'):.0f} ms and {r['timm_live']:.0f} MiB"
        for r in rows
    )
    parts = [
        tag("style", Markup(STYLE)),
        *panel(rows, 48, "milliseconds a picture", "seconds"),
        *panel(rows, 420, "MiB of live tensors", "live"),
        tag(
            "text", "side of the picture; full lines ours, dashed timm, grey: in proportion to the pixels", x=48, y=330
        ),
    ]
    drawn = drawing(740, 342, said, *parts)
    return str(drawn).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--sizes", nargs="*", type=int, default=[224, 448, 896])
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--draw", action="store_true", help="draw the results that are there")
    parser.add_argument("--out", default="image_size", help="name of the file in bench/results")
    chosen = parser.parse_args()
    place = RESULTS / f"{chosen.out}.json"
    if not chosen.draw:
        rows = []
        for model in chosen.models:
            for size in chosen.sizes:
                job = Job("forward", model, 1, size=size)
                sides = duel(job, chosen.repeats, ("vitreous", "timm"))
                rows.append(record(job, sides))
                save(chosen.out, chosen.repeats, rows)
                shown = ", ".join(f"{e} {s.median * 1e3:.0f} ms and {s.live:.0f} MiB live" for e, s in sides.items())
                print(f"{job.label} at {size}: {shown}", flush=True)
    PICTURE.write_text(draw(json.loads(place.read_text())["rows"]))


if __name__ == "__main__":
    main()
