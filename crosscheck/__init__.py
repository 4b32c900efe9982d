"""Verifies that a JAX function and a torch module are the same function, gradients included, or says where they differ.

The names in ``__all__`` are public. Each is imported when it is first used: the pytest plugin lives in this package,
and a test run without a cross-check must not wait for two frameworks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crosscheck.core.missing import what_is_missing

if TYPE_CHECKING:
    from crosscheck.core.finding import CouldNotRun, Finding, Outcome
    from crosscheck.core.problem import Gradient
    from crosscheck.core.verdict import Verdict
    from crosscheck.discovery.search import discover
    from crosscheck.discovery.weight_map import WeightMap
    from crosscheck.studies.compiled.collectives import Collective, find_collectives
    from crosscheck.suite.pair import assert_agree, check

__version__: str

_HOME = {
    "Collective": "studies.compiled.collectives",
    "CouldNotRun": "core.finding",
    "Finding": "core.finding",
    "Gradient": "core.problem",
    "Outcome": "core.finding",
    "Verdict": "core.verdict",
    "WeightMap": "discovery.weight_map",
    "assert_agree": "suite.pair",
    "check": "suite.pair",
    "discover": "discovery.search",
    "find_collectives": "studies.compiled.collectives",
}

__all__ = [
    "Collective",
    "CouldNotRun",
    "Finding",
    "Gradient",
    "Outcome",
    "Verdict",
    "WeightMap",
    "assert_agree",
    "check",
    "discover",
    "find_collectives",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOME[name]}")
    except ModuleNotFoundError as error:
        message = what_is_missing(error, f"crosscheck.{name}")
        if message is None:
            raise
        raise ModuleNotFoundError(message, name=error.name, path=error.path) from None
    value = getattr(home, name)
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import; the command must start at once

    try:
        return version("jax-lstm")  # the distribution that contains this package
    except PackageNotFoundError:  # the source without an installation
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
