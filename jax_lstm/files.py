"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what shall stand at ``path``: aside, and renamed at the end, so that none reads half a file.

    A device or pipe is itself the place. What raises inside leaves nothing behind. OSError.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """``text`` in UTF-8. OSError."""
    with whole(path) as file:
        file.write_text(text, encoding="utf-8")
