from __future__ import annotations

import json
import re

import pytest

import vitreous as vt
from vitreous.cli import show
from vitreous.errors import UsageError
from vitreous.models import CATALOGUE
from vitreous.models.costs import Cost
from vitreous.weights import ledger
from vitreous.weights.ledger import LEDGER, Listed, Weights

LICENCES = {"Apache-2.0", "MIT", "BSD-3-Clause", *ledger.RESTRICTED}


def test_every_name_is_a_model_of_the_catalogue() -> None:
    assert set(LEDGER) <= set(CATALOGUE)


@pytest.mark.parametrize("name", LEDGER)
def test_every_row_is_possible(name: str) -> None:
    tags = [weights.tag for weights in LEDGER[name]]
    assert tags and len(tags) == len(set(tags))
    for weights in LEDGER[name]:
        assert weights.licence in LICENCES
        assert weights.top1 is None or 50 < weights.top1 < 92
        assert (weights.top1 is None) == (weights.classes != 1000)
        assert 128 <= weights.size <= 518 and 0.8 < weights.crop <= 1
        assert weights.normalisation in (ledger.IMAGENET, ledger.HALF, ledger.UNIT)
        assert weights.interpolation in ("bicubic", "bilinear")
        assert re.fullmatch(r"timm/[a-z0-9_]+\.[a-z0-9_]+", ledger.repository(name, weights))


def test_weights_that_need_a_warning() -> None:
    by_tag = {f"{name}.{w.tag}": w.licence for name, rows in LEDGER.items() for w in rows}
    restricted = {name for name, licence in by_tag.items() if licence in ledger.RESTRICTED}
    assert {n for n in by_tag if ".mae" in n or "mobilevit" in n} == restricted


def test_a_name_has_a_default_and_tags() -> None:
    assert ledger.find("resnet50").tag == "a1_in1k"
    assert ledger.find("resnet50", "tv_in1k").licence == "BSD-3-Clause"
    with pytest.raises(UsageError, match=r"no weights a9 of resnet50 .* has a1_in1k, tv2_in1k, tv_in1k\."):
        ledger.find("resnet50", "a9")
    with pytest.raises(UsageError, match="No published weights of resnet20_cifar"):
        ledger.find("resnet20_cifar")
    with pytest.raises(UsageError, match="did you mean resnet50"):
        ledger.find("resnet500")


def test_the_list_of_models_holds_what_is_published() -> None:
    (found,) = vt.list_models("vit_tiny_patch16_224")
    assert found.cost.params == 5_717_416
    assert [w.tag for w in found.weights] == ["augreg_in21k_ft_in1k", "augreg_in21k"]
    assert vt.list_models("resnet20_cifar")[0].weights == ()
    assert {row.name for row in vt.list_models()} == set(CATALOGUE)


def listed(name: str, size: int, params: float, macs: float, *weights: Weights) -> Listed:
    return Listed(name, size, Cost(int(params), int(macs)), weights)


ROWS = [
    listed("n" * 33, 518, 1138e6, 1783.3e9, Weights("t", 85.11, 384, 1.0, licence="CC-BY-NC-4.0")),
    listed("b", 32, 0.28e6, 0.03e9),
    listed("c", 224, 99.999e6, 4.4e9, Weights("t", 79.25, 224, 0.9)),
    listed("d", 224, 632e6, 167.3e9, Weights("t", None, 224, 0.9, classes=0)),
]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_is_aligned_and_fits(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert show.models(ROWS, form="table") == 0
    table, _, notes = capsys.readouterr().out.partition("\n\n")
    lines = table.splitlines()
    assert len(lines) == 5 and max(map(len, lines)) <= 80
    for words in ("px", "params", "MACs", "top-1"):  # numbers end where their heading ends
        end = lines[0].index(words) + len(words)
        assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for line in lines if len(line) >= end), (
            words
        )
    assert lines[1].endswith("518   1138M   1783G  85.11 @384  CC-BY-NC-4.0")
    assert lines[2].endswith("0.03G") and lines[3].endswith("79.25  Apache-2.0") and lines[4].endswith(" -  Apache-2.0")
    assert "top-1: per cent" in notes and "CC-BY-NC-4.0: not for commercial use" in notes


def test_a_single_model_is_shown_with_all_its_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.models(vt.list_models("vit_base_patch16_224"), form="table") == 0
    said = capsys.readouterr().out
    for weights in LEDGER["vit_base_patch16_224"]:
        assert re.search(rf"^{weights.tag} ", said, re.M)
    assert "not for commercial use" in said


def test_programs_get_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert show.models(ROWS, form="json") == 0
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [v["name"] for v in values] == [row.name for row in ROWS]
    assert values[1] == {"name": "b", "size": 32, "parameters": 280_000, "macs": 30_000_000, "weights": []}
    assert values[2]["weights"][0] == {
        "repository": "timm/c.t", "tag": "t", "top1": 79.25, "size": 224, "crop": 0.9, "licence": "Apache-2.0",
        "interpolation": "bicubic", "classes": 1000, "note": "", "mean": list(ledger.IMAGENET[0]),
        "std": list(ledger.IMAGENET[1]),
    }  # fmt: skip
