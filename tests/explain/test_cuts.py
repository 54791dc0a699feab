"""What is drawn over a picture is what the built network does to it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitreous
from vitreous.data.image import decode
from vitreous.errors import UnreadableImage, UsageError
from vitreous.explain.cuts import CORNERS, ENDS, SIDES, _rolled, draw, panels
from vitreous.explain.render import BOLD, SIDE, Lines, Panel, sheet
from vitreous.layers.window import Layout, places
from vitreous.models import create


def read(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_a_vit_is_its_patches() -> None:
    with torch.device("meta"):
        one, two = panels(create("vit_base_patch16_224"), (224, 224))
    assert one.caption == "14 x 14 = 196 tokens" and two.apart
    assert one.thin == two.thin == Lines(*[[16 * i / 224 for i in range(1, 14)]] * 2)


def test_a_cnn_is_the_cells_of_its_maps() -> None:
    with torch.device("meta"):
        found = list(panels(create("resnet18"), (100, 100)))
    assert [len(p.thin.rows) + 1 for p in found] == [25, 13, 7, 4]
    assert found[-1].caption == "4 x 4 cells of 32 pixels, 512 channels"


def test_a_swin_is_windows_and_shifted_windows() -> None:
    with torch.device("meta"):
        patches, plain, shifted, *rest = panels(create("swin_tiny_patch4_window7_224"), (224, 224))
    assert patches.caption == "56 x 56 = 3136 tokens"
    assert plain.bold == Lines(*[[28 * i / 224 for i in range(1, 8)]] * 2) and not plain.tints
    assert shifted.bold == Lines(*[[(12 + 28 * i) / 224 for i in range(8)]] * 2)
    strips = {}
    for (left, top, right, bottom), colour in shifted.tints:
        strips[colour] = strips.get(colour, 0) + (right - left) * (bottom - top)
    edge, middle = 7 / 56, 49 / 56  # of a side: the two edges together are one window wide
    assert sorted(strips.values()) == pytest.approx(sorted([edge * edge, edge * middle, edge * middle]))
    assert [p.title.partition(":")[0] for p in rest] == ["stage 2", "stage 2", "stage 3", "stage 3", "stage 4"]


@pytest.mark.parametrize("cells", [*[(n, n) for n in (8, 9, 14, 16, 28, 56, 57, 59, 60, 64, 96)], (40, 56), (56, 9)])
def test_tints_are_what_the_roll_puts_together(cells: tuple[int, int]) -> None:
    """A cell's colour tells the last row of windows, the last column and their corner, as the cells really lie."""
    layout = Layout.of(cells, 7, shifted=True)
    lies = places(layout, 1, torch.device("cpu")).view(*layout.counts, -1)  # (y, x, n): cells of each window
    expected = torch.zeros(cells[0] * cells[1] + 1, dtype=torch.long)
    expected[lies[-1].flatten()] += 1
    expected[lies[:, -1].flatten()] += 2
    colours = {ENDS: 1, SIDES: 2, CORNERS: 3}
    found = torch.zeros(cells, dtype=torch.long)
    for box, colour in _rolled(layout, layout.grid):
        left, top, right, bottom = (round(share * side) for share, side in zip(box, cells[::-1] * 2, strict=True))
        assert not found[top:bottom, left:right].any()
        found[top:bottom, left:right] = colours[colour]
    assert torch.equal(found, expected[:-1].view(cells))


def test_windows_that_do_not_divide_the_grid() -> None:
    with torch.device("meta"):
        shifted = next(p for p in panels(create("swin_tiny_patch4_window7_224", size=256), (256, 256)) if p.tints)
    assert {right for (_, _, right, _), _ in shifted.tints} == {3 / 64, 1.0}  # 64 cells: only the near strip


def test_tints_end_at_the_lines_where_cells_reach_over_the_edge() -> None:
    with torch.device("meta"):
        shifted = [p for p in panels(create("swin_tiny_patch4_window7_224", size=100), (100, 100)) if p.tints]
    assert len(shifted) == 2
    for panel in shifted:
        edges = {round(edge, 9) for box, _ in panel.tints for edge in box}
        assert edges - {0.0, 1.0} <= {round(line, 9) for line in panel.bold.rows}


def test_a_sheet_holds_every_panel() -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    plain, lined = (read(sheet(grey, [p])) for p in (Panel("a", "b"), Panel("a", "b", bold=Lines([0.5], [0.5]))))
    changed = (plain != lined).any(axis=2)
    assert changed.any() and (lined[changed] == BOLD).all()
    rows, columns = np.nonzero(changed)
    assert rows.max() - rows.min() > 0.9 * SIDE and columns.max() - columns.min() > 0.9 * SIDE
    tinted = read(sheet(grey, [Panel("a", "b", tints=[((0, 0, 0.5, 0.5), (255, 0, 0))])]))
    area = (plain != tinted).any(axis=2)
    assert area.sum() == (SIDE // 2) ** 2 and (tinted[area][:, 0] > 128).all()
    five = read(sheet(grey, [Panel("a", "b")] * 5))  # three and two
    assert five.shape[0] > 1.8 * plain.shape[0] and 2.5 < five.shape[1] / plain.shape[1] < 3


@pytest.mark.parametrize("level", [0, 128, 255])
def test_thin_lines_and_pieces_show_on_any_picture(level: int) -> None:
    grey, grid = torch.full((3, 64, 64), level, dtype=torch.uint8), Lines([0.5], [0.25, 0.75])
    plain = read(sheet(grey, [Panel("a", "b")])).astype(int)
    for panel in (Panel("a", "b", thin=grid), Panel("a", "b", thin=grid, apart=True)):
        seen = (np.abs(read(sheet(grey, [panel])) - plain) > 50).any(axis=2)[20 : 20 + SIDE, 20 : 20 + SIDE]
        assert seen.mean(axis=1).max() > 0.9 and seen.mean(axis=0).max() > 0.9  # a row of pixels, and a column


def test_a_picture_pulled_apart_fills_its_panel() -> None:
    black = torch.zeros(3, 64, 64, dtype=torch.uint8)
    thirteenths = [i / 13 for i in range(1, 13)]  # 300 pixels are no multiple of 13
    page = read(sheet(black, [Panel("a", "b", thin=Lines(thirteenths, thirteenths), apart=True)]))
    drawn = np.argwhere((page < 128).all(axis=2)[: 20 + SIDE])
    assert drawn.min(axis=0).tolist() == [20, 20] and drawn.max(axis=0).tolist() == [19 + SIDE, 19 + SIDE]


def test_lines_too_close_to_draw_are_said() -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    close = [i / 128 for i in range(1, 128)]
    said, bare = read(sheet(grey, [Panel("a", "b", Lines(close, close))])), read(sheet(grey, [Panel("a", "b")]))
    assert (said[: 20 + SIDE] == bare[: 20 + SIDE]).all() and (said[20 + SIDE :] != bare[20 + SIDE :]).any()


def test_what_parts_a_map_is_drawn() -> None:
    """MobileViT's patches of two by two cells; EfficientViT-M's windows, which end with the map."""
    with torch.device("meta"):
        vit, vit2, windows = (
            list(panels(create(name).eval(), (224, 224)))
            for name in ("mobilevit_xxs", "mobilevitv2_050", "efficientvit_m0")
        )
    for maps in (vit, vit2):
        assert [p.title for p in maps] == ["map 1", "map 2", *(f"map {i}: patches of 2 x 2 cells" for i in (3, 4, 5))]
        assert maps[2].bold.rows == [16 * i / 224 for i in range(1, 14)]
    assert [p.title for p in windows] == [f"map {i}: windows of {n} x {n} cells" for i, n in ((1, 7), (2, 7), (3, 4))]
    assert windows[0].bold == Lines([0.5], [0.5]) and windows[2].bold == Lines([], [])


def test_a_rectangle_is_cut_as_the_network_cuts_it(tmp_path: Path) -> None:
    with torch.device("meta"):
        one, _ = panels(create("vit_base_patch16_224"), (160, 230))
        _, plain, shifted, *_ = panels(create("swin_tiny_patch4_window7_224"), (160, 224))
    assert one.caption == "10 x 15 = 150 tokens"  # the last column is filled up
    assert one.thin == Lines([16 * i / 160 for i in range(1, 10)], [16 * i / 230 for i in range(1, 15)])
    assert plain.bold == Lines([28 * i / 160 for i in range(1, 6)], [28 * i / 224 for i in range(1, 8)])
    assert shifted.bold == Lines([(12 + 28 * i) / 160 for i in range(6)], [(12 + 28 * i) / 224 for i in range(8)])
    square = read(draw("resnet18", tmp_path / "a.png").read_bytes())
    wide = read(draw("resnet18", tmp_path / "b.png", size=(112, 224)).read_bytes())
    assert wide.shape[1] == square.shape[1] and wide.shape[0] == square.shape[0] - SIDE // 2


def test_the_drawing_is_written(tmp_path: Path) -> None:
    Image.new("RGB", (50, 30), (200, 0, 0)).save(tmp_path / "red.jpg")
    place = draw("resnet18", tmp_path / "a.png", size=64, image=tmp_path / "red.jpg")
    reds = read(place.read_bytes()).astype(int)
    assert ((reds[..., 0] > 150) & (reds[..., 1] < 60)).mean() > 0.3
    assert read(draw("vit_pico_patch4_32", tmp_path / "b.png").read_bytes()).any()


def test_a_picture_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (50, 30)).save(tmp_path / "a.png")
    seen: list[bytes] = []
    monkeypatch.setattr("vitreous.explain.cuts.decode", lambda data: seen.append(data) or decode(data))
    out = tmp_path / "B.PNG"
    assert vitreous.trace("resnet20_cifar", image=tmp_path / "a.png", out=out, timed=False).drawing == out
    assert len(seen) == 1


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        draw("resnet18", tmp_path / "a.png", image=tmp_path / "none.jpg")
    (tmp_path / "x.jpg").write_text("no picture")
    with pytest.raises(UnreadableImage):
        draw("resnet18", tmp_path / "a.png", image=tmp_path / "x.jpg")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("out", "image", "words"),
    [
        ("no/such/a.png", None, "no folder"),
        (".", None, "is a folder"),
        ("a.jpg", None, "must be called a.png"),
        ("a.png", "none.jpg", "cannot be read"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused_before_the_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, image: str | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitreous.explain.trace.trace", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(UsageError, match=words):
        vitreous.trace("resnet18", out=out, image=image)
    assert not list(tmp_path.iterdir())
