"""Whether learning without labels was worth it: the sentence over constructed results, and a whole verdict."""

from __future__ import annotations

import html
import json
import math
import shlex
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitreous as vt
from vitreous.cli.main import main
from vitreous.comparison import conduct
from vitreous.comparison.arms import arms, data_of
from vitreous.comparison.learned import begun
from vitreous.comparison.question import Question
from vitreous.comparison.worth import worth
from vitreous.data.dataset import open_source
from vitreous.errors import BadData
from vitreous.models.describe import describe
from vitreous.predictor import Predictor
from vitreous.pretraining import verdict
from vitreous.recipes import Wishes, choose
from vitreous.run import frozen
from vitreous.run.plan import to_json
from vitreous.training.interrupt import Interrupted

SHORT = ["train.steps=4", "train.batch=16", "train.precision=fp32", "train.evaluate_first=false"]


@dataclass(frozen=True)
class Arm:
    """What the sentence knows of an arm."""

    name: str
    right: np.ndarray
    validation: float = 0.0
    is_scratch: bool = True
    mixer: str | None = None
    latency_ms: float | None = None
    teacher: str = ""
    untaught: str = ""
    leak: str = ""
    unlearned: str = ""
    is_frozen: bool = False
    longer: str = ""

    @property
    def accuracy(self):
        return float(self.right.mean())


def arm(name, share, *, n=1000, seeds=3, **more):
    """An arm that is right on the first ``share`` of the pictures with every seed."""
    return Arm(name, np.stack([np.arange(n) < round(share * n)] * seeds), **more)


def told(own, equal, longer=None, **more):
    """The sentence about an arm that learned without labels, and two from scratch."""
    learned = arm("weights of mae", own, is_scratch=False, unlearned="vit, scratch", longer="vit, longer", **more)
    others = [arm("vit, scratch", equal, **more)] + ([] if longer is None else [arm("vit, longer", longer, **more)])
    return worth([learned, *others])[0]


def test_weights_that_are_best_as_they_are_are_not_said_to_have_been_fine_tuned():
    frozen = arm("weights of mae, frozen", 0.7, is_scratch=False, unlearned="vit, scratch", is_frozen=True)
    sentence, _ = worth([frozen, arm("vit, scratch", 0.6)])
    assert "(these weights were not trained further)" in sentence and "fine-tuning" not in sentence
    assert "as much fine-tuning" in told(0.7, 0.6)


@pytest.mark.parametrize(
    ("own", "equal", "longer", "words"),
    [
        (0.7, 0.6, 0.65, "Pretraining helped and was worth its time: weights of mae gets 70.0% of the test pictures"),
        (0.7, 0.6, 0.7, "Pretraining helped, but did not show that it was worth its time: "),
        (0.7, 0.6, 0.8, "Pretraining helped, but was not worth its time: "),
        (0.7, 0.7, 0.7, "Pretraining did not help, as far as 1,000 test pictures can tell: "),
        (0.7, 0.7, 0.8, "Pretraining did not help, as far as 1,000 test pictures can tell, and was not worth its time"),
        (0.6, 0.7, 0.7, "Pretraining did harm, and was not worth its time: "),
        (0.6, 0.7, 0.6, "Pretraining did harm: "),
        (0.7, 0.6, None, "Pretraining helped; its own time is not counted here: "),
        (0.7, 0.7, None, "Pretraining did not help, as far as 1,000 test pictures can tell; its own time is not"),
    ],
)
def test_the_sentence_says_what_both_differences_amount_to(own, equal, longer, words):
    sentence = told(own, equal, longer)
    assert sentence.startswith(words), sentence
    assert f"{100 * (own - equal):+.1f} points (95 % interval" in sentence
    assert (longer is None) or f"{100 * (own - longer):+.1f} points (95 % interval" in sentence
    assert sentence.count("points (") == (1 if longer is None else 2) and sentence.endswith(".")


def test_a_gain_that_few_pictures_cannot_tell_is_not_called_one():
    assert told(0.72, 0.70, 0.70, n=50).startswith("Pretraining did not help, as far as 50 test pictures can tell: ")


def test_the_luck_of_the_pretraining_itself_is_said_to_be_unknown():
    for longer in (None, 0.6):
        assert told(0.7, 0.6, longer).endswith(
            "; of one run of pretraining, whose own luck is not in any interval here."
        )


def test_one_seed_is_said_to_be_one():
    assert "one seed each, so luck of the seed is not in this interval" in told(0.7, 0.6, 0.6, seeds=1)


def test_the_arm_is_chosen_by_validation_and_the_differences_are_its_own():
    own = {"is_scratch": False, "unlearned": "s", "longer": "l"}
    ranked = [arm("x", 0.1), arm("frozen", 0.7, **own), arm("tuned", 0.9, **own), arm("s", 0.6), arm("l", 0.65)]
    sentence, pairs = worth(ranked)
    assert "frozen gets 70.0%" in sentence
    assert [(p.first.name, p.second.name) for p in pairs] == [("frozen", "s"), ("frozen", "l")]


def test_nothing_is_said_where_nothing_was_learned_or_its_control_failed():
    assert worth([arm("a", 0.9), arm("b", 0.8)]) == ("", [])
    assert worth([arm("a", 0.9, unlearned="gone", longer="gone too")]) == ("", [])


# ---------------------------------------------------------------- refused before the first step


def test_without_labels_it_is_refused_before_anything_is_trained(photos, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["pretrain", str(photos / "round"), "--method", "mae", "--verdict", "--out", str(out)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--verdict measures by labels" in said and "--unlabelled" in said and not out.exists()


def test_an_earlier_verdict_is_not_mixed_with_a_new_one(photos, tmp_path, capsys):
    (tmp_path / "run-verdict").mkdir()
    assert main(["pretrain", str(photos), "--method", "mae", "--verdict", "--out", str(tmp_path / "run")]) == 2
    assert "holds an earlier verdict" in " ".join(capsys.readouterr().err.split())


def test_a_verdict_that_was_stopped_says_how_to_go_on_and_so_does_the_same_command(
    photos, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "my run"
    words = [
        "pretrain",
        str(photos),
        "--method",
        "mae",
        "--model",
        "vit_pico_patch4_32",
        "--out",
        str(out),
        "--verdict",
    ]
    words += ["--quiet", *(f"--set={change}" for change in [*SHORT, "data.val=0.3", "data.fraction=0.5"])]

    def stopped(question, place, **_):
        place.mkdir()
        (place / "question.json").write_text("{}")
        raise Interrupted(signal.SIGTERM, "Stopped.")

    with monkeypatch.context() as patch:
        patch.setattr(conduct, "watched", stopped)
        assert main(words) == 143
    said = " ".join(capsys.readouterr().err.split())
    typed = f"vitreous compare {photos} --init 'scratch,{out}' --out '{out}-verdict' --fractions 0.5 --set data.val=0.3"
    assert "is whole" in said and said.endswith(typed)
    assert main(words) == 2
    assert " ".join(capsys.readouterr().err.split()).endswith(typed)
    asked = []
    monkeypatch.setattr(conduct, "watched", lambda question, place, **_: asked.append((question, Path(place))))
    main(shlex.split(typed)[1:])
    changes = ["data.val=0.3", "data.fraction=0.5", "train.steps=4"]
    wanted = verdict.ask(str(photos), Predictor.load(out), changes, allow_bad=0.01)
    assert asked == [(wanted, verdict.place(out))]


def test_labelled_pictures_that_cannot_be_compared_on_are_refused_too(photos, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--method", "mae", "--verdict", "--quiet", "--out", str(out), "--set", "data.test=0"]
    assert main(["pretrain", str(photos), *arguments]) == 7
    assert "No picture is left for a test part" in " ".join(capsys.readouterr().err.split()) and not out.exists()


def test_broken_pictures_are_as_many_as_pretraining_tolerates(photos, tmp_path, monkeypatch):
    own, asked = tmp_path / "own", []
    shutil.copytree(photos, own)
    for number in range(5):
        (own / "round" / f"broken{number}.png").write_bytes(b"no picture")
    monkeypatch.setattr(conduct, "watched", lambda question, *_, **__: asked.append(question))
    about = {"method": "mae", "model": "vit_pico_patch4_32", "verdict": True, "set": SHORT, "quiet": True}
    vt.pretrain(own, **about, allow_bad=0.1, out=tmp_path / "run")
    assert data_of(asked[0], open_source(own)).allow_bad == 0.1
    vt.pretrain(photos, **about, out=tmp_path / "usual")
    assert asked[1].set == (), "the printed `compare` asks the same question"
    with pytest.raises(BadData, match="--allow-bad"):  # more pictures hide them from the run, not from the verdict
        vt.pretrain(own, **about, unlabelled=mixed(photos, tmp_path), allow_bad=0.03, out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def mixed(photos, folder):
    """The same pictures again, each a little larger."""
    for path in photos.glob("*/*.png"):
        place = folder / "more" / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((32, 32)).save(place)
    return folder / "more"


# ---------------------------------------------------------------- a run, and the arms that it brings


@pytest.fixture(scope="module")
def learned(photos, tmp_path_factory):
    """A run that has learned nearly nothing, without labels, also from further pictures."""
    out = tmp_path_factory.mktemp("learned") / "mae"
    vt.pretrain(photos, method="mae", model="vit_pico_patch4_32", out=out, set=SHORT, quiet=True)
    return out


def made(photos, init, **fields):
    question = Question(data=str(photos), init=tuple(map(str, init)), **fields)
    source = open_source(str(photos))
    return {a.name: a for a in arms(question, source, data_of(question, source), 100.0)}


def test_it_brings_its_own_controls(photos, learned):
    found = made(photos, ["scratch", learned])
    seconds = 60 * json.loads((learned / "card.json").read_text())["cost"]["minutes"]
    scratch, longer, tuned, frozen = found.values()
    assert next(iter(found)) == "vit_pico_patch4_32, scratch" and list(found)[2:] == [
        "weights of mae",
        "weights of mae, frozen",
    ]
    assert tuned.unlearned == frozen.unlearned == scratch.name and tuned.longer == frozen.longer == longer.name
    assert scratch.run.train.budget_seconds == tuned.run.train.budget_seconds == 100.0
    assert longer.run.train.budget_seconds == pytest.approx(100.0 + seconds, rel=1e-3)
    assert frozen.run.train.steps == 0 and frozen.run.tune.probe
    assert {a.run.network.model for a in found.values()} == {"vit_pico_patch4_32"}
    assert {a.run.weights for a in found.values()} == {None, str(learned)} and not (scratch.unlearned or longer.longer)


def test_the_classifier_at_its_end_is_part_of_what_it_took(photos, tmp_path, monkeypatch):
    true = frozen.probe
    monkeypatch.setattr(frozen, "probe", lambda *a, **b: replace(true(*a, **b), seconds=6000.0))
    out = tmp_path / "run"
    vt.pretrain(photos, method="mae", model="vit_pico_patch4_32", out=out, set=SHORT, quiet=True)
    (run,) = begun(Question(data=str(photos), init=(str(out),)))
    assert 6000 < run.seconds < 6500


def test_models_that_are_named_stand_beside_and_no_arm_stands_twice(photos, learned):
    found = made(photos, ["scratch", learned], models=("vit_pico_patch4_32", "resnet20_cifar"))
    assert len(found) == 5 and "resnet20_cifar, scratch" in found
    assert found["weights of mae"].unlearned == "vit_pico_patch4_32, scratch"


def test_the_control_is_the_same_network_with_its_options(photos, learned):
    question = Question(data=str(photos), init=("scratch", str(learned)), models=("auto", "vit_pico_patch4_32"))
    source = open_source(str(photos))
    (run,) = begun(question)

    def controlled(model, **options):
        runs = [run._replace(network=replace(run.network, model=model, options=options))]
        found = {a.name: a for a in arms(question, source, data_of(question, source), 100.0, runs=runs)}
        return found[found["weights of mae"].unlearned], found[found["weights of mae"].longer]

    twin, longer = controlled("hybrid_tiny_32", mixer="conv")
    assert twin.name == "auto, convolution for attention, scratch"
    assert twin.run.network.options == longer.run.network.options == {"mixer": "conv"}
    half, longer = controlled("vit_pico_patch4_32", depth=2)
    assert half.name == "vit_pico_patch4_32 as in weights of mae, scratch" and half.run.network.options == {"depth": 2}
    described = describe("vit_pico_patch4_32", half.run.network.size, half.run.network.classes, {"depth": 2})
    assert half.macs == longer.macs == described.macs


def test_where_lengths_are_set_the_time_is_not_counted_and_what_is_frozen_trains_no_step(photos, learned):
    found = made(photos, ["scratch", learned], set=("train.steps=3",))
    assert len(found) == 3 and not any(a.longer for a in found.values())
    assert [a.run.train.steps for a in found.values()] == [3, 3, 0]


def test_it_is_trained_on_as_from_scratch_unless_it_is_to_be_spared(photos, learned):
    fresh, _ = choose(Wishes(data=str(photos), model="vit_pico_patch4_32", recipe="scratch", epochs=60))
    own, reasons = choose(Wishes(data=str(photos), weights=str(learned), epochs=60))
    assert own.train == replace(fresh.train, evaluate_first=True) and own.tune.probe
    assert own.task == replace(fresh.task, soften=True)
    assert own.network.model == fresh.network.model and own.task.augment.policy == "trivial"
    assert any("began from scratch in a run of ours" in reason and "--tune full" in reason for reason in reasons)
    spared, _ = choose(Wishes(data=str(photos), weights=str(learned), tune="full", epochs=60))
    assert spared.train.optim.name == "adamw" and spared.train.optim.layer_decay < 1 and spared.tune.probe


def test_a_classifier_that_was_solved_does_not_wreck_its_features(photos, learned, tmp_path):
    """The first answer is the solved one's; its first loss is that of a fresh one."""

    def trained(soften):
        out = tmp_path / str(soften)
        changes = [*SHORT, "train.steps=3", "train.evaluate_first=true", f"task.soften={str(soften).lower()}"]
        vt.train(photos, weights=str(learned), out=out, set=changes, quiet=True)
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return rows[0]["val"]["accuracy"], rows[1]["loss"]

    (same, soft), (first, hard) = trained(True), trained(False)
    assert same == first > 0.2
    assert soft < 1.05 * math.log(10) < hard


def test_what_began_from_scratch_is_trained_on_alike_and_what_began_with_weights_of_others_is_spared(
    photos, trained, tmp_path
):
    few = {"epochs": 1, "quiet": True, "set": ["train.batch=16", "train.precision=fp32"]}
    vt.train(photos, weights=trained, out=tmp_path / "second", **few)
    for own in (trained, tmp_path / "second"):
        run, _ = choose(Wishes(data=str(photos), weights=str(own), epochs=60))
        assert run.task.soften and run.tune.probe and run.tune.guard == "off" and run.train.optim.name == "muon"
    name = json.loads((trained / "card.json").read_text())["network"]["model"]
    file = trained / "weights.safetensors"
    vt.train(photos, weights=file, model=name, size=32, tune="frozen", out=tmp_path / "file", quiet=True)
    spared, _ = choose(Wishes(data=str(photos), weights=str(tmp_path / "file"), epochs=60))
    assert not spared.task.soften and spared.tune.guard == "lower" and spared.train.optim.name == "adamw"


def test_a_supervised_run_brings_none(photos, trained):
    assert len(made(photos, [trained])) == 1


def test_what_learned_nothing_is_judged_already(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(conduct, "watched", lambda *_, **__: pytest.fail("there is nothing to compare"))
    still = [*SHORT, "train.evaluate_first=true", "train.optim.lr=1e-12", "train.optim.muon_lr=1e-12"]
    arguments = [
        "--method",
        "mae",
        "--model",
        "vit_pico_patch4_32",
        "--out",
        str(tmp_path / "run"),
        "--verdict",
        "--quiet",
    ]
    assert main(["pretrain", str(photos), *arguments, *(f"--set={change}" for change in still)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "No step made the features better" in said and "--weights" not in said
    assert f"the same with a longer --budget, or train without these weights: vitreous train {photos}" in said


def test_a_whole_verdict(photos, tmp_path, capsys):
    out = tmp_path / "mae"
    arguments = ["--method", "mae", "--model", "vit_pico_patch4_32", "--out", str(out), "--verdict", "--quiet"]
    asked = verdict.ask
    with pytest.MonkeyPatch.context() as patch:  # one seed of 3 steps each, where a user gets three of a time
        patch.setattr(
            verdict, "ask", lambda *a, **k: Question(**{**vars(asked(*a, **k)), "seeds": 1, "set": ("train.steps=3",)})
        )
        assert main(["pretrain", str(photos), *arguments, *(f"--set={change}" for change in SHORT)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Pretraining" in said and "against the same network from scratch with as much fine-tuning" in said
    found = json.loads((tmp_path / "mae-verdict" / "comparison.json").read_text())
    assert found["verdict"] in said and [arm["failed"] for arm in found["arms"]] == [None] * 3
    page = html.unescape((tmp_path / "mae-verdict" / "comparison.html").read_text())
    assert "Pretraining " in page and "weights of mae, frozen" in page
    # other weights in the same place are another question
    card = json.loads((out / "card.json").read_text())
    assert "weights of" in to_json(json.loads((tmp_path / "mae-verdict" / "question.json").read_text())).decode()
    assert card["files"]["weights.safetensors"]["sha256"] in (tmp_path / "mae-verdict" / "question.json").read_text()
