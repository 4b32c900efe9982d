"""What the compilers of TPU and CUDA make of ours and of other libraries, as a table. No device is needed.

make accelerators                                # this, in an environment that has the compilers
python -m benchmarks.accelerators --target v5e --shape 128,32,128,256 --work forward
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts: libtpu would look for a TPU

import typer

from benchmarks.accelerators.choices import choose, choose_shapes, choose_targets
from benchmarks.accelerators.figures import figures_of
from benchmarks.accelerators.programs import IMPLEMENTATIONS, KINDS, compile_network
from benchmarks.accelerators.result import Result, Row, as_content, as_markdown, versions_of
from benchmarks.accelerators.targets import TARGETS
from benchmarks.shapes import Shape
from crosscheck.core.errors import first_line
from jax_lstm._src.files import write_whole

PRECISIONS = ("float32", "bfloat16")
DEFAULT_TARGETS = ("v5e", "v6e", "h100")


def main(
    target: Annotated[list[str] | None, typer.Option(help=", ".join(TARGETS))] = None,
    shape: Annotated[list[str] | None, typer.Option(metavar="T,B,D,H", help="May be repeated.")] = None,
    work: Annotated[list[str] | None, typer.Option(help=" or ".join(KINDS))] = None,
    precision: Annotated[list[str] | None, typer.Option(help=" or ".join(PRECISIONS))] = None,
    only: Annotated[list[str] | None, typer.Option(help=", ".join(IMPLEMENTATIONS))] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the table here too.")] = None,
) -> None:
    """Compile an LSTM of each library for devices that are not here, and print what the compilers made of it."""
    targets, shapes = choose_targets(target, DEFAULT_TARGETS, list(TARGETS)), choose_shapes(shape)
    kinds = choose("--work", work, KINDS, KINDS)
    precisions = choose("--precision", precision, PRECISIONS, PRECISIONS)
    names = choose("--only", only, IMPLEMENTATIONS, IMPLEMENTATIONS)
    given = {"target": target, "shape": shape, "work": work, "precision": precision, "only": only}
    options = [word for name, values in given.items() for value in values or () for word in (f"--{name}", value)]
    command = shlex.join(["python", "-m", "benchmarks.accelerators", *options])
    result = Result(tuple(_rows(targets, precisions, kinds, shapes, names)), command, versions_of(targets))
    if json_file:
        write_whole(json_file, json.dumps(as_content(result), indent=1, allow_nan=False) + "\n")
    if markdown_file:
        write_whole(markdown_file, as_markdown(result))
    print(as_markdown(result))


def _rows(
    targets: Sequence[str],
    precisions: Sequence[str],
    kinds: Sequence[str],
    shapes: Sequence[Shape],
    names: Sequence[str],
) -> Iterator[Row]:
    for target in targets:
        for precision in precisions:
            for kind in kinds:
                for shape in shapes:
                    for name in names:
                        yield _row(target, name, shape, kind, precision)


def _row(target: str, name: str, shape: Shape, kind: str, precision: str) -> Row:
    print(f"{target}: {name}, {precision}, {kind}, {shape}", file=sys.stderr, flush=True)
    try:
        figures = figures_of(compile_network(target, name, shape, kind, precision))
    except Exception as raised:  # it is reported in the row, as in every benchmark
        return Row(target, name, shape, kind, precision, reason=f"{type(raised).__name__}: {first_line(raised)}")
    return Row(target, name, shape, kind, precision, figures)


if __name__ == "__main__":
    typer.run(main)
