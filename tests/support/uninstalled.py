"""Imports packages as if they were not installed, for `tests.support.fresh_process`."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import NoReturn


def versions(names: list[str]) -> dict[str, str]:
    """Return the version of each package, imported while importlib.metadata knows none of them."""

    def unknown(name: str) -> NoReturn:
        raise importlib.metadata.PackageNotFoundError(name)

    assert not set(names) & set(sys.modules)
    importlib.metadata.version = unknown
    return {name: importlib.import_module(name).__version__ for name in names}
