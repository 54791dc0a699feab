"""The decoder against Pillow, numpy, and files that nobody should have made."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin, features

from vitreous import config
from vitreous.data.image import MAX_BYTES, Preprocess, decode, encode_jpeg, encode_png, fit, shrink
from vitreous.errors import UnreadableImage, UsageError

STORE_32 = Preprocess(size=32, store=32)


def pixels_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def difference(a: torch.Tensor, b: torch.Tensor) -> tuple[float, int]:
    gap = (a.int() - b.int()).abs()
    return gap.float().mean().item(), int(gap.max())


def png(width: int, height: int, body: bytes, *extra: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *extra]
    parts = [*chunks, (b"IDAT", zlib.compress(body, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def reason(data: bytes, preprocess: Preprocess | None = STORE_32) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(data, preprocess)
    text = str(caught.value)
    assert 0 < len(text) < 120 and "\n" not in text and not text.endswith(".")
    return text


# ---------------------------------------------------------------- formats and modes


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "GIF"])
def test_lossless_formats_give_the_very_pixels(kind, photo, encoded):
    image = photo().quantize(200).convert("RGB") if kind == "GIF" else photo()
    decoded = decode(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert torch.equal(decoded.pixels, pixels_of(image))
    assert decoded.facts.format == kind and (decoded.facts.width, decoded.facts.height) == (96, 64)
    assert decoded.pixels.dtype == torch.uint8 and decoded.pixels.is_contiguous()


@pytest.mark.parametrize("kind", ["JPEG", "MPO"] + (["AVIF"] if features.check("avif") else []))
def test_lossy_formats_are_read(kind, photo, encoded):
    decoded = decode(encoded(photo(), kind, quality=95))
    assert difference(decoded.pixels, pixels_of(photo()))[0] < 3
    json.dumps(asdict(decoded.facts))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LAB"])
def test_colour_modes_agree_with_pillow(mode, photo, encoded):
    image = photo()
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    else:
        image = image.convert(mode)
    decoded = decode(encoded(image, "TIFF"))
    assert decoded.facts.mode == mode
    assert difference(decoded.pixels, pixels_of(image))[1] <= 2
    assert mode != "CMYK" or difference(decoded.pixels, pixels_of(photo()))[0] < 2


def test_adobe_cmyk_jpeg_is_not_a_negative(photo, encoded):
    decoded = decode(encoded(photo().convert("CMYK"), "JPEG", quality=95))
    assert decoded.facts.mode == "CMYK"
    assert difference(decoded.pixels, pixels_of(photo()))[0] < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_on_the_background(mode, encoded):
    levels = np.zeros((8, 8, 4), np.uint8)
    levels[:, :4, 3], levels[:, 4:, 3] = 255, 0
    levels[:, 2:4, 3] = 128
    image = Image.fromarray(levels)
    image = image if mode == "RGBA" else image.convert(mode)
    data = encoded(image, "TIFF" if mode == "PA" else "PNG")
    got = decode(data, Preprocess(background=(10, 200, 30)))
    assert got.facts.alpha
    assert got.pixels[:, 0, 7].tolist() == [10, 200, 30]
    assert got.pixels[:, 0, 0].tolist() == [0, 0, 0]
    assert got.pixels[:, 0, 2].tolist() == [5, 100, 15]


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "I;16"])
def test_a_transparent_colour_is_laid_on_the_background(mode, encoded):
    black_and_grey = np.repeat(np.array([[0, 130]], np.uint8), 4, axis=1).repeat(8, axis=0)
    image = Image.fromarray(black_and_grey)
    clear = {"RGB": (0, 0, 0)}.get(mode, 0)
    if mode == "P":
        image = image.convert("RGB").quantize(2)
        clear = image.getpixel((0, 0))
    elif mode == "I;16":
        image = Image.fromarray(black_and_grey.astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    got = decode(encoded(image, "PNG", transparency=clear), Preprocess(background=(255, 0, 255)))
    assert got.facts.alpha and got.facts.mode == mode
    assert got.pixels[:, 0, 0].tolist() == [255, 0, 255]
    assert got.pixels[:, 0, 7].tolist() == [130, 130, 130]


def test_a_palette_with_many_alphas_is_composited(encoded):
    image = Image.fromarray(np.arange(4, dtype=np.uint8).repeat(4).reshape(4, 4), "P")
    image.putpalette([0, 0, 0] * 4)
    got = decode(encoded(image, "PNG", transparency=bytes([0, 85, 170, 255])))
    assert got.pixels[0, :, 0].tolist() == [255, 170, 85, 0]


# ---------------------------------------------------------------- deep pictures


def ramp() -> np.ndarray:
    return np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind, encoded):
    data = encoded(Image.fromarray(ramp()), kind)
    got = decode(data)
    assert got.facts.bits == 16
    assert len(got.pixels.unique()) >= 250
    assert torch.equal(got.pixels[0], torch.from_numpy(np.rint(ramp() / 257).astype(np.uint8)))


def test_big_endian_sixteen_bits_are_not_swapped(encoded):
    image = Image.frombytes("I;16B", (64, 64), ramp().astype(">u2").tobytes())
    assert torch.equal(decode(encoded(image, "TIFF")).pixels, decode(encoded(Image.fromarray(ramp()), "TIFF")).pixels)


def test_sixteen_bit_colour_keeps_its_levels():
    rows = np.stack([ramp(), ramp()[::-1], ramp().T], -1).astype(">u2")
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    got = decode(png(64, 64, body, depth=16))
    assert got.facts.bits == 16 and len(got.pixels[0].unique()) >= 250


def test_sixteen_bit_colour_honours_its_transparent_colour():
    rows = np.full((4, 4, 3), 40_000, ">u2")
    rows[:, :2] = (65_535, 0, 12_345)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    got = decode(png(4, 4, body, (b"tRNS", struct.pack(">HHH", 65_535, 0, 12_345)), depth=16))
    assert got.pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert got.pixels[:, 0, 3].tolist() == [156, 156, 156]


def test_floats_from_zero_to_one_are_not_black(encoded):
    got = decode(encoded(Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)), "TIFF"))
    assert got.pixels[0].flatten().tolist() == list(range(256))
    assert got.facts.notices == () and got.facts.bits == 32


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_other_deep_values_are_stretched_with_a_notice(kind, encoded):
    values = np.linspace(-700, 90_000, 256).reshape(16, 16).astype(kind)
    got = decode(encoded(Image.fromarray(values), "TIFF"))
    assert got.pixels.min() == 0 and got.pixels.max() == 255 and len(got.pixels.unique()) >= 250
    assert any("-700" in notice for notice in got.facts.notices)


def test_not_a_number_is_a_number_afterwards(encoded):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, :3] = np.nan, np.inf, -np.inf
    assert decode(encoded(Image.fromarray(values), "TIFF")).pixels[0, 0, :4].tolist() == [0, 255, 0, 12]
    flat = np.full((8, 8), np.nan, np.float32)
    assert decode(encoded(Image.fromarray(flat), "TIFF")).pixels.max() == 0


# ---------------------------------------------------------------- orientation and frames


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """What a camera would have stored so that ``orientation`` restores ``image``."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose that undoes the one of exif_transpose
    return image if orientation == 1 else image.transpose(Image.Transpose(undo[orientation]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("preprocess", [None, STORE_32], ids=["full", "step one"])
def test_all_orientations_give_the_same_tensor(kind, preprocess, photo, encoded):
    upright = photo(96, 64)
    tensors = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
        got = decode(encoded(turned(upright, orientation), kind, exif=exif, **options), preprocess)
        assert got.facts.orientation == orientation
        assert (got.facts.width, got.facts.height) == (96, 64)
        tensors.append(got.pixels)
    assert all(t.shape == tensors[0].shape for t in tensors)
    tolerance = 3 if kind == "JPEG" else 1 if preprocess else 0
    assert all(difference(t, tensors[0])[1] <= tolerance for t in tensors)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"junk" * 9]
)
def test_a_damaged_exif_does_not_cost_the_picture(exif, photo, encoded):
    assert decode(encoded(photo(), "JPEG", exif=exif)).facts.orientation == 1


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame_with_a_notice(kind, encoded):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    got = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert got.pixels[:, 8, 8].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert got.facts.frames == 2 and "first of several" in got.facts.notices[0]


# ---------------------------------------------------------------- step 1 and step 2


@pytest.mark.parametrize(
    ("size", "stored"),
    [((1000, 500), (512, 256)), ((500, 1000), (256, 512)), ((200, 100), (200, 100)), ((256, 300), (256, 300)),
     ((65000, 1), (2048, 1)), ((1, 65000), (1, 2048)), ((9000, 300), (2048, 68)), ((1, 1), (1, 1))],
)  # fmt: skip
def test_step_one_reduces_the_shorter_side_and_never_enlarges(size, stored, encoded):
    got = decode(encoded(Image.new("L", size, 77), "PNG"), Preprocess())
    assert got.pixels.shape == (3, stored[1], stored[0]) and got.pixels.is_contiguous()
    assert (got.pixels == 77).all() and (got.facts.width, got.facts.height) == size


def test_a_scaled_decode_is_close_to_a_full_one(photo, encoded):
    for size in ((1800, 1300), (1300, 1801), (533, 800), (257, 300)):
        data = encoded(photo(*size), "JPEG", quality=92)
        full, scaled = shrink(decode(data).pixels, Preprocess()), decode(data, Preprocess()).pixels
        assert scaled.shape == full.shape and difference(full, scaled)[0] < 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "I;16", "CMYK"])
def test_big_pictures_reduced_in_bands_are_close_to_step_one(mode, photo, encoded, monkeypatch):
    image = photo(410, 303)
    image = Image.fromarray(ramp()).resize((410, 303)) if mode == "I;16" else image.convert(mode)
    data = encoded(image, "TIFF")
    want = shrink(decode(data).pixels, STORE_32)
    whole = decode(data, STORE_32).pixels
    monkeypatch.setattr("vitreous.data.image._BAND", 5000)
    assert torch.equal(decode(data, STORE_32).pixels, whole)
    assert torch.equal(shrink(decode(data).pixels, STORE_32), want)
    mean, most = difference(whole, want)
    assert mean < (6 if mode == "1" else 2) and (mode == "1" or most < 14)


@pytest.mark.parametrize("policy", ["crop", "letterbox", "squash"])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (48, 48), (1, 1), (1, 300), (300, 1), (5, 7)])
def test_step_two_always_gives_the_square(policy, shape):
    got = fit(torch.full((3, *shape), 9, dtype=torch.uint8), Preprocess(size=48, policy=policy, crop=0.9))
    assert got.shape == (3, 48, 48) and got.dtype == torch.uint8 and got.is_contiguous()
    assert set(got.unique().tolist()) <= {9, 114}


def test_the_crop_is_central_and_copies_where_the_size_is_right():
    pixels = torch.randint(0, 256, (3, 40, 61), dtype=torch.uint8)
    assert torch.equal(fit(pixels, Preprocess(size=40)), pixels[:, :, 10:50])
    assert torch.equal(fit(pixels, Preprocess(size=20, crop=0.5)), pixels[:, 10:30, 20:40])


def test_the_letterbox_keeps_everything_between_bars():
    pixels = torch.randint(0, 100, (3, 20, 40), dtype=torch.uint8)
    got = fit(pixels, Preprocess(size=40, policy="letterbox", fill=200))
    assert torch.equal(got[:, 10:30], pixels)
    assert (got[:, :10] == 200).all() and (got[:, 30:] == 200).all()


def test_resampling_agrees_with_pillow(photo):
    pixels = pixels_of(photo(300, 200))
    want = pixels_of(photo(300, 200).resize((64, 64), Image.Resampling.BILINEAR))
    assert difference(fit(pixels, Preprocess(size=64, policy="squash")), want)[1] <= 1


def test_preprocess_is_a_config_that_survives_json():
    preprocess = Preprocess(size=96, policy="letterbox", background=(1, 2, 3))
    assert config.from_dict(Preprocess, json.loads(json.dumps(config.to_dict(preprocess)))) == preprocess


@pytest.mark.parametrize(
    "bad", [{"size": 0}, {"store": 0}, {"crop": 0.0}, {"crop": 1.1}, {"fill": 256}, {"background": (0, 0, 300)}]
)
def test_impossible_settings_are_refused(bad):
    with pytest.raises(UsageError):
        Preprocess(**bad)


def test_thumbnails_round_trip(photo):
    pixels = pixels_of(photo())
    assert torch.equal(decode(encode_png(pixels)).pixels, pixels)
    assert torch.equal(decode(encode_png(pixels[:1])).pixels, pixels[:1].expand(3, -1, -1))
    assert difference(decode(encode_jpeg(pixels, 95)).pixels, pixels)[0] < 3


# ---------------------------------------------------------------- hostile bytes


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"\0" * 5000, "zero bytes only"),
        (b"hello", "not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE HTML><p>404", "HTML page"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG"),
        (b'{"error": 403}', "JSON"),
        (b"\x00\x00\x00\x18ftypheic" + b"\0" * 40, "HEIC is not accepted"),
        (b"%PDF-1.7\n", "PDF is not accepted"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS is not accepted"),
        (b"8BPS\0\1" + b"\0" * 40, "PSD is not accepted"),
        (b"SIMPLE  =                    T", "FITS is not accepted"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
    ],
)
def test_reasons_are_ones_a_person_can_act_on(data, words):
    assert words in reason(data)


def test_bombs_are_refused_from_their_header(encoded):
    assert "too large" in reason(png(20_000, 20_000, b""))
    assert "too large" in reason(png(12_000, 12_000, b""))
    gif = bytearray(encoded(Image.new("P", (1, 1)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    assert "too large" in reason(bytes(gif))
    tiff = encoded(Image.new("L", (77, 55)), "TIFF")
    tiff = tiff.replace(struct.pack("<HHII", 256, 4, 1, 77), struct.pack("<HHII", 256, 4, 1, 100_000))
    assert "too large" in reason(
        tiff.replace(struct.pack("<HHII", 257, 4, 1, 55), struct.pack("<HHII", 257, 4, 1, 90_000))
    )
    assert "limit is 100 pixels" in reason(encoded(Image.new("L", (11, 11)), "PNG"), Preprocess(max_pixels=100))


def test_formats_that_cost_more_memory_reach_the_limit_sooner(encoded):
    data = encoded(Image.new("RGB", (60, 50)), "WEBP")
    assert decode(data, Preprocess(max_pixels=12_000)).facts.format == "WEBP"
    assert "limit is 2,999 pixels" in reason(data, Preprocess(max_pixels=11_999))


def test_an_animation_of_a_hundred_thousand_frames_costs_one(encoded):
    data = encoded(Image.new("P", (16, 16)), "GIF")
    frame = b"\x21\xf9\x04\0\0\0\0\0" + data[data.index(b",") : -1]
    start = time.perf_counter()
    assert decode(data[:-1] + frame * 100_000 + b";").facts.frames == 2
    assert time.perf_counter() - start < 3


def test_text_bombs_are_refused(photo, encoded):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (3 << 20), zip=True)
    assert "text inside" in reason(encoded(photo(), "PNG", pnginfo=text))


def test_too_many_bytes_are_refused_unread(monkeypatch):
    assert MAX_BYTES >= 256 << 20
    monkeypatch.setattr("vitreous.data.image.MAX_BYTES", 10)
    assert "too large" in reason(b"\xff\xd8" + b"\0" * 9)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
def test_truncated_files_are_refused_wherever_they_end(kind, photo, encoded):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    data = encoded(noise, kind)
    for share in range(1, 64):
        cut = data[: len(data) * share // 64]
        reason(cut)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_a_jpeg_without_its_end_marker_is_whole(options, photo, encoded):
    data = encoded(photo(), "JPEG", quality=90, **options)
    whole = decode(data)
    for cut in (data[:-2], data[:-1]):
        got = decode(cut)
        assert torch.equal(got.pixels, whole.pixels)
        assert "end marker" in got.facts.notices[-1]


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 4}])
def test_a_jpeg_that_lacks_more_is_truncated(options, photo, encoded):
    data = encoded(photo(), "JPEG", quality=90, **options)
    for missing in [*range(5, 60), *range(60, len(data) - 700, 17)]:
        assert "JPEG" in reason(data[:-missing], None), missing


def test_random_damage_never_escapes_as_another_error(photo, encoded):
    draw = random.Random(0)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"):
        data = encoded(photo(48, 32), kind)
        for _ in range(150):
            broken = bytearray(data)
            for _ in range(draw.choice((1, 3, 20))):
                broken[draw.randrange(min(len(broken), draw.choice((64, 4096))))] = draw.randrange(256)
            try:
                got = decode(bytes(broken), Preprocess(size=32, store=32, max_pixels=4_000_000))
            except UnreadableImage:
                continue
            assert got.pixels.dtype == torch.uint8 and got.pixels.shape[0] == 3


@pytest.mark.shared
def test_every_bad_file_of_the_shared_collection_is_survived(shared):
    root = shared / "badimages"
    rows = [[*line.split("\t"), *[""] * 8] for line in (root / "list.tsv").read_text().splitlines()]
    read = 0
    for row in rows:
        if not (root / row[0]).is_file():
            continue
        data = (root / row[0]).read_bytes()
        if row[7]:
            reason(data)
        else:
            got = decode(data, Preprocess())
            assert got.facts.format == row[2] and f"{got.facts.width}x{got.facts.height}" == row[4]
            read += 1
    assert read > 100


@pytest.mark.shared
def test_pngsuite_pairs_agree(shared):
    """The suite holds some pictures twice, in other encodings: interlaced or not, with or without palette."""
    root = shared / "badimages" / "pngsuite" / "png"
    for name in ("n0g01", "n0g02", "n0g04", "n0g08", "n0g16", "n2c08", "n2c16", "n3p01", "n3p08", "n4a08", "n6a16"):
        plain, interlaced = (decode((root / f"bas{way}{name[1:]}.png").read_bytes()).pixels for way in "ni")
        assert torch.equal(plain, interlaced)


# ---------------------------------------------------------------- manners


def test_warnings_stay_inside_and_filters_are_restored(photo, encoded):
    before = list(warnings.filters)
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    with ThreadPoolExecutor(8) as pool:
        assert len({tuple(d.pixels.shape) for d in pool.map(decode, [data] * 64)}) == 1
    assert list(warnings.filters) == before
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_threads_agree_with_each_other(photo, encoded):
    files = [encoded(photo(300 + i, 200), "JPEG") for i in range(12)]
    alone = [decode(data, STORE_32).pixels for data in files]
    results: list[list[torch.Tensor]] = []
    threads = [
        threading.Thread(target=lambda: results.append([decode(d, STORE_32).pixels for d in files])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, alone, strict=True))


GIANT = """
import re, sys, time
from vitreous.data.image import Preprocess, decode
data = open(sys.argv[1], "rb").read()
start = time.perf_counter()
shape = tuple(decode(data, Preprocess()).pixels.shape)
spent = time.perf_counter() - start
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(shape, spent, int(peak[1]) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_giant_picture_is_decoded_within_bounds(kind, tmp_path):
    """12000 x 9000 pixels in a process of its own: its peak of memory is the measure."""
    file = tmp_path / "giant"
    if kind == "JPEG":
        Image.new("RGB", (12_000, 9_000), (40, 90, 200)).save(file, kind)
    else:
        file.write_bytes(png(12_000, 9_000, (b"\0" + b"\x28\x5a\xc8" * 12_000) * 9_000))
    answer = subprocess.run([sys.executable, "-c", GIANT, str(file)], capture_output=True, text=True, check=True).stdout
    *shape, seconds, mebibytes = answer.replace("(", "").replace(")", "").replace(",", "").split()
    assert shape == ["3", "256", "341"]
    assert int(mebibytes) < (450 if kind == "JPEG" else 750)
    assert float(seconds) < 15  # a bound on runaways, not a measurement: others may be using the machine
