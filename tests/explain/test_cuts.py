"""What is drawn over a picture is what the built network does to it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitreous
from vitreous.errors import UnreadableImage, UsageError
from vitreous.explain.cuts import CORNERS, ENDS, SIDES, _rolled, draw, panels
from vitreous.explain.render import BOLD, SIDE, Panel, sheet
from vitreous.layers.window import Layout, places
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


@pytest.mark.parametrize("cells", [8, 9, 14, 16, 28, 56, 57, 59, 60, 64, 96])
def test_tints_are_what_the_roll_puts_together(cells: int) -> None:
    """A cell's colour tells the last row of windows, the last column and their corner, as the cells really lie."""
    layout = Layout.of((cells, cells), 7, shifted=True)
    lies = places(layout, 1, torch.device("cpu")).view(*layout.counts, -1)  # (y, x, n): cells of each window
    expected = torch.zeros(cells * cells + 1, dtype=torch.long)
    expected[lies[-1].flatten()] += 1
    expected[lies[:, -1].flatten()] += 2
    colours = {ENDS: 1, SIDES: 2, CORNERS: 3}
    found = torch.zeros(cells, cells, dtype=torch.long)
    for box, colour in _rolled(layout, layout.grid[0]):
        left, top, right, bottom = (round(share * cells) for share in box)
        assert not found[top:bottom, left:right].any()
        found[top:bottom, left:right] = colours[colour]
    assert torch.equal(found, expected[:-1].view(cells, cells))


def test_windows_that_do_not_divide_the_grid() -> None:
    with torch.device("meta"):
        shifted = next(p for p in panels(create("swin_tiny_patch4_window7_224", size=256), 256) if p.tints)
    assert {right for (_, _, right, _), _ in shifted.tints} == {3 / 64, 1.0}  # 64 cells: only the near strip


def test_tints_end_at_the_lines_where_cells_reach_over_the_edge() -> None:
    with torch.device("meta"):
        shifted = [p for p in panels(create("swin_tiny_patch4_window7_224", size=100), 100) if p.tints]
    assert len(shifted) == 2
    for panel in shifted:
        edges = {round(edge, 9) for box, _ in panel.tints for edge in box}
        assert edges - {0.0, 1.0} <= {round(line, 9) for line in panel.bold}


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


@pytest.mark.parametrize(
    ("out", "image", "words"),
    [("no/such/a.png", None, "no folder"), (".", None, "is a folder"), ("a.png", "none.jpg", "cannot be read")],
)
def test_a_drawing_that_cannot_be_is_refused_before_the_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, image: str | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitreous.explain.trace.trace", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(UsageError, match=words):
        vitreous.trace("resnet18", out=out, image=image)
    assert not list(tmp_path.iterdir())
