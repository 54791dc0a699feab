"""What is drawn over a picture is what the built network does to it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.errors import UnreadableImage, UsageError
from vitreous.explain.cuts import draw, panels
from vitreous.explain.render import BOLD, SIDE, Panel, sheet
from vitreous.models import create


def read(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_a_vit_is_its_patches() -> None:
    with torch.device("meta"):
        one, two = panels(create("vit_base_patch16_224"), 224)
    assert one.caption == "14 x 14 = 196 tokens" and two.apart == 14
    assert one.thin == [16 * i / 224 for i in range(1, 14)]


def test_a_cnn_is_the_cells_of_its_maps() -> None:
    with torch.device("meta"):
        found = list(panels(create("resnet18"), 100))
    assert [len(p.thin) + 1 for p in found] == [25, 13, 7, 4]
    assert found[-1].caption == "4 x 4 cells of 32 pixels, 512 channels"


def test_a_swin_is_windows_and_shifted_windows() -> None:
    with torch.device("meta"):
        patches, plain, shifted, *rest = panels(create("swin_tiny_patch4_window7_224"), 224)
    assert patches.caption == "56 x 56 = 3136 tokens"
    assert plain.bold == [28 * i / 224 for i in range(1, 8)] and not plain.tints
    assert shifted.bold == [(12 + 28 * i) / 224 for i in range(8)]
    strips = {}
    for (left, top, right, bottom), colour in shifted.tints:
        strips[colour] = strips.get(colour, 0) + (right - left) * (bottom - top)
    edge, middle = 7 / 56, 49 / 56  # of a side: the two edges together are one window wide
    assert sorted(strips.values()) == pytest.approx(sorted([edge * edge, edge * middle, edge * middle]))
    assert [p.title.partition(":")[0] for p in rest] == ["stage 2", "stage 2", "stage 3", "stage 3", "stage 4"]


def test_a_sheet_holds_every_panel() -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    plain, lined = (read(sheet(grey, [p])) for p in (Panel("a", "b"), Panel("a", "b", bold=[0.5])))
    changed = (plain != lined).any(axis=2)
    assert changed.any() and (lined[changed] == BOLD).all()
    rows, columns = np.nonzero(changed)
    assert rows.max() - rows.min() > 0.9 * SIDE and columns.max() - columns.min() > 0.9 * SIDE
    tinted = read(sheet(grey, [Panel("a", "b", tints=[((0, 0, 0.5, 0.5), (255, 0, 0))])]))
    area = (plain != tinted).any(axis=2)
    assert area.sum() == (SIDE // 2) ** 2 and (tinted[area][:, 0] > 128).all()
    five = read(sheet(grey, [Panel("a", "b")] * 5))
    assert five.shape[0] > 1.8 * plain.shape[0] and five.shape[1] > 3.5 * plain.shape[1]


def test_the_drawing_is_written(tmp_path: Path) -> None:
    Image.new("RGB", (50, 30), (200, 0, 0)).save(tmp_path / "red.jpg")
    place = draw("resnet18", tmp_path / "a.png", size=64, image=tmp_path / "red.jpg")
    reds = read(place.read_bytes()).astype(int)
    assert ((reds[..., 0] > 150) & (reds[..., 1] < 60)).mean() > 0.3
    assert read(draw("vit_pico_patch4_32", tmp_path / "b.png").read_bytes()).any()


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        draw("resnet18", tmp_path / "a.png", image=tmp_path / "none.jpg")
    (tmp_path / "x.jpg").write_text("no picture")
    with pytest.raises(UnreadableImage):
        draw("resnet18", tmp_path / "a.png", image=tmp_path / "x.jpg")
    assert not (tmp_path / "a.png").exists()
