"""A trained run answers what it answered when it was measured, for every way of handing it a picture."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import vitreous as vt
from vitreous.data.dataset import ArraySource, Pictures
from vitreous.data.given import files, look_at
from vitreous.data.preprocess import Preprocess, fit


@pytest.fixture(scope="module")
def run(trained: Path) -> vt.Predictor:
    return vt.load(trained)


def test_predictions_are_those_of_the_measured_test_split(run: vt.Predictor, photos: Path, trained: Path) -> None:
    outputs = load_file(trained / "outputs.safetensors")
    names = json.loads((trained / "outputs.json").read_text())["test"]
    answers = run.predict([photos / name for name in names])
    wanted = torch.softmax(outputs["test_logits"] / run.temperature, dim=1).numpy()
    assert np.allclose(np.stack([a.probabilities for a in answers]), wanted, atol=1e-5)
    right = np.mean([a.label == name.split("/")[0] for a, name in zip(answers, names, strict=True)])
    assert right == run.metrics["accuracy"]
    assert right > 0.8, "the two shapes are easy: the run has learned nothing"


def test_every_way_to_hand_over_a_picture_gives_one_answer(run: vt.Predictor, photos: Path) -> None:
    path = photos / "round" / "003.png"
    pixels = np.asarray(Image.open(path))
    ways = [str(path), path, path.read_bytes(), pixels, ("a name", path.read_bytes())]
    answers = [run.predict(way).probabilities for way in ways]
    for answer in answers[1:]:
        assert np.array_equal(answers[0], answer)


def test_a_folder_and_a_pattern_give_lists(run: vt.Predictor, photos: Path) -> None:
    assert len(run.predict(photos)) == 120
    assert [Path(a.name).name for a in run.predict(f"{photos}/round/00*.png")] == [f"{i:03d}.png" for i in range(10)]
    assert len(run.predict(photos / "round")) == 60


def test_batches_do_not_change_answers(run: vt.Predictor, photos: Path) -> None:
    one, many = ([a.probabilities for a in run.predict(photos, batch=b)] for b in (1, 64))
    assert np.allclose(one, many, atol=1e-5)


def test_an_unreadable_picture_does_not_lose_the_others(run: vt.Predictor, photos: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"<html>not found</html>")
    good = photos / "round" / "000.png"
    answers = run.predict([good, bad, tmp_path / "gone.jpg", good])
    assert [a.error is None for a in answers] == [True, False, False, True]
    assert "HTML" in answers[1].error
    with pytest.raises(vt.UnreadableImage, match=r"bad\.jpg"):
        run.predict(bad)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_arrays_of_other_kinds_are_refused(run: vt.Predictor, pixels: np.ndarray) -> None:
    with pytest.raises(vt.BadData, match="uint8"):
        run.predict(pixels)


def test_grey_and_colour_arrays_agree(run: vt.Predictor) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
    ways = (grey, grey[:, :, None], np.stack([grey] * 3, axis=2), np.asfortranarray(grey), grey[::-1][::-1])
    first, *others = (look_at(way, run.preprocess).pixels for way in ways)
    assert all(torch.equal(first, other) for other in others)


def test_nothing_matches_is_said(tmp_path: Path) -> None:
    with pytest.raises(vt.BadData, match="no pictures"):
        files(tmp_path)
    with pytest.raises(vt.BadData, match="check the path"):
        files(tmp_path / "*.jpg")


def test_the_preprocessing_of_training_is_the_one_applied(run: vt.Predictor, photos: Path) -> None:
    pixels = np.array(Image.open(photos / "long" / "001.png"))
    image = fit(torch.from_numpy(pixels).permute(2, 0, 1), run.preprocess)[None]
    assert np.array_equal(run.probabilities(image)[0].numpy(), run.predict(pixels).probabilities)


@pytest.mark.parametrize("shape", [(600, 600), (600, 720, 3), (1400, 610, 3), (2100, 2050, 3)])
def test_arrays_become_the_pixels_that_fitting_on_them_sees(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rules = Preprocess(size=96, store=110)  # what the recipe chooses for such pictures
    seen = Pictures(ArraySource(pixels[None], [0], ["a"]), [0], rules)[0].image
    assert torch.equal(look_at(pixels, rules).pixels, fit(seen, rules))


def test_a_tuple_of_files_is_several_pictures(run: vt.Predictor, photos: Path) -> None:
    paths = sorted((photos / "round").iterdir())[:3]
    for several in (tuple(paths), tuple(paths[:2]), tuple(map(str, paths[:2])), (paths[0].read_bytes(),) * 2):
        answers = run.predict(several)
        assert len(answers) == len(several)
        assert np.allclose(answers[0].probabilities, run.predict(paths[0]).probabilities, atol=1e-5)
    pair = ("a name", paths[0].read_bytes())
    assert run.predict(pair).name == "a name"
    assert [a.name for a in run.predict((pair, pair))] == ["a name", "a name"]


def test_what_is_no_picture_is_said(run: vt.Predictor, photos: Path) -> None:
    path = photos / "round" / "000.png"
    for strange in (5, (path, path, path), None):
        (answer,) = run.predict([strange])
        assert "is no picture" in answer.error


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_nothing_is_refused(run: vt.Predictor, photos: Path, batch: int) -> None:
    for pictures in (photos, [photos / "round" / "000.png"], photos / "round" / "000.png"):
        with pytest.raises(vt.UsageError, match="batch"):
            run.predict(pictures, batch=batch)


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json", "outputs.safetensors", "metrics.jsonl"])
def test_one_flipped_bit_is_noticed(trained: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 0x10
    (copy / name).write_bytes(data)
    with pytest.raises(vt.DamagedFile, match=name):
        vt.load(copy)


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(vt.UsageError, match="not a run folder"):
        vt.load(tmp_path)


def test_pictures_opened_with_pillow_are_pictures(trained: Path, photos: Path, tmp_path: Path) -> None:
    run, file = vt.load(trained), sorted(photos.rglob("*.png"))[0]
    with Image.open(file) as image:
        opened, listed = run.predict(image), run.predict([image, file])
    expected = run.predict(file)
    for answer in (opened, *listed):
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-6)  # another batch size
    sideways = tmp_path / "turned.jpg"
    with Image.open(file) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.convert("CMYK").save(sideways, exif=exif, quality=100)
    with Image.open(sideways) as image:
        assert image.mode == "CMYK"
        turned = run.predict(image)
    np.testing.assert_allclose(turned.probabilities, run.predict(sideways).probabilities, atol=0.02)


def test_what_a_run_is_called(trained: Path) -> None:
    run = vt.load(trained)
    assert repr(run).startswith("<vit_pico_patch4_32 for 2 classes, accuracy ") and str(trained) in repr(run)
    with pytest.raises(vt.UnreadableImage, match="multiply by 255"):
        run.predict(np.zeros((8, 8, 3)))
    assert "There is no file" in run.predict(["nowhere.jpg"])[0].error


def test_a_predictor_that_has_answered_can_be_pickled(run: vt.Predictor) -> None:
    """As workers and scikit-learn do it; its optimised network, which cannot be, is made anew."""
    image = torch.randint(0, 256, (2, 3, run.preprocess.size, run.preprocess.size), dtype=torch.uint8)
    expected = run.probabilities(image)
    assert torch.equal(pickle.loads(pickle.dumps(run)).probabilities(image), expected)


def test_sets_of_names_hold_what_was_asked_on_test(run: vt.Predictor, photos: Path, trained: Path) -> None:
    names = json.loads((trained / "outputs.json").read_text())["test"]
    answers = run.predict([photos / name for name in names], coverage=0.8)
    for answer in answers:
        chances = dict(answer.top(2))
        likely = {name for name, share in chances.items() if share >= run.threshold(0.8)} | {answer.label}
        assert set(answer.covering) == likely and answer.covering[0] == answer.label
        assert answer.to_dict()["covering"] == list(answer.covering)
    held = np.mean([name.split("/")[0] in a.covering for a, name in zip(answers, names, strict=True)])
    assert held >= 0.6, "15 pictures or so: five deviations"
    assert run.predict(photos / names[0]).covering is None


def test_more_than_validation_can_promise_is_refused(run: vt.Predictor, photos: Path) -> None:
    n = sum(run.card["data"]["counts"]["val"])
    with pytest.raises(vt.UsageError, match=rf"need 999 validation pictures and this run has {n}; ask for at most 0\."):
        run.predict(photos / "round", coverage=0.999)
    with pytest.raises(vt.UsageError, match="between 0 and 1"):
        run.predict(photos / "round", coverage=90)


def test_how_unfamiliar_a_picture_is(run: vt.Predictor, photos: Path) -> None:
    answers = run.predict(photos)
    n = sum(run.card["data"]["counts"]["val"])
    shares = np.array([a.unfamiliar for a in answers])
    assert np.allclose(shares * n, np.round(shares * n)) and 0 < shares.mean() < 1
    assert "unfamiliar" in answers[0].to_dict() and len(answers[0].row()) == len(answers[0].header(run.classes))


def test_a_picture_that_cannot_be_read_has_no_set(run: vt.Predictor) -> None:
    (answer,) = run.predict(["gone.jpg"], coverage=0.8)
    assert answer.covering is None and answer.unfamiliar is None and answer.error is not None
