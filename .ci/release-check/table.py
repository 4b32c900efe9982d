"""The table of what ran, on the terminal and in docs/versions.md."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ("Python", "jax", "jaxlib", "flax", "numpy", "torch", "kernels", "installed", "result")
Row = dict[str, str]


def markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a table of Markdown, in columns that are aligned."""
    cells = [list(COLUMNS), *([row.get(column, "") for column in COLUMNS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(page: Path, rows: Sequence[Row]) -> None:
    """Write the table, and the kind of machine, between the two comments of a page."""
    text = page.read_text(encoding="utf-8")
    block = f"\n{markdown(rows)}\n\nThis ran on {platform.system()}, {platform.machine()}.\n\n"
    between = re.compile(r"(?<=<!-- release-check begins -->\n).*?(?=<!-- release-check ends -->)", re.DOTALL)
    new, count = between.subn(lambda _: block, text)
    if count != 1:
        raise ValueError(f"{page} must have one place for the table, and has {count}")
    page.write_text(new, encoding="utf-8")
