"""Compare the kernels of backend="pallas" with the loops of scan, by the instructions that TPU's compiler schedules.

make accelerators                                # this too, in an environment that has the compilers
python -m benchmarks.accelerators.kernels --target v5e --shape 128,32,128,256 --work forward
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts: libtpu would look for a TPU

import typer

from benchmarks.accelerators.choices import SHAPES, choose, choose_shapes, choose_targets
from benchmarks.accelerators.figures import figures_of
from benchmarks.accelerators.programs import KINDS, compile_network, network
from benchmarks.accelerators.result import markdown_table, versions_of
from benchmarks.accelerators.schedule import count_bundles
from benchmarks.accelerators.targets import TARGETS
from benchmarks.shapes import Shape
from jax_lstm import choose_backend
from jax_lstm._src.files import write_whole

TPUS = [name for name, target in TARGETS.items() if target.platform == "tpu" and target.one_chip]
BACKENDS = ("scan", "pallas")
ODD = Shape(101, 12, 100, 100)  # no size is a multiple of a tile, and the steps are no multiple of the unrolled ones
NOTE = (
    "These are figures of a compiler. Nothing was run on a device, and no figure is a time. A bundle is what a TPU "
    "issues per cycle. Bundles in loops count as often as the loop runs. Waiting for transfers does not count. "
    "Both sides of a branch count, so that a kernel of which the last block is shorter is counted too high."
)


class Program(NamedTuple):
    """The figures of one program: bundles, and bytes of memory as in `figures.Figures`."""

    bundles: int
    temporary: int
    peak: int


class Row(NamedTuple):
    """One computation, with the figures of its program on each backend."""

    target: str
    kind: str
    shape: str
    scan: Program
    pallas: Program


def main(
    target: Annotated[list[str] | None, typer.Option(help=", ".join(TPUS))] = None,
    shape: Annotated[list[str] | None, typer.Option(metavar="T,B,D,H", help="May be repeated.")] = None,
    work: Annotated[list[str] | None, typer.Option(help=" or ".join(KINDS))] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="Write the table here too.")] = None,
) -> None:
    """Count the bundles that TPU's compiler schedules for a layer in float32, on scan and on the kernels."""
    targets, shapes = choose_targets(target, ("v5e", "v6e"), TPUS), choose_shapes(shape, (*SHAPES, ODD))
    for size in shapes:
        _, weights, x = network("jax_lstm", size, "float32")
        try:
            choose_backend(weights, x, backend="pallas")
        except ValueError as error:
            raise typer.BadParameter(f"--shape {size}: {error}") from error
    kinds = choose("--work", work, KINDS, KINDS)
    given = {"target": target, "shape": shape, "work": work}
    options = [word for name, values in given.items() for value in values or () for word in (f"--{name}", value)]
    command = shlex.join(["python", "-m", "benchmarks.accelerators.kernels", *options])
    with tempfile.TemporaryDirectory() as folder:
        # libtpu reads this when it is loaded, which the first compilation does.
        os.environ["LIBTPU_INIT_ARGS"] = f"{os.environ.get('LIBTPU_INIT_ARGS', '')} --xla_jf_dump_to={folder}".strip()
        rows = [
            Row(name, kind, str(size), *(_program(Path(folder), name, size, kind, backend) for backend in BACKENDS))
            for name in targets
            for kind in kinds
            for size in shapes
        ]
    versions = versions_of(targets)
    content = {"command": command, "note": NOTE, "versions": versions, "rows": [_as_content(row) for row in rows]}
    text = as_markdown(content)
    if json_file:
        write_whole(json_file, json.dumps(content, indent=1, allow_nan=False) + "\n")
    if markdown_file:
        write_whole(markdown_file, text)
    print(text)


def _program(folder: Path, target: str, shape: Shape, kind: str, backend: str) -> Program:
    print(f"{target}: {backend}, {kind}, {shape}", file=sys.stderr, flush=True)
    for dumped in folder.iterdir():
        shutil.rmtree(dumped) if dumped.is_dir() else dumped.unlink()
    compiled = compile_network(target, "jax_lstm", shape, kind, "float32", backend=backend)
    figures = figures_of(compiled)
    return Program(count_bundles(folder, [loop.runs for loop in figures.loops]), figures.temporary, figures.peak)


def _as_content(row: Row) -> dict[str, Any]:
    return row._asdict() | {backend: getattr(row, backend)._asdict() for backend in BACKENDS}


def from_content(content: dict[str, Any]) -> list[Row]:
    """Return the rows of a result as JSON has it."""
    return [Row(**row | {backend: Program(**row[backend]) for backend in BACKENDS}) for row in content["rows"]]


def as_markdown(content: dict[str, Any]) -> str:
    """Return the table of a result as JSON has it."""
    versions = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
    parts = (
        content["note"],
        f"Written by `{content['command']}`, with {versions}.",
        "A cell is scan / pallas, in float32 at the default precision. T,B,D,H are steps, batch, inputs and hidden "
        "units. Memory is in MB. The peak has arguments and results in it.",
        markdown_table(_lines(from_content(content)), texts=3),
    )
    return "\n\n".join(parts) + "\n"


def _lines(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    yield ("target", "work", "T,B,D,H", "thousand bundles", "ratio", "temporary", "peak")
    for row in rows:
        both = lambda text, row=row: " / ".join(text(program) for program in (row.scan, row.pallas))
        yield (
            row.target,
            row.kind,
            row.shape,
            both(lambda program: f"{program.bundles / 1e3:.0f}"),
            f"{row.scan.bundles / row.pallas.bundles:.2f}",
            both(lambda program: f"{program.temporary / 1e6:.0f}"),
            both(lambda program: f"{program.peak / 1e6:.0f}"),
        )


if __name__ == "__main__":
    typer.run(main)
