"""Whom a question names: the models to compare, the twins without attention, and the pupil."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vitreous import models, recipes
from vitreous.comparison.question import AUTO, SMALL, USUAL
from vitreous.errors import UsageError
from vitreous.models.describe import has_attention, outline

Mixer = Literal["attention", "conv", "none"]
TWINS: dict[Mixer, str] = {"none": "{} without attention", "conv": "{}, convolution for attention"}
_SMALL_SIDE = 48  # pixels; see question.SMALL


class Entry(NamedTuple):
    """A model to compare, before anything is known of how it is trained.

    Attributes:
        mixer: of the transformer that has twins, and of these: what cells exchange information by.
        untaught: the name of the entry that this is a pupil of, without its teacher.
        frozen: only the classifier is trained.
        options: of the model, where they are not its own.
    """

    name: str
    model: str
    mixer: Mixer | None
    untaught: str = ""
    frozen: bool = False
    options: Mapping[str, Any] = {}

    @property
    def settled(self) -> dict[str, Any]:
        """The options with the mixer among them."""
        return {**self.options, **({} if self.mixer is None else {"mixer": self.mixer})}

    def builds(self, model: str, options: Mapping[str, Any]) -> bool:
        """Whether that network is the one of this entry; where nothing is said, cells exchange by attention."""
        own, other = (
            {k: v for k, v in each.items() if (k, v) != ("mixer", "attention")} for each in (self.settled, options)
        )
        return self.model == model and own == other


def entries(named: Sequence[str], size: int, teacher: str | None = None, *, auto: str | None = None) -> list[Entry]:
    """The models to compare at ``size``, the first that can be had without attention followed by its twins.

    ``teacher`` adds that one, or else the first transformer, as its pupil. ``auto`` is who is meant by that name; by
    default the transformer for that size and little time.

    Raises:
        UsageError: none of them is a transformer, so there is nobody to teach.
    """
    found: list[Entry] = []
    twinned = False
    for name in named or (SMALL if size <= _SMALL_SIDE else USUAL):
        model = auto or recipes.transformer(size) if name == AUTO else name
        if twinned or not has_mixer(model):
            found.append(Entry(name, model, None))
            continue
        twinned = True
        found.append(Entry(name, model, "attention"))
        found += [Entry(words.format(name), model, mixer) for mixer, words in TWINS.items()]
    if teacher is None:
        return found
    pupils = [e for e in found if e.mixer == "attention"] or [e for e in found if has_attention(outline(e.model))]
    if not pupils:
        raise UsageError("--teacher teaches a transformer, and --models names none; add auto.")
    name = pupils[0].name
    return [*found, Entry(f"{name}, taught by {_short(teacher)}", pupils[0].model, None, untaught=name)]


def _short(place: str) -> str:
    """A run folder by its last name; models and published weights as they are."""
    return Path(place).absolute().name if Path(place).is_dir() else place.removeprefix("hub:")


def has_mixer(model: str) -> bool:
    """Whether the family of ``model`` can be built without attention."""
    module, _, config = models.FAMILIES[models.find(model).family]
    return any(f.name == "mixer" for f in dataclasses.fields(getattr(importlib.import_module(module), config)))
