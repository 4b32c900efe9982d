"""All pairs and mistakes by name. A family is a module of this package with ``PAIRS`` or ``MISTAKES``."""

from __future__ import annotations

import pkgutil
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from crosscheck import models
from crosscheck.models.pair import Drawn, Mistake, ModelPair

Named = TypeVar("Named", ModelPair, Mistake)


def by_name(kind: str, items: Iterable[Named]) -> dict[str, Named]:
    """Return items by name.

    Raises:
      ValueError: two items have the same name.
    """
    given = list(items)
    counts = Counter(item.name for item in given)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"names of {kind} must differ; given twice: {', '.join(twice)}.")
    return {item.name: item for item in given}


def require_pairs(mistakes: Iterable[Mistake], pairs: Mapping[str, ModelPair]) -> None:
    """Check that the pair of every mistake is known.

    Raises:
      ValueError: a pair is not known.
    """
    for mistake in mistakes:
        if mistake.pair not in pairs:
            raise ValueError(f"mistake {mistake.name!r} is in the pair {mistake.pair!r}, which no family has.")


def _families() -> list[Any]:
    names = [module.name for module in pkgutil.iter_modules(models.__path__, f"{models.__name__}.")]
    return [import_module(name) for name in names if name != __name__]


_FAMILIES = _families()
PAIRS: dict[str, ModelPair] = by_name("pairs", (pair for family in _FAMILIES for pair in getattr(family, "PAIRS", ())))
MISTAKES: dict[str, Mistake] = by_name(
    "mistakes", (mistake for family in _FAMILIES for mistake in getattr(family, "MISTAKES", ()))
)
require_pairs(MISTAKES.values(), PAIRS)


def draw_right(name: str, draw: int) -> Drawn:
    """Return random problem number ``draw`` of a right pair. The same name and number give the same problem."""
    return PAIRS[name].draw(np.random.default_rng([zlib.crc32(name.encode()), draw]))


def draw_wrong(name: str, draw: int) -> Drawn:
    """Return random problem number ``draw`` of a mistake: the problem of its pair, with the mistake in it."""
    mistake = MISTAKES[name]
    return mistake.change(draw_right(mistake.pair, draw))
