"""A whole comparison on few pictures, and everything that is refused before the first step."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import vitreous as vt
from vitreous import duration
from vitreous.cli.main import main
from vitreous.comparison import arms as makers
from vitreous.comparison import conduct, probe, setting, verdict, work
from vitreous.comparison.entries import Entry, entries, has_mixer
from vitreous.comparison.progress import Progress
from vitreous.comparison.question import SMALL, USUAL, Question, default_budget, listed, numbers
from vitreous.comparison.standing import read
from vitreous.config import diff, to_dict
from vitreous.data.dataset import open_source
from vitreous.data.prepare import prepare
from vitreous.models.describe import describe
from vitreous.recipes import scratch, transformer
from vitreous.recipes.auto import glance
from vitreous.training.config import TrainConfig

MODELS = ("resnet20_cifar", "vit_pico_patch8_64")
SHORT = ["train.steps=2", "train.batch=8"]
SMALLEST = ["--models", "resnet20_cifar,vit_small_patch14_dinov2", "--set", "train.steps=2", "--set", "train.batch=8"]


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def compared(photos, tmp_path_factory):
    """A comparison with one seed: an arm that works, and one that cannot be."""
    out = tmp_path_factory.mktemp("compare") / "out"
    assert run("compare", photos, *SMALLEST, "--seeds", "1", "--out", out, "--quiet") == 0
    return out


def test_an_arm_that_cannot_be_does_not_lose_the_others(compared, capsys):
    found = json.loads((compared / "comparison.json").read_text())
    good, bad = found["arms"]
    assert good["name"] == "resnet20_cifar" and good["initialisation"] == "scratch" and bad["accuracy"] is None
    assert "14" in bad["failed"]["0"]
    assert found["verdict"].startswith("No model can be shown to have learned")  # in two steps
    assert good["latency_ms"] > 0 and good["parameters"] == describe("resnet20_cifar", 32, 2).params


def test_the_page_loads_nothing_and_names_every_arm(compared):
    page = html.unescape((compared / "comparison.html").read_text())
    assert "default-src 'none'" in page and "<script" not in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "resnet20_<wbr>cifar" in page and "did not finish" in page


def test_more_seeds_go_on_from_those_that_are_there(compared, photos, monkeypatch):
    begun, timed = [], []
    command, measure = work.command, conduct.measure
    monkeypatch.setattr(work, "command", lambda job: begun.append(job.label) or command(job))
    monkeypatch.setattr(conduct, "measure", lambda folders: timed.append(folders) or measure(folders))
    found = vt.compare(
        photos,
        models=listed(SMALLEST[1]),
        set=SHORT,
        seeds=2,
        out=compared,
        quiet=True,
    )
    assert begun == ["resnet20_cifar, seed 1"]
    assert len(timed) == 1, "with a run more everything is timed anew"
    again = vt.compare(photos, models=listed(SMALLEST[1]), set=SHORT, seeds=2, out=compared, quiet=True)
    assert len(timed) == 1 and again.to_dict() == found.to_dict(), "where nothing was trained nothing is timed"
    arm = found.arms[0]
    assert [r.seed for r in arm.runs] == [0, 1] and arm.over_seeds is not None
    assert arm.right.shape == (2, found.data["counts"]["test"])
    for each in arm.runs:
        card = json.loads((each.folder / "card.json").read_text())
        assert each.right.mean() == pytest.approx(card["metrics"]["test"]["accuracy"])
    assert found.verdict in repr(found) and found.report.exists()


@pytest.mark.parametrize("equal", ["time", "epochs"])
def test_arms_that_begin_with_a_run_go_on_too(equal, compared, photos, tmp_path, monkeypatch):
    begun = []
    command = work.command
    monkeypatch.setattr(work, "command", lambda job: begun.append(job.label) or command(job))
    weights = compared / "runs" / "resnet20_cifar-seed0"
    more = {"set": ["train.steps=2"]} if equal == "time" else {"budget": "3s", "equal": equal}
    for _ in range(2):
        found = vt.compare(photos, init=str(weights), seeds=1, out=tmp_path / "out", quiet=True, **more)
    assert begun == [f"weights of {weights.name}, seed 0"] and found.arms[0].runs, found.arms[0].reasons
    settled = json.loads((found.arms[0].runs[0].folder / "run.json").read_text())
    assert settled["tune"]["pictures"], "what the run settled itself is what a second call must overlook"


def test_a_pupil_and_an_arm_that_knows_test_pictures_go_through_to_page_and_verdict(compared, photos, tmp_path, capsys):
    known, teacher = tmp_path / "old", compared / "runs" / "resnet20_cifar-seed0"
    few = ["train.steps=2", "train.batch=8"]
    vt.train(photos, model="resnet20_cifar", size=32, out=known, set=[*few, "data.split_salt=other"], quiet=True)
    capsys.readouterr()
    found = vt.compare(
        photos,
        models="vit_pico_patch4_32",
        init=["scratch", str(known)],
        teacher=teacher,
        fractions=(0.5, 1.0),
        size=32,
        seeds=1,
        set=few,
        out=tmp_path / "out",
    )
    alone, taught, leaked = (
        "vit_pico_patch4_32, scratch",
        f"vit_pico_patch4_32, taught by {teacher.name}, scratch",
        "weights of old",
    )
    assert {arm.name for arm in found.whole[:2]} == {alone, taught} and all(arm.runs for arm in found.arms), found.arms
    flattered = found.whole[2]
    assert flattered.name == leaked and flattered.begun.endswith("(knows held-out pictures)")
    assert flattered.leak in capsys.readouterr().err, "which is said before the first step"

    remarks = " ".join(found.remarks)
    assert f"{leaked} is not judged, whatever its score. {flattered.leak}" in found.remarks
    assert leaked not in found.verdict
    assert {frozenset(names[:2]) for names in found.pairs} == {frozenset((alone, taught))} and len(found.pairs) == 1
    assert {curve.name for curve in found.growth} == {alone, taught} and "2 fractions do not tell" in remarks

    page = html.unescape((tmp_path / "out" / "comparison.html").read_text()).replace("<wbr>", "")
    assert (
        flattered.leak.split(": ")[-1] in page and "(knows held-out pictures)" in page and "What more pictures" in page
    )
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [arm["leak"] for arm in stored["arms"][:3]] == [None, None, flattered.leak]
    assert {arm["teacher"] for arm in stored["arms"] if arm["name"] == taught} == {str(teacher)}


@pytest.mark.parametrize("name", ["hybrid_tiny_32 without attention", "weights of resnet20_cifar-seed0"])
def test_the_commands_to_go_on_with_make_the_same_network(name, compared, photos, tmp_path, monkeypatch, capsys):
    weights = (
        ["--init", compared / "runs/resnet20_cifar-seed0"] if "weights" in name else ["--models", "hybrid_tiny_32"]
    )
    monkeypatch.setattr(verdict, "judge", lambda arms, **_: verdict.Judgement("Take it.", [], [], name))
    more = [word for change in SHORT for word in ("--set", change)]
    assert run("compare", photos, *weights, *more, "--size", "32", "--seeds", "1", "--out", tmp_path / "out") == 0
    use = json.loads((tmp_path / "out/comparison.json").read_text())["use"]
    said = capsys.readouterr().out
    assert use["name"] == name and f"next    {use['predict']}" in said and f"longer  {use['train']}" in said
    assert use["train"] in html.unescape((tmp_path / "out/comparison.html").read_text())
    _, *predict = shlex.split(use["predict"].replace("YOUR-PICTURE.jpg", str(next(photos.rglob("*.png")))))
    assert run(*predict) == 0
    own = json.loads((Path(predict[1]) / "run.json").read_text())
    _, *train = shlex.split(use["train"])
    assert duration.seconds(train.pop()) > 0 and train.pop() == "--budget"
    assert run(*train, "--set", "train.steps=1", "--out", tmp_path / "longer", "--quiet") == 0
    longer = json.loads((tmp_path / "longer/run.json").read_text())
    assert longer["network"] == own["network"] and longer["weights"] == own["weights"]
    assert longer["train"]["optim"] == own["train"]["optim"] and longer["train"]["batch"] == own["train"]["batch"]


def test_another_question_in_the_same_folder_is_refused(compared, photos, capsys):
    assert run("compare", photos, "--models", "resnet20_cifar", "--set", "train.steps=3", "--out", compared) == 2
    assert "holds the answer to another question" in " ".join(capsys.readouterr().err.split())


def test_a_folder_of_something_else_is_refused_before_a_picture_is_opened(photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "diary.txt").write_text("mine")
    monkeypatch.setattr(setting, "open_source", lambda spec: pytest.fail("the pictures were opened"))
    assert run("compare", photos, *SMALLEST, "--out", tmp_path) == 2
    assert "holds no comparison" in " ".join(capsys.readouterr().err.split())


# ---------------------------------------------------------------- refused before the first step


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "vit_tinny"], "There is no model vit_tinny"),
        (["--models", "resnet18,resnet18"], "names something twice"),
        (["--init", "nowhere"], "run folder, and nowhere is none"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--budget", "5"], "write 5s or 5m"),
        (["--fractions", "0.5,2"], "shares above 0 and at most 1"),
        (["--fractions", "half"], "numbers with commas"),
        (["--size", "2"], "--size must be at least 8"),
        (["--set", "seed=3"], "use --seeds"),
        (["--set", "network.model=resnet18"], "use --models"),
        (["--set", "train.steps=3", "--budget", "1m"], "not both"),
        (["--set", "train.steps=3", "--equal", "macs"], "leave out --equal"),
        (["--set", "train.stepz=3"], "did you mean steps"),
        (["--equal", "flops"], "Invalid value"),
        (["--models", "resnet20_cifar", "--budget", "0.001s"], "less than one pass of resnet20_cifar"),
        (["--models", "resnet20_cifar", "--init", "pretrained"], "No published weights of resnet20_cifar"),
        (["--models", "auto", "--teacher", "resnet20_cifr"], "did you mean resnet20_cifar"),
        (["--models", "resnet20_cifar", "--teacher", "resnet18"], "--models names none; add auto"),
        (["--init", "pretrained", "--teacher", "resnet18"], "add scratch to --init"),
        (["--models", "auto", "--set", "teacher.place=resnet18"], "use --teacher"),
        (["--models", "auto", "--set", "teacher.share=0.2"], "teacher"),
    ],
)
def test_a_mistake_gets_one_sentence_and_leaves_nothing(arguments, sentence, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("compare", photos, *arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said and "Traceback" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("pictures", "kinds"), [(3, ("round", "long")), (30, ("round",))])
def test_three_pictures_or_one_class_are_refused(pictures, kinds, draw, tmp_path, capsys):
    for number in range(pictures):
        draw(tmp_path / "few", kinds[number % len(kinds)], number)
    assert run("compare", tmp_path / "few", "--models", "resnet20_cifar", "--out", tmp_path / "out") == 7
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_offline_is_found_out_once_and_said(photos, tmp_path, monkeypatch, capsys):
    asked = []

    def fetch(repository):
        asked.append(repository)
        raise vt.Unreachable("The hub cannot be reached; give a file with --weights.")

    monkeypatch.setattr("vitreous.weights.hub.fetch", fetch)
    names = "resnet18,resnet34,mobilevit_xs"
    assert run("compare", photos, "--models", names, "--init", "pretrained", "--out", tmp_path / "out") == 8
    assert "cannot be reached" in capsys.readouterr().err and len(asked) == 1

    question = Question(data=str(photos), models=listed(names), init=("scratch", "pretrained"), size=32)
    source = open_source(str(photos))
    found = makers.arms(question, source, makers.data_of(question, source), 60.0)
    assert [bool(arm.run) for arm in found] == [True] * 3 + [False] * 3
    assert len(asked) == 2 and all("cannot be reached" in arm.reason for arm in found[3:])
    assert found[0].name == "resnet18, scratch" and found[3].name == "resnet18, pretrained"


# ---------------------------------------------------------------- what is compared


@pytest.mark.parametrize(("size", "usual"), [(32, SMALL), (48, SMALL), (64, USUAL), (96, USUAL), (224, USUAL)])
def test_the_usual_models_take_pictures_of_every_size(size, usual):
    found = entries((), size)
    assert [e.name for e in found if e.mixer in (None, "attention")] == list(usual)
    assert [e.mixer for e in found[:3]] == ["attention", "none", "conv"], "the transformer comes with its twins"
    for each in found:
        options = {"mixer": each.mixer} if each.mixer else {}
        assert describe(each.model, size, 10, options).macs > 0


def test_twins_differ_in_attention_alone_and_only_the_first_transformer_has_them():
    names = [e.name for e in entries(("resnet18", "auto", transformer(64)), 32)]
    assert names == ["resnet18", "auto", "auto without attention", "auto, convolution for attention", transformer(64)]
    assert has_mixer(transformer(32)) and not has_mixer("resnet18")


@pytest.mark.parametrize(("seconds", "model"), [(20.0, "hybrid_tiny_96"), (7200.0, "hybrid_small_96")])
def test_auto_and_its_twins_are_what_train_takes_in_that_time(seconds, model, photos):
    question = Question(data=str(photos), models=("auto",), fractions=(1.0, 0.5), size=96)
    source = open_source(str(photos))
    seen = replace(glance(source), pictures=6000, training=4200)
    found = makers.arms(question, source, makers.data_of(question, source, seen), seconds, seen)
    assert [arm.model for arm in found] == [model] * 6, "on a share as well, so that its curve is of one network"


def test_a_network_is_known_by_its_options_too():
    own, none, conv = entries(("auto",), 32)
    for options, builder in (
        ({}, own),
        ({"mixer": "attention"}, own),
        ({"mixer": "none"}, none),
        ({"mixer": "conv"}, conv),
    ):
        assert [each for each in (own, none, conv) if each.builds(own.model, options)] == [builder]
    assert not own.builds(own.model, {"depth": 3}) and not own.builds("resnet18", {})
    assert Entry("x", own.model, None, options={"depth": 3}).builds(own.model, {"depth": 3, "mixer": "attention"})


def test_all_arms_share_split_and_preprocessing_and_differ_in_network_and_seed(photos):
    question = Question(data=str(photos), models=("auto", "resnet18", "vit_tiny_patch16_224"), fractions=(0.5, 1.0))
    source = open_source(str(photos))
    data = makers.data_of(question, source)
    found = makers.arms(question, source, data, 60.0)
    assert {arm.fraction for arm in found[:5]} == {1.0} and {arm.fraction for arm in found[5:]} == {0.5}
    own, none, conv = (to_dict(arm.run) for arm in found[:3])
    assert {path for path, *_ in diff(own, none) + diff(own, conv)} == {"network.options.mixer"}
    assert found[5].run.train.batch < found[0].run.train.batch, "a share has the recipe for as many pictures"
    assert (
        all(arm.run.data == replace(data, fraction=arm.fraction) for arm in found)
        and len({arm.folder(0) for arm in found}) == 10
    )
    assert all(arm.run.train.budget_seconds == 60 for arm in found)


def test_the_transformer_with_twins_is_taught_and_nobody_else(photos):
    def pupils(*named):
        return [(e.name, e.untaught) for e in entries(named, 32, "resnet20_cifar") if e.untaught]

    assert pupils() == pupils("resnet18", "vit_pico_patch4_32", "auto") == [("auto, taught by resnet20_cifar", "auto")]
    (vit,) = pupils("resnet18", "vit_pico_patch4_32", "swin_tiny_patch4_window7_224")
    assert vit == ("vit_pico_patch4_32, taught by resnet20_cifar", "vit_pico_patch4_32")

    question = Question(data=str(photos), models=("auto",), teacher="resnet20_cifar", set=("teacher.share=0.3",))
    source = open_source(str(photos))
    own, *_, taught = makers.arms(question, source, makers.data_of(question, source), 60.0)
    assert taught.run.teacher.share == 0.3 and taught.is_scratch and taught.untaught == own.name
    changes = [change for change in diff(to_dict(own.run), to_dict(taught.run)) if not change[0].startswith("teacher")]
    assert [(path, was) for path, was, _ in changes] == [("network.options.mixer", "attention")], "which is the default"
    assert own.run.train == taught.run.train, "the teacher's time is part of the same budget"


def test_arms_that_know_test_pictures_are_marked_and_what_a_teacher_run_knows_is_no_scratch(
    compared, photos, monkeypatch
):
    known = str(compared / "runs" / "resnet20_cifar-seed0")
    question = Question(data=str(photos), models=("auto",), init=("scratch", known), size=32, teacher=known)
    source = open_source(str(photos))
    data = makers.data_of(question, source)
    found = makers.arms(question, source, data, 60.0)
    assert [arm.is_scratch for arm in found] == [True, True, True, False, False]
    for salt, leaks in ((data.split_salt, False), ("other", True)):
        prepared = prepare(replace(data, split_salt=salt), source=source)
        told = [arm.leak for arm in setting._marked(found, prepared)]
        assert told[:3] == [""] * 3
        assert [("test pictures: the accuracy on them flatters" in leak) for leak in told[3:]] == [leaks] * 2
        assert not leaks or (told[3].startswith("The teacher ") and told[4].startswith("The weights of "))
    monkeypatch.setattr(setting, "shown_before", lambda *a: [])
    told = [arm.leak for arm in setting._marked(found, prepared)]
    assert told[:3] == [""] * 3 and all("validation pictures" in leak for leak in told[3:]), "by which arms are ranked"


def test_the_pictures_are_opened_once_for_all_arms(photos):
    source = open_source(str(photos))
    opened, read_one = [], source.read
    source.read = lambda i: opened.append(i) or read_one(i)
    question = Question(data=str(photos), models=("auto", "resnet18"), size=32)
    seen = glance(source)
    assert len(opened) == len(set(opened)) == 64
    assert len(makers.arms(question, source, makers.data_of(question, source, seen), 60.0, seen)) == 4
    assert len(opened) == 64


def test_a_share_that_is_seen_more_often_gets_stronger_augmentation(photos, monkeypatch):
    monkeypatch.setattr(scratch, "expected_epochs", lambda model, size, pictures, seconds: 3000 / pictures)
    question = Question(data=str(photos), models=("resnet20_cifar",), size=32, fractions=(0.1, 1.0))
    source = open_source(str(photos))
    whole, part = makers.arms(question, source, makers.data_of(question, source), 60.0)
    assert (whole.run.task.augment.policy, part.run.task.augment.policy) == ("none", "trivial")


def test_augmentation_follows_the_length_that_was_set(photos):
    source = open_source(str(photos))
    for length, policy in (("train.epochs=10", "none"), ("train.epochs=100", "trivial")):
        question = Question(data=str(photos), models=("resnet20_cifar",), size=32, set=(length,))
        (arm,) = makers.arms(question, source, makers.data_of(question, source), 60.0)
        assert arm.run.task.augment.policy == policy and arm.run.train.budget_seconds is None


def test_runs_of_one_name_to_begin_with_have_folders_of_their_own(compared, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("a", "b"):
        shutil.copytree(compared / "runs" / "resnet20_cifar-seed0", tmp_path / place / "best")
    source = open_source(str(photos))

    def made(*init):
        question = Question(data=str(photos), init=init)
        return makers.arms(question, source, makers.data_of(question, source), 60.0)

    assert [arm.name for arm in made("a/best", "b/best")] == ["weights of a/best", "weights of b/best"]
    assert [arm.folder(0) for arm in made("a/best", "b/best")] == ["weights-of-a-best-seed0", "weights-of-b-best-seed0"]
    with pytest.raises(vt.UsageError, match="would share the folder"):
        made("a/best", "a/best/")


def test_auto_with_published_weights_is_what_train_takes(photos, monkeypatch):
    asked = []

    def fetch(repository):
        asked.append(repository)
        raise vt.Unreachable("The hub cannot be reached.")

    monkeypatch.setattr("vitreous.weights.hub.fetch", fetch)
    question = Question(data=str(photos), models=("auto",), init=("scratch", "pretrained"))
    source = open_source(str(photos))
    data = makers.data_of(question, source)
    *_, begun = makers.arms(question, source, data, 60.0)
    assert data.preprocess.size % 14 == data.preprocess.size % 16 == 0
    assert begun.name == "auto, pretrained" and ["dinov2" in name for name in asked] == [True]


def test_what_the_memory_cannot_hold_is_a_reason_before_it_is_built(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("vitreous.run.memory.memory", lambda place: 10**6)
    monkeypatch.setattr(probe, "build_network", lambda config: pytest.fail("the network was built"))
    with pytest.raises(vt.UsageError, match=r"resnet20_cifar: To train resnet20_cifar takes .* GB.*smaller model"):
        vt.compare(photos, models="resnet20_cifar", size=32, out=tmp_path / "out", quiet=True)


def test_a_teacher_is_tried_before_all_others(photos, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(setting, "seconds_per_picture", lambda run, *_: tried.append(run) or 1e-3)
    monkeypatch.setattr(conduct, "_run", lambda *_: pytest.exit("trained"))
    with pytest.raises(pytest.exit.Exception):
        vt.compare(photos, models=MODELS, teacher="resnet18", size=64, budget="9s", out=tmp_path / "out", quiet=True)
    assert [run.teacher is None for run in tried] == [False, True, True]


def test_only_want_of_memory_is_called_that_and_nothing_left_is_one_sentence(photos, tmp_path, monkeypatch):
    def fail(error):
        def probe(*arguments):
            raise error

        monkeypatch.setattr(setting, "seconds_per_picture", probe)
        vt.compare(photos, models="resnet20_cifar", size=32, out=tmp_path / "out", quiet=True)

    for error in (MemoryError(), RuntimeError("could not create a memory object")):
        with pytest.raises(vt.UsageError, match=r"resnet20_cifar: It does not fit into the memory\.$"):
            fail(error)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fail(RuntimeError("shapes cannot be multiplied"))


def test_the_cost_of_a_step_is_shared_by_its_batch_and_a_teachers_by_the_budget(photos, monkeypatch):
    question = Question(
        data=str(photos), models=("auto",), size=32, teacher="resnet20_cifar", set=("teacher.share=0.75",)
    )
    source = open_source(str(photos))
    data = makers.data_of(question, source)
    own, *_, taught = (arm.run for arm in makers.arms(question, source, data, 60.0))
    prepared = prepare(data, source=source)
    monkeypatch.setattr(probe.Optimiser, "step", lambda self: time.sleep(0.5))
    alone = probe.seconds_per_picture(own, prepared, 1)
    assert alone > 0.5 / own.train.batch, "an optimiser that takes most of the time is not overlooked"
    assert probe.seconds_per_picture(taught, prepared, 1) > 3 * 0.5 / own.train.batch, "a quarter of the time is left"


def look(question, out, monkeypatch, seconds):
    """The setting where every arm takes so many seconds a picture, and whose trials those were."""
    tried = []
    monkeypatch.setattr(setting, "seconds_per_picture", lambda run, *a: tried.append(run.network) or seconds)
    return setting.settle(question, out, None, 1, lambda text: None), tried


def test_where_no_budget_was_given_the_slowest_arm_makes_a_pass_and_a_half(photos, tmp_path, monkeypatch):
    question = Question(data=str(photos), models=MODELS, size=64)
    plenty, _ = look(question, tmp_path, monkeypatch, 1e-4)
    for passes, seconds in ((0.9, plenty.seconds * 0.9), (2.0, plenty.seconds * 2.0)):  # of the usual budget
        found, tried = look(question, tmp_path, monkeypatch, seconds / len(plenty.prepared.train))
        assert found.seconds == pytest.approx(1.5 * passes * plenty.seconds, abs=1)
        assert all(arm.run.train.budget_seconds == found.seconds for arm in found.arms)
        assert len(tried) == len(found.arms) == 2, "what was tried needs no second trial"


def test_weights_that_were_trained_anew_are_another_question(compared, photos, tmp_path, monkeypatch):
    known = str(compared / "runs" / "resnet20_cifar-seed0")
    question, out = Question(data=str(photos), init=(known,)), tmp_path / "out"
    asked, _ = look(question, out, monkeypatch, 1e-4)
    with setting.claimed(asked):
        kept = json.loads((out / setting.QUESTION).read_text())
    with (
        pytest.raises(vt.UsageError, match=f"weights of {re.escape(known)} was"),
        setting.claimed(replace(asked, runs=[run._replace(sha256="0" * 64) for run in asked.runs])),
    ):
        pass
    del kept[f"weights of {known}"]  # as earlier versions wrote it
    (out / setting.QUESTION).write_text(json.dumps(kept))
    with setting.claimed(asked):
        assert json.loads((out / setting.QUESTION).read_text())[f"weights of {known}"] == asked.runs[0].sha256


@pytest.mark.parametrize("place", ["run", "resnet20_cifar"])
def test_a_teachers_answers_take_time_whether_it_is_trained_here_or_not(place, compared, photos, monkeypatch):
    place = str(compared / "runs" / "resnet20_cifar-seed0") if place == "run" else place
    question = Question(data=str(photos), models=("auto",), size=32, teacher=place)
    source = open_source(str(photos))
    data = makers.data_of(question, source)
    *_, taught = (arm.run for arm in makers.arms(question, source, data, 60.0))
    monkeypatch.setattr(probe, "_step", lambda *a: 0.001)
    asked = []
    monkeypatch.setattr(probe, "speed", lambda network, **k: asked.append(network.config) or 2.0)  # half a second each
    seconds = probe.seconds_per_picture(taught, prepare(data, source=source), 1)
    share = taught.teacher.share if taught.teacher.is_model else 0.0
    assert seconds == pytest.approx((1.15e-3 + 0.5) / (1 - share))
    assert [(each.model, each.classes) for each in asked] == [("resnet20_cifar", 2)]


@pytest.fixture
def settled(photos, tmp_path, monkeypatch):
    """``settled(question, steps=..., epochs=...)``: the setting before and after the first run, that run, the words."""

    def make(question, **done):
        source = open_source(str(photos))
        seen, data = glance(source), makers.data_of(question, source)
        monkeypatch.setattr(conduct, "work", lambda *a, **k: None)
        monkeypatch.setattr(conduct, "read", lambda *a: SimpleNamespace(**{"steps": 1, "epochs": 1.0} | done))
        before = setting.Setting(
            question=question,
            out=tmp_path,
            prepared=prepare(data, source=source),
            seen=seen,
            runs=[],
            seconds=60.0,
            arms=makers.arms(question, source, data, 60.0, seen),
            rates=defaultdict(lambda: 1e-3),
        )
        return before, *conduct._equal(before, Progress(quiet=True))

    return make


def test_equal_macs_are_equal_on_a_share_too(settled, photos):
    question = Question(data=str(photos), models=MODELS, size=64, equal="macs", fractions=(0.5, 1.0))
    before, after, _, told = settled(question, epochs=8.0)
    first, *_ = before.arms
    for arm in after.arms:
        assert arm.run.train.epochs * arm.macs * arm.fraction == pytest.approx(8 * first.macs) and arm.macs
        assert arm.run.train.budget_seconds is None
    assert "passes of resnet20_cifar, which took 1m" in told


@pytest.mark.parametrize(
    ("guess", "epochs", "policy"), [(100, 10.0, "none"), (10, 100.0, "trivial"), (9, 10.0, "none")]
)
def test_augmentation_follows_the_length_that_turned_out_for_all_alike(
    guess, epochs, policy, settled, photos, monkeypatch
):
    monkeypatch.setattr(scratch, "expected_epochs", lambda *a: guess)
    before, after, first, _ = settled(Question(data=str(photos), models=MODELS, size=64, equal="epochs"), epochs=epochs)
    assert [arm.run.task.augment.policy for arm in after.arms] == [policy] * 2
    assert [arm.run.train.epochs for arm in after.arms] == [epochs] * 2
    jobs = conduct._run(after, first, 1, Progress(quiet=True))
    alike = before.arms[0].run.task == after.arms[0].run.task
    assert (jobs[after.arms[0], 0] is first) is alike
    assert (jobs[after.arms[0], 0].place.name == "resnet20_cifar-seed0-again") is not alike
    assert len({job.place for job in (first, *jobs.values())}) == (6 if alike else 7)


def test_equal_steps_keep_what_was_set_and_what_is_only_probed(settled, photos, compared):
    known = str(compared / "runs" / "resnet20_cifar-seed0")
    question = Question(
        data=str(photos),
        models=("vit_pico_patch8_64",),
        init=("scratch", known),
        size=64,
        equal="steps",
        set=("task.augment.policy=randaugment",),
    )
    _, after, *_ = settled(question, steps=7)
    assert [(arm.run.train.steps, arm.run.task.augment.policy) for arm in after.arms] == [(7, "randaugment")] * len(
        after.arms
    )
    probed = replace(after.arms[0], run=replace(after.arms[0].run, train=TrainConfig(steps=0, evaluate_first=True)))
    assert makers.lengthened(probed, "train.steps=9", None, None) is probed


def test_answers_to_other_test_pictures_are_refused(compared):
    with pytest.raises(vt.DamagedFile, match="answered other test pictures"):
        read(compared / "runs" / "resnet20_cifar-seed0", 0, "0" * 64)


def test_words_and_numbers_are_read_from_either_form():
    assert listed("a, b,") == listed(["a,b"]) == listed(("a", "b")) == ("a", "b")
    assert numbers("0.1,1") == numbers([0.1, 1]) == (0.1, 1.0) and numbers(1) == (1.0,)


def test_the_usual_budget_grows_with_pictures_and_pixels_and_is_bounded():
    assert default_budget(50, 32) == 20 and default_budget(10**7, 224) == 600
    budgets = [default_budget(n, 64) for n in (500, 2000, 8000, 30000)]
    assert budgets == sorted(budgets) and np.all(np.diff(budgets) > 0)
