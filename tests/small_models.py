"""Small networks of the same make as each catalogue row: a few blocks, narrow, a few cells wide."""

from __future__ import annotations

from vitreous.models import CATALOGUE, Row

Options = dict[str, object]


def vit(row: Row) -> tuple[int, Options]:
    return 4 * row.options["patch"], {"depth": 2, "width": 16, "heads": 2}


def cct(row: Row) -> tuple[int, Options]:
    kernel, convolutions = row.options.get("kernel", 3), row.options.get("convolutions", 1)
    return 4 * (kernel - 3 or 2) ** convolutions, {"depth": 2, "width": 8 * row.options["heads"]}


def hybrid(row: Row) -> tuple[int, Options]:
    return 32 * 2 ** row.options.get("halvings", 0), {"widths": (8, 12, 16), "depths": (1, 1, 1), "head_dim": 8}


def resnet(row: Row) -> tuple[int, Options]:
    widths = row.options.get("widths", (64, 128, 256, 512))
    return 64 if row.options.get("stem") != "cifar" else 16, {
        "depths": (2,) + (1,) * (len(widths) - 1),
        "widths": tuple(8 * 2**i for i in range(len(widths))),
    }


def convnext(row: Row) -> tuple[int, Options]:
    return 64, {"depths": (2, 1, 1, 1), "widths": tuple(width // 8 for width in row.options["widths"])}


def swin(row: Row) -> tuple[int, Options]:
    heads = row.options["heads"][:2]
    trained = {"trained": (3, 2)} if "trained" in row.options else {}
    return 32, {"width": 4 * heads[0], "depths": (2, 2), "heads": heads, "window": 4, **trained}


def mobilenet(row: Row) -> tuple[int, Options]:
    return 64, {"multiplier": 0.25}


def efficientnet(row: Row) -> tuple[int, Options]:
    return 64, {"wider": 0.25, "deeper": 0.5}


def mobilevit(row: Row) -> tuple[int, Options]:
    widths = tuple(width // 4 for width in row.options["widths"])
    return 64, {"stem": 4, "widths": widths, "dims": (8, 8, 16), "layers": (1, 2, 1), "head": 32}


def mobilevitv2(row: Row) -> tuple[int, Options]:
    return 64, {"multiplier": 0.125, "layers": (1, 2, 1)}


def efficientvit(row: Row) -> tuple[int, Options]:
    return 64, {"widths": (8, 8, 16, 16, 24), "depths": (1, 2, 1, 1, 1), "head_dim": 8, "head": (32, 40)}


def efficientvit_ms(row: Row) -> tuple[int, Options]:
    return 128, {"widths": (16, 24, 32), "depths": (1, 1, 1), "heads": (2, 3, 2), "key": 4}


SMALL = {
    "efficientvit": efficientvit,
    "efficientvit_ms": efficientvit_ms,
    "mobilevit": mobilevit,
    "mobilevitv2": mobilevitv2,
    "vit": vit,
    "cct": cct,
    "swin": swin,
    "swinv2": swin,
    "hybrid": hybrid,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "efficientnet": efficientnet,
    "convnext": convnext,
}


def small(row: Row) -> tuple[int, Options]:
    """(size, options that replace the row's)."""
    return SMALL[row.family](row)


def distinct() -> list[str]:
    """One name for each network that differs from the others once it is small."""
    seen: dict[str, str] = {}
    for name, row in CATALOGUE.items():
        size, options = small(row)
        seen.setdefault(repr((row.family, size, sorted((dict(row.options) | options).items()))), name)
    return list(seen.values())
