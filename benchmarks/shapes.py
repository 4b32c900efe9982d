"""The sizes of problems: the shapes of the tables, and the axes of the sweeps."""

from __future__ import annotations

import re
from typing import NamedTuple


class Shape(NamedTuple):
    """The sizes of a problem, written T,B,D,H: steps, batch, inputs, hidden units."""

    steps: int
    batch: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


CPU_TABLE = (
    Shape(10, 2, 300, 256),
    Shape(128, 32, 128, 256),
    Shape(1_000, 16, 128, 128),
    Shape(1_000, 1, 64, 64),
    Shape(256, 64, 512, 512),
    Shape(10_000, 1, 32, 128),
)
GPU_TABLE = (
    *CPU_TABLE,
    Shape(1_024, 32, 256, 256),
    Shape(512, 64, 512, 512),
    Shape(256, 64, 1_024, 1_024),
    Shape(1_024, 16, 768, 768),
    Shape(1_024, 64, 160, 160),
)
SWEEPS = {
    "T": tuple(Shape(steps, 1, 32, 128) for steps in (100, 1_000, 10_000, 100_000)),
    "H": tuple(Shape(128, 16, 128, hidden) for hidden in (16, 32, 64, 128, 256, 512, 1_024)),
    "B": tuple(Shape(128, batch, 128, 128) for batch in (1, 4, 16, 64, 256)),
}


def parse_shape(text: str) -> Shape:
    """Return the shape of a text such as "128,32,128,256".

    Raises:
      ValueError: the text is not a shape.
    """
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*){3}", text) or min(map(int, text.split(","))) < 1:
        raise ValueError(f"must be T,B,D,H, four whole numbers of at least 1 such as 128,32,128,256; got {text!r}")
    return Shape(*map(int, text.split(",")))
