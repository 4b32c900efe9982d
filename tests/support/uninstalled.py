"""Imports packages as if they were not installed, for `tests.support.fresh_process`."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import NoReturn


def versions(names: list[str]) -> dict[str, str]:
    """Import each package while importlib.metadata finds no package, and return its version."""

    def unknown(name: str) -> NoReturn:
        raise importlib.metadata.PackageNotFoundError(name)

    assert not set(names) & set(sys.modules)
    importlib.metadata.version = unknown
    return {name: importlib.import_module(name).__version__ for name in names}
