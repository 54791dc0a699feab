"""Functions that return a complete run. What a user leaves open is chosen here, from the data, with the reason."""

from __future__ import annotations

from vitreous.recipes.auto import Wishes, choose
from vitreous.recipes.saved import adjust, repeat

__all__ = ["Wishes", "adjust", "choose", "repeat"]
