"""What a session measures. The most important steps come first, since the time may end at any step.

A step is one table, at one shape, for some implementations. The choice between the backends needs several shapes. So
the backends and torch run at all important shapes before every library does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.implementations import KNOWN
from benchmarks.options import Precision
from benchmarks.result import OURS, TORCH

SCAN, CUDNN = f"{OURS} backend=scan", f"{OURS} backend=cudnn"
BACKEND_ROWS = (OURS, SCAN, CUDNN, TORCH)
COMPILED = "torch.compile"  # by far the slowest to compile
UNROLLED = (2, 4, 8, 16)


@dataclass(frozen=True)
class Step:
    """A part of a table.

    Attributes:
      table: the name of its file.
      precision: of every implementation.
      shape: the only one.
      only: the implementations.
    """

    table: str
    precision: Precision
    shape: str
    only: Sequence[str]


def everyone() -> list[str]:
    """Return every implementation but the one that is too slow to compile, and ours on each backend."""
    return [*BACKEND_ROWS, *(name for name in KNOWN if name not in (*BACKEND_ROWS, COMPILED))]


def unrolled() -> list[str]:
    """Return ours with one step of the loop per iteration and with several steps, and torch to compare them with."""
    return [OURS, *(f"{OURS} unroll={n}" for n in UNROLLED), TORCH]


def steps(first: Sequence[str], rest: Sequence[str]) -> list[Step]:
    """Return all steps in order.

    Args:
      first: the important shapes, the most important one first.
      rest: the other shapes, which come last.
    """
    full = everyone()
    head, others = first[:1], first[1:]
    return [
        *(Step("float32", "float32", shape, full) for shape in head),
        *(Step("float32", "float32", shape, BACKEND_ROWS) for shape in others),
        *(Step("tf32", "tf32", shape, BACKEND_ROWS) for shape in first),
        *(Step("unroll-float32", "float32", shape, unrolled()) for shape in head),
        *(Step("bfloat16", "bfloat16", shape, full) for shape in head),
        *(Step("tf32", "tf32", shape, full) for shape in head),
        *(Step("float32", "float32", shape, full) for shape in others),
        *(Step("unroll-float32", "float32", shape, unrolled()) for shape in others),
        *(Step("unroll-bfloat16", "bfloat16", shape, unrolled()) for shape in first),
        *(Step("bfloat16", "bfloat16", shape, full) for shape in others),
        *(Step("tf32", "tf32", shape, full) for shape in others),
        *(Step("compiled-float32", "float32", shape, (OURS, TORCH, COMPILED)) for shape in first),
        *(Step("float32", "float32", shape, full) for shape in rest),
        *(Step("tf32", "tf32", shape, full) for shape in rest),
        *(Step("bfloat16", "bfloat16", shape, full) for shape in rest),
    ]
