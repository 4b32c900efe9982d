"""The figures of all programs, as values, and their form in JSON and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.accelerators.figures import Figures, Loop
from benchmarks.accelerators.targets import compiler_of
from benchmarks.shapes import Shape, parse_shape
from crosscheck.core.missing import installed_version

NOTE = (
    "These are figures of compilers. Nothing was run on a device, and no figure is a time. Cycles are the compiler's "
    "own estimates, multiplied by the trips of loops. They compare two programs of one compiler."
)
PACKAGES = ("jax-lstm", "jax", "jaxlib", "flax", "dm-haiku", "equinox")
NONE = "-"


@dataclass(frozen=True)
class Row:
    """The result for one program.

    Attributes:
      target, implementation, shape, kind, precision: what was compiled.
      figures: None if it could not be compiled.
      reason: why not, in one line.
    """

    target: str
    implementation: str
    shape: Shape
    kind: str
    precision: str
    figures: Figures | None = None
    reason: str = ""

    @property
    def work(self) -> tuple[str, str, Shape]:
        """The precision, kind and shape, which are the same for every implementation."""
        return self.precision, self.kind, self.shape


@dataclass(frozen=True)
class Result:
    """The rows, the command that repeats them, and the versions of all packages."""

    rows: Sequence[Row]
    command: str
    versions: dict[str, str] = field(default_factory=dict)


def versions_of(targets: Sequence[str]) -> dict[str, str]:
    """Return the versions of the libraries, and of the compilers of the targets."""
    compilers = dict(compiler_of(target).split(" ") for target in targets)
    return {package: installed_version(package) for package in PACKAGES} | compilers


def as_content(result: Result) -> dict[str, Any]:
    """Return the result as a dict for JSON."""
    rows = [asdict(row) | {"shape": str(row.shape)} for row in result.rows]
    return {"command": result.command, "note": NOTE, "versions": result.versions, "rows": rows}


def from_content(content: dict[str, Any]) -> Result:
    """Return the result from what :func:`as_content` returned."""
    rows = [
        Row(**row | {"shape": parse_shape(row["shape"]), "figures": row["figures"] and _figures(row["figures"])})
        for row in content["rows"]
    ]
    return Result(tuple(rows), content["command"], content["versions"])


def _figures(content: dict[str, Any]) -> Figures:
    loops = (
        Loop(**loop | {"trips": tuple(loop["trips"]), "moved": tuple(map(tuple, loop["moved"]))})
        for loop in content["loops"]
    )
    return Figures(**content | {"loops": tuple(loops)})


def as_markdown(result: Result) -> str:
    """Return one table per target, with the implementations in one cell, ours first."""
    names = list(dict.fromkeys(row.implementation for row in result.rows))
    versions = ", ".join(f"{package} {version}" for package, version in result.versions.items())
    parts = [
        NOTE,
        f"Written by `{result.command}`, with {versions}.",
        f"A cell is {' / '.join(names)}. T,B,D,H are steps, batch, inputs and hidden units. Per step: of the innermost "
        "loops, added up. Memory is in MB, per device. The peak has arguments and results in it.",
    ]
    for target in dict.fromkeys(row.target for row in result.rows):
        rows = [row for row in result.rows if row.target == target]
        parts += [f"## {target}", markdown_table(_lines(rows), texts=3), *_failures(rows)]
    return "\n\n".join(parts) + "\n"


def _lines(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    has_cycles = any(row.figures and row.figures.cycles for row in rows)
    cycles = ("million cycles", "cycles per step") if has_cycles else ()
    yield ("precision", "work", "T,B,D,H", *cycles, "operations per step", "temporary", "peak")
    for work in dict.fromkeys(row.work for row in rows):
        figures = [row.figures for row in rows if row.work == work]
        estimated: list[str] = []
        if has_cycles:
            estimated = [
                _cell(figures, lambda each: f"{each.cycles / 1e6:.3g}"),
                _cell(figures, lambda each: str(sum(loop.cycles for loop in each.innermost))),
            ]
        yield (
            *map(str, work),
            *estimated,
            _cell(figures, lambda each: str(sum(loop.operations for loop in each.innermost))),
            _cell(figures, lambda each: f"{each.temporary / 1e6:.0f}"),
            _cell(figures, lambda each: f"{each.peak / 1e6:.0f}"),
        )


def _cell(figures: Sequence[Figures | None], text: Any) -> str:
    return " / ".join(NONE if each is None else text(each) for each in figures)


def markdown_table(lines: Iterable[Sequence[str]], texts: int) -> str:
    """Return the table of a header and further lines. All columns after the first ``texts`` are numbers."""
    header, *rows = lines
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _failures(rows: Sequence[Row]) -> list[str]:
    return [f"{row.implementation}, {' '.join(map(str, row.work))}: {row.reason}" for row in rows if row.reason]
