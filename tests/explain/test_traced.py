"""A trace on the command line: what people read fits their terminal, what programs read is JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitreous.cli.main import main


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "32x"], "rows x columns such as 160x224, not 32x."),
        (["--size=-32"], "rows x columns such as 160x224, not -32."),
        (["--size", "0x32"], "at least 1 pixel"),
        (["--size", "200000"], "pixels are too many to trace"),
        (["--stage", "block"], "vit_pico_patch4_32 has no stage block; did you mean blocks.0-5?"),
    ],
)
def test_a_mistake_gets_one_sentence_and_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("trace", "vit_pico_patch4_32", *arguments) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_one_stage_of_a_picture_that_is_not_square(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", "vit_pico_patch4_32", "--stage", "blocks.0.attn", "--size", "32x48") == 0
    said = capsys.readouterr().out
    assert "(1,96,128)" in said and "blocks.0.attn.qkv" in said and "mlp" not in said and "32 x 48 pixels" in said


def test_a_trace_can_be_read_by_programs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("trace", "vit_pico_patch4_32", "--json", "--size", "32x48", "--out", tmp_path / "cuts.png") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.out.count("\n") == 1 and not printed.err
    assert found["size"] == [32, 48] and found["drawing"] == str(tmp_path / "cuts.png") and found["seconds"] > 0
    row = next(stage for stage in found["stages"] if stage["name"] == "backbone.blocks.0-5")
    assert row["alike"] == 6 and row["input"] == row["output"] == [1, 96, 128] and 0 < row["share"] <= 1
    for cost in ("parameters", "macs"):
        assert sum(stage[cost] for stage in found["stages"]) == found[cost] > 0
    assert sum(step["macs"] for step in found["operations"]) == found["macs"]
    assert {"module", "operation", "inputs", "output", "macs", "note"} == set(found["operations"][0])
    assert run("trace", "vit_pico_patch4_32", "--json", "--stage", "head") == 0
    found = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in found["stages"]] == ["head"]
    assert [step["operation"] for step in found["operations"]] == ["dropout", "linear"]


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize(
    "name", ["vit_base_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_s", "efficientvit_b1", "resnet50"]
)
def test_a_trace_fits_a_terminal(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line is longer than the terminal, none is cut off, and numbers end where their heading ends."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("vitreous.explain.trace.REPEATS", 1)
    assert run("trace", name) == 0
    lines = capsys.readouterr().out.splitlines()
    title, pictures, heading, *rows = lines
    assert name in title and "GMACs" in title and "ms a pass" in pictures and heading.startswith("stage ")
    assert max(map(len, lines)) <= columns and not any("…" in line for line in lines)
    for number in ("params", "MMACs"):
        end = heading.index(number) + len(number)
        assert all(row[end] == " " and (row[end - 1].isdigit() or number == "MMACs") for row in rows)
    kinds, time = heading.index("kind"), heading.index("time")
    assert all(row[kinds - 1] == " " != row[kinds] and row[time : time + 4].strip(" %").isdigit() for row in rows[2:])


def test_a_narrow_terminal_cuts_no_number_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    for more, last in (([], "━"), (["--operations"], "never stored")):
        assert run("trace", "vit_pico_patch4_32", *more) == 0
        said = capsys.readouterr().out
        assert "(1,64,128)" in said and last in said and "…" not in said


def test_without_a_model_the_argument_is_named_as_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace") == 2
    said = capsys.readouterr().err
    assert "MODEL requires an argument" in said and "--model" not in said
