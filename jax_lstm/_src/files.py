"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_unfinished: set[Path] = set()


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Give the path of a file or folder that does not outlive the block, nor `remove_unfinished`."""
    _unfinished.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _unfinished.discard(path)


def remove_unfinished() -> None:
    """Remove what is not whole yet: for a process that ends at once and runs no ``finally``."""
    for path in list(_unfinished):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what shall stand at ``path``: aside, and renamed at the end, so that none reads half a file.

    A device or pipe is itself the place. What raises inside leaves nothing behind. OSError.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    with unfinished(path.with_name(f".{path.name}.{os.getpid()}")) as aside:
        yield aside
        aside.replace(path)


def write_whole(path: Path, text: str) -> None:
    """``text`` in UTF-8. OSError."""
    with whole(path) as file:
        file.write_text(text, encoding="utf-8")
