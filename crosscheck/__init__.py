"""Proves that a JAX function and a torch module are the same function, gradients included, or says where they part.

Names are imported when they are first used: the pytest plugin lives in this package, and a test run that does not
cross-check must not wait for two frameworks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crosscheck.missing import what_is_missing

if TYPE_CHECKING:
    from crosscheck.collectives import find_collectives
    from crosscheck.discovery import discover
    from crosscheck.finding import CouldNotRun, Finding, Outcome
    from crosscheck.pair import assert_agree, check
    from crosscheck.verdict import Verdict

__version__: str

_HOME = {
    "CouldNotRun": "finding",
    "Finding": "finding",
    "Outcome": "finding",
    "Verdict": "verdict",
    "assert_agree": "pair",
    "check": "pair",
    "discover": "discovery",
    "find_collectives": "collectives",
}

__all__ = ["CouldNotRun", "Finding", "Outcome", "Verdict", "assert_agree", "check", "discover", "find_collectives"]


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
    found = getattr(home, name)
    globals()[name] = found
    return found


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and the command must start at once

    try:
        return version("jax-lstm")  # the distribution that this package is a part of
    except PackageNotFoundError:  # the source without an installation
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
