"""The competitors. A new one is a file here that has ``competitors()``, and its name in FILES."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from benchmarks.competitor import Competitor
from crosscheck.core.names import unknown_name

FILES = (
    "jax_lstm",
    "torch_nn",
    "torch_compiled",
    "flax_linen",
    "flax_nnx",
    "haiku",
    "equinox",
    "jax_cudnn",
)


@lru_cache
def known() -> dict[str, Competitor]:
    """By name, ours first."""
    modules = (import_module(f"{__name__}.{name}") for name in FILES)
    return {competitor.name: competitor for module in modules for competitor in module.competitors()}


def choose(names: list[str]) -> list[Competitor]:
    """Those of these names; all if there are none. "jax_lstm OPTION=VALUE ..." is ours, run so. ValueError."""
    from benchmarks.competitors.jax_lstm import NAME, ours

    found = []
    for name in dict.fromkeys(names or known()):
        first, _, words = name.strip().partition(" ")
        if name in known():
            found.append(known()[name])
        elif first == NAME and words.strip():
            found.append(ours(words.strip()))
        else:
            raise ValueError(unknown_name("competitor", name, list(known())))
    return found
