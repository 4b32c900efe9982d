"""What the tables say about the rule that chooses between scan and cudnn in `jax_lstm._src.backends`.

`benchmarks.comparison` decides which backend is faster. The rule knows the shapes, but not whether a gradient follows.
So a shape favours a backend only if this backend is faster in at least one kind of work, and slower in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from benchmarks.comparison import Comparison
from benchmarks.options import KINDS
from benchmarks.result import OURS, Result, Row, compared
from benchmarks.session.schedule import CUDNN, SCAN
from benchmarks.shapes import Shape
from benchmarks.table import units
from jax_lstm._src import backends

MARK = "A measured rule belongs here"
Favoured = Literal["cudnn", "scan", "neither", "not decided"]


def rule_lines(results: Iterable[Result]) -> list[str]:
    """Return the place of the rule, its source, and what each table that has both backends says about it."""
    lines, reasons = marked_source(Path(backends.__file__)), dict[str, None]()
    count = len(lines)
    for result in results:
        beside = {row: c for row, c in compared(result.rows, SCAN).items() if row.implementation == CUDNN}
        if beside:
            lines += ["", *_by_kind(beside), *_by_shape(beside), *_control(result)]
        reasons |= dict.fromkeys(row.reason for row in result.rows if row.implementation == CUDNN and row.reason)
    if len(lines) == count:
        lines += ["cudnn was not timed beside scan. So nothing follows for this line.", *reasons]
    return lines


def marked_source(path: Path) -> list[str]:
    """Return the place of the rule, and its lines up to the return statement below the mark."""
    source = path.read_text(encoding="utf-8").splitlines()
    start = next((n for n, line in enumerate(source) if MARK in line), None)
    if start is None:
        return [f"{path.name} has no line with the words {MARK!r}."]
    end = next(n for n in range(start, len(source)) if source[n].lstrip().startswith("return "))
    place = "/".join(path.parts[-3:])
    return [f"{place}, line {end + 1}, may change:", *source[start : end + 1]]


def favoured(comparisons: Iterable[Comparison]) -> Favoured:
    """Return which backend the kinds of work of one shape favour.

    Args:
      comparisons: cudnn in units of scan, one per kind of work.
    """
    each = list(comparisons)
    if len(each) < len(KINDS) or not all(c.enough for c in each):
        return "not decided"
    faster, slower = any(c.faster for c in each), any(c.slower for c in each)
    if faster and slower:
        return "neither"
    return "cudnn" if faster else "scan" if slower else "not decided"


def _by_kind(beside: Mapping[Row, Comparison]) -> list[str]:
    """Return where cudnn is faster and slower by more than the spread, and where no difference was measured."""
    lines = []
    for kind in dict.fromkeys(row.kind for row in beside):
        of_kind = {row: c for row, c in beside.items() if row.kind == kind}
        for words, chosen in {
            "cudnn is faster than scan": {row: c for row, c in of_kind.items() if c.faster},
            "cudnn is slower than scan": {row: c for row, c in of_kind.items() if c.slower},
            "no difference was measured": {row: c for row, c in of_kind.items() if c.enough and not c.decided},
            "there were too few runs": {row: c for row, c in of_kind.items() if not c.enough},
        }.items():
            if chosen:
                listed = ", ".join(f"{row.shape} ({units(c)} of its time)" for row, c in chosen.items())
                name = f"{next(iter(chosen)).precision} {kind}"
                lines.append(f"{name}: {words} in {len(chosen)} of {len(of_kind)}: {listed}")
    return lines


def _by_shape(beside: Mapping[Row, Comparison]) -> list[str]:
    """Return what the rule may say in this precision."""
    shapes = dict.fromkeys(row.shape for row in beside)
    found = {shape: favoured(c for row, c in beside.items() if row.shape == shape) for shape in shapes}
    at: dict[Favoured, list[Shape]] = {}
    for shape, backend in found.items():
        at.setdefault(backend, []).append(shape)
    name = next(iter(beside)).precision
    if "cudnn" not in at:
        return [f"{name}: the line stays as it is. No shape of {len(found)} favours cudnn."]
    if len(at) == 1:
        return [f"{name}: the line may choose cudnn. All {len(found)} measured shapes favour it."]
    listed = "; ".join(f"{backend}: {'  '.join(map(str, places))}" for backend, places in at.items())
    return [f"{name}: the line may choose cudnn under a condition that tells the shapes apart. {listed}"]


def _control(result: Result) -> list[str]:
    """Return how often the default differed from scan in time. If the default is scan, both are the same program."""
    same = [c for row, c in compared(result.rows, SCAN).items() if row.implementation == OURS]
    if not same:
        return []
    count = sum(c.decided for c in same)
    name = result.rows[0].precision
    return [
        f"{name}: control: {OURS} by its defaults was found different from {SCAN} in {count} of {len(same)}. If the "
        "default is scan, both are the same program, and such a difference is noise."
    ]
