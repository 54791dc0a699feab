"""Configs to JSON and back: nothing lost, nothing unknown accepted, overrides read by type."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from vitreous.config import canonical, diff, from_dict, override, to_dict
from vitreous.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    count: int = 1
    on: bool = False
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    names: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


FULL = Outer(name="x", limit=3, maybe=Inner(kind="b"), names=("p", "q"), options={"pool": "avg", "sizes": [1, 2]})


def test_a_config_survives_json() -> None:
    assert from_dict(Outer, json.loads(json.dumps(to_dict(FULL)))) == FULL


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"inner\.rat is not known; did you mean rate\?"):
        from_dict(Outer, {"name": "x", "inner": {"rat": 1.0}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "incomplete"),
        ({"name": 3}, "name must be str"),
        ({"name": "x", "count": True}, "count must be int"),
        ({"name": "x", "count": 1.5}, "count must be int"),
        ({"name": "x", "on": 1}, "on must be bool"),
        ({"name": "x", "inner": {"kind": "c"}}, "inner.kind = 'c' is not known"),
        ({"name": "x", "inner": {"betas": [0.9]}}, "needs 2 values"),
        ({"name": "x", "inner": 3}, "must be an object"),
        ({"name": "x", "names": "pq"}, "must be a list"),
        ({"name": "x", "limit": "3"}, "limit must be int"),
        ([1], "must be an object"),
    ],
)
def test_a_wrong_value_is_refused(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_dict(Outer, values)


def test_an_integer_is_a_float_but_not_the_reverse() -> None:
    assert from_dict(Inner, {"rate": 1}).rate == 1.0
    assert isinstance(from_dict(Inner, {"rate": 1}).rate, float)


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({"count": "7"}, lambda c: c.count == 7),
        ({"on": "yes"}, lambda c: c.on is True),
        ({"limit": "none"}, lambda c: c.limit is None),
        ({"limit": "9"}, lambda c: c.limit == 9),
        ({"inner.rate": "1e-3"}, lambda c: c.inner.rate == 1e-3),
        ({"inner.betas": "0.8, 0.9"}, lambda c: c.inner.betas == (0.8, 0.9)),
        ({"inner.kind": "b"}, lambda c: c.inner.kind == "b"),
        ({"names": "a,b,c"}, lambda c: c.names == ("a", "b", "c")),
        ({"maybe.rate": "2"}, lambda c: c.maybe.rate == 2.0 and c.maybe.kind == "b"),
    ],
)
def test_an_override_is_read_by_the_type_of_its_field(change: dict[str, str], read: Any) -> None:
    changed = override(FULL, change)
    assert read(changed)
    assert len(diff(FULL, changed)) == 1


@pytest.mark.parametrize(
    "change",
    [{"cuont": "1"}, {"inner.kind": "z"}, {"count": "many"}, {"inner": "3"}, {"count.more": "1"}, {"on": "perhaps"}],
)
def test_a_wrong_override_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(change)).split(".")[0]):
        override(FULL, change)


def test_the_difference_names_paths_and_both_values() -> None:
    changed = override(FULL, {"inner.rate": "0.5", "name": "y"})
    assert diff(FULL, changed) == [("name", "x", "y"), ("inner.rate", 0.1, 0.5)]
    assert diff(FULL, FULL) == []


def test_one_meaning_has_one_text() -> None:
    assert canonical({"b": 1, "a": (1, 2)}) == canonical({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'
