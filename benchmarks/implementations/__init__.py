"""The implementations. A new one is a file here that has ``implementations()``, and its name in FILES."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from benchmarks.implementation import Implementation
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
def known() -> dict[str, Implementation]:
    """By name, ours first."""
    modules = (import_module(f"{__name__}.{name}") for name in FILES)
    return {implementation.name: implementation for module in modules for implementation in module.implementations()}


def choose(names: list[str]) -> list[Implementation]:
    """Those of these names; all if there are none. "jax_lstm OPTION=VALUE ..." is ours, run so. ValueError."""
    from benchmarks.implementations.jax_lstm import NAME, ours

    found = []
    for name in dict.fromkeys(names or known()):
        first, _, words = name.strip().partition(" ")
        if name in known():
            found.append(known()[name])
        elif first == NAME and words.strip():
            found.append(ours(words.strip()))
        else:
            raise ValueError(unknown_name("implementation", name, list(known())))
    return found
