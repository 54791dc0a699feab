"""Frozen dataclasses to JSON and back, dotted overrides, and the difference of two configs.

A config is a tree of frozen keyword-only dataclasses whose leaves are JSON values. Nothing is ever executed
from a file: a field that the dataclass does not declare is an error that names the nearest one that it does.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from vitreous.errors import UsageError

C = TypeVar("C")
_CALLED: dict[type, str] = {
    Integral: "a whole number",
    Real: "a number",
    str: "a text",
    Mapping: "names and their values",
}


def must_be(kind: type, **values: object) -> None:
    """Check values by their names: ``must_be(Real, lr=lr)``.

    Raises:
        UsageError: one is no ``kind``; true and false are no numbers.
    """
    for name, value in values.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{name} must be {_CALLED[kind]}, not {_show(value)}.")


def to_dict(config: Any) -> Any:
    """``config`` as plain JSON values; tuples become lists, dataclasses become objects."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(k): to_dict(v) for k, v in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_dict(v) for v in config]
    return config


def from_dict(cls: type[C], values: Any, where: str = "") -> C:
    """Build ``cls`` from plain values, checking every name and type.

    Raises:
        UsageError: an unknown field, a missing one, or a value of the wrong type; names the dotted path.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where or cls.__name__} must be an object with named fields, not {_show(values)}.")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise _unknown(_join(where, str(name)), str(name), names)
    built = {name: _convert(hints[name], value, _join(where, name)) for name, value in values.items()}
    try:
        return cls(**built)
    except TypeError as error:
        raise UsageError(f"{where or cls.__name__} is incomplete: {error}.") from None


def override(config: C, changes: Mapping[str, str]) -> C:
    """A copy of ``config`` with dotted fields replaced: ``{"train.lr": "3e-4"}``.

    Texts are read by the type of the field they replace, so ``none``, ``true``, ``1e-3`` and ``a,b`` mean what
    they look like.

    Raises:
        UsageError: the path does not exist (the nearest is named) or the text does not fit its type.
    """
    values = to_dict(config)
    for path, text in changes.items():
        hint, parent, leaf = _locate(type(config), values, path)
        parent[leaf] = to_dict(_parse(hint, text, path))
    return from_dict(type(config), values)


def diff(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """``(dotted path, old value, new value)`` for every leaf that differs, in field order."""
    before, after = dict(_leaves(to_dict(old))), dict(_leaves(to_dict(new)))
    paths = list(dict.fromkeys([*before, *after]))
    return [(p, before.get(p), after.get(p)) for p in paths if before.get(p) != after.get(p)]


def canonical(config: Any) -> str:
    """One text for one meaning: sorted keys, no spaces. What digests are taken of."""
    return json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


# ---------------------------------------------------------------- types at work


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _first_fit(arguments, value, where)
    if origin is Literal:
        if value in arguments:
            return value
        raise _unknown(f"{where} = {_show(value)}", str(value), [str(a) for a in arguments])
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _mismatch(where, hint, value)
        return {str(k): _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    return _convert_scalar(hint, value, where)


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is type(None) and value is None:
        return None
    # bool is a subclass of int, but "epochs": true is a mistake
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise _mismatch(where, hint, value)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _mismatch(where, "a list", value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(arguments) != len(value):
        raise UsageError(f"{where} needs {len(arguments)} values, not {len(value)}.")
    return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))


def _first_fit(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    problems = []
    for argument in arguments:
        try:
            return _convert(argument, value, where)
        except UsageError as error:
            problems.append((argument, error))
    # the error of the richest alternative says most; None says nothing
    raise next((e for a, e in problems if a is not type(None)), problems[0][1])


def _parse(hint: Any, text: str, where: str) -> Any:
    """``text`` from a command line as a value of ``hint``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if type(None) in arguments and text.strip().lower() in ("none", "null", ""):
            return None
        return _first_parse([a for a in arguments if a is not type(None)], text, where)
    if origin is tuple:
        return _convert(
            hint, [_parse(arguments[0], part.strip(), where) for part in text.split(",") if part.strip()], where
        )
    if hint is bool:
        known = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if text.strip().lower() not in known:
            raise _mismatch(where, "true or false", text)
        return known[text.strip().lower()]
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise _mismatch(where, hint, text) from None
    if hint is Any:
        return _literal(text)
    if dataclasses.is_dataclass(hint) or origin is dict:
        raise UsageError(f"{where} is a group of fields; set one of them, as in {where}.NAME=VALUE.")
    return _convert(hint, text, where)


def _literal(text: str) -> Any:
    """What a text looks like where no type says more: JSON, a list with commas, or itself."""
    try:
        return json.loads(text)
    except ValueError:
        return [_literal(part.strip()) for part in text.split(",")] if "," in text else text.strip()


def _first_parse(arguments: list[Any], text: str, where: str) -> Any:
    problem: UsageError | None = None
    for argument in arguments:
        try:
            return _parse(argument, text, where)
        except UsageError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _locate(cls: Any, values: Any, path: str) -> tuple[Any, dict[str, Any], str]:
    """The declared type of ``path`` below ``cls``, the dictionary that holds it, and its last name."""
    *groups, leaf = path.split(".")
    walked = ""
    for name in groups:
        hint = _field(cls, name, _join(walked, name))
        if get_origin(hint) is dict and path == f"{_join(walked, name)}.{leaf}":
            return get_args(hint)[1], values[name], leaf  # free names: whoever uses them checks them
        cls = next((a for a in (get_args(hint) or (hint,)) if dataclasses.is_dataclass(a)), None)
        walked = _join(walked, name)
        if cls is None or values.get(name) is None:
            raise UsageError(f"{walked} has no fields of its own, so {path} cannot be set.")
        values = values[name]
    return _field(cls, leaf, path), values, leaf


def _field(cls: Any, name: str, where: str) -> Any:
    hints = typing.get_type_hints(cls)
    if name not in hints:
        raise _unknown(where, name, list(hints))
    return hints[name]


def _leaves(values: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _leaves(value, _join(where, name))
    else:
        yield where, values


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(where: str, name: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}."
    return UsageError(f"{where} is not known; {hint}")


def _mismatch(where: str, wanted: Any, value: Any) -> UsageError:
    name = wanted if isinstance(wanted, str) else getattr(wanted, "__name__", str(wanted))
    return UsageError(f"{where} must be {name}, not {_show(value)}.")
