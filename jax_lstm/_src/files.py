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
    """Yield the path of a file or folder that is removed at the end of the block, or by `remove_unfinished`."""
    _unfinished.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _unfinished.discard(path)


def remove_unfinished() -> None:
    """Remove all unfinished files: for a process that ends at once and runs no ``finally``."""
    for path in list(_unfinished):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to, beside ``path``, and rename it to ``path`` at the end: no reader sees half a file.

    If ``path`` is a device or a pipe, it is yielded itself. An error inside the block leaves no file behind.

    Raises:
      OSError: the file cannot be written or renamed.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    with unfinished(path.with_name(f".{path.name}.{os.getpid()}")) as aside:
        yield aside
        aside.replace(path)


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, by `whole`. Raise OSError if that fails."""
    with whole(path) as file:
        file.write_text(text, encoding="utf-8")
