"""``crosscheck checkpoint``: the LSTMs of a checkpoint file, cross-checked on their real weights and exported."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosscheck.checkpoint import (
    BadFile,
    CannotExport,
    Checkpoint,
    Found,
    Skipped,
    case_of,
    export,
    look,
    read_checkpoint,
)
from crosscheck.checkpoint.errors import listed, printable
from crosscheck.checkpoint.export import check_out
from crosscheck.commands.common import (
    check_json_file,
    check_report_folder,
    fail,
    failures_in_one_line,
    output,
    progress,
    write_json_file,
    write_report,
    writing,
)
from crosscheck.environment import environment
from crosscheck.finding import worst
from crosscheck.report.content import as_dict
from crosscheck.report.table import closing_line, print_table
from crosscheck.suite import CaseResult, run_case


def checkpoint(
    file: Annotated[
        Path, typer.Argument(help="A file of weights, of torch, safetensors or NumPy, or the index of shards.")
    ],
    prefix: Annotated[str, typer.Option(help="Only LSTMs at or below this name, such as model.encoder.")] = "",
    export_to: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="OUT",
            help="Write the LSTMs as Flax parameters into a new folder: params.safetensors and an orbax directory.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results to this file.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page with every curve and limit to DIR/index.html.")
    ] = None,
) -> None:
    """Find every torch LSTM in a checkpoint, cross-check each on its real weights, and export them to Flax.

    Finds nn.LSTM stacks and LSTMCells at any prefix. The content of the file tells its format. Nothing in it is run:
    objects of other classes are skipped and listed. Weight norm, pruning and WeightDrop are folded.
    Exit code 0: every LSTM agrees; 1: not; 2: could not run, and nothing was written.
    """
    with failures_in_one_line():
        _check_targets(file, export_to, json_file)
        check_report_folder(report, json_file)
        read, found, skipped = _read(file, prefix)
    results = []
    with failures_in_one_line(), progress() as bar:
        task = bar.add_task(f"{len(found)} LSTMs", total=len(found))
        for lstm in found:
            bar.update(task, description=lstm.name)
            results.append(run_case(case_of(lstm), _command(file, lstm.name * bool(lstm.prefix))))
            bar.update(task, advance=1, description=f"{lstm.name}: {worst(r.outcome for r in results[-1])}")
    content = as_dict(results, environment())
    content["ok"] = content["ok"] and not any(entry.is_lstm for entry in skipped)
    content["checkpoint"] = _as_dict(file, read, found, skipped, export_to)
    write_report(report, results, content["environment"], _command(file, prefix))
    _write(found, export_to, json_file, content)
    _print(read, found, skipped, results, content, output())
    raise typer.Exit(0 if content["ok"] else 1)


def _command(file: Path, prefix: str) -> str:
    only = f" --prefix {shlex.quote(prefix)}" * bool(prefix)
    return printable(f"crosscheck checkpoint {shlex.quote(str(file))}{only}")


def _check_targets(file: Path, out: Path | None, json_file: Path | None) -> None:
    check_json_file(json_file)
    if json_file is not None and json_file.exists() and file.exists() and json_file.samefile(file):
        fail(f"--json {json_file}: that is the checkpoint itself")
    if out is not None:
        try:
            check_out(out)
        except CannotExport as error:
            fail(f"--export {error}")


def _read(file: Path, prefix: str) -> tuple[Checkpoint, list[Found], list[Skipped]]:
    """What can be checked and what cannot; ends the command if there is nothing to check."""
    try:
        read = read_checkpoint(file)
    except BadFile as error:
        fail(str(error))
    entries = look(read, prefix)
    found = [entry for entry in entries if isinstance(entry, Found)]
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    if not found:
        fail(_nothing(file, prefix, read, skipped))
    return read, found, skipped


def _nothing(file: Path, prefix: str, read: Checkpoint, skipped: list[Skipped]) -> str:
    """Why there is no LSTM to check, and what there is instead."""
    if skipped:
        others = "; ".join(f"{s.kind} at {s.name!r}: {s.reason}" for s in skipped[:4])
        more = f"; and {len(skipped) - 4} more" if len(skipped) > 4 else ""
        return f"{printable(str(file))}: no LSTM that can be checked. {others}{more}"
    known = [entry.name for entry in look(read)]
    if prefix and known:
        return f"--prefix {printable(prefix)}: there is no LSTM at or below it; known prefixes: {listed(known)}"
    shapes = [f"{name} {list(array.shape)}" for name, array in read.arrays.items()]
    return f"{printable(str(file))}: no LSTM in it; found instead: {listed(shapes) or 'no arrays at all'}"


def _write(found: list[Found], out: Path | None, json_file: Path | None, content: dict[str, Any]) -> None:
    """Both or neither."""
    if out is not None:
        with writing("--export", out):
            try:
                export(found, out)
            except CannotExport as error:
                fail(f"--export {error}")
    try:
        write_json_file(json_file, "checkpoint", content)
    except typer.Exit:
        if out is not None:
            shutil.rmtree(out)
        raise


def _print(
    read: Checkpoint,
    found: list[Found],
    skipped: list[Skipped],
    results: Sequence[Sequence[CaseResult]],
    content: dict[str, Any],
    console: Console,
) -> None:
    console.width += max(len(lstm.name) for lstm in found)  # long names are not cut
    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    console.print(_table(found))
    console.print()
    for lstm in found:
        for note in lstm.notes:
            console.print(f"as read: {lstm.name}: {note}", **plain)
    if read.skipped:
        objects = [f"{kind} at {place or 'the top level'}" for kind, place in read.skipped.items()]
        console.print(f"not made: {listed(objects)}", **plain)
    if read.skipped or any(lstm.notes for lstm in found):
        console.print()
    for entry in skipped:
        line = f"not checked: {entry.name} ({entry.kind}): {entry.reason}"
        console.print(line, style="red" if entry.is_lstm else "", **plain)
    if skipped:
        console.print()
    print_table(results, console)
    settings = ", ".join(f"{name} {value}" for name, value in content["environment"].items())
    console.print(settings + "\n", highlight=False, markup=False)
    if out := content["checkpoint"]["export"]:
        lines = (
            f"exported to {printable(out)}: {len(found)} LSTM{'s' * (len(found) > 1)}, as params.safetensors and orbax/"
        )
        console.print(f"{lines}; their verdict is {content['verdict']}", **plain)
    unchecked = [entry.name for entry in skipped if entry.is_lstm]
    missing = f"; but not every LSTM could be checked: {listed(unchecked)}" if unchecked else ""
    console.print(closing_line(results) + missing, style="green" if content["ok"] else "red", **plain)


def _table(found: Sequence[Found]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = ("inputs", "hidden", "projection", "layers", "directions")
    for title in ("LSTM", "kind", *numbers, "bias", "dtype", "weight_ih", "weight_hh", "parameters"):
        table.add_column(title, no_wrap=True, justify="right" if title in (*numbers, "parameters") else "left")
    for lstm in found:
        network, params = lstm.network, lstm.stack_params
        sizes = (network.input_size, network.hidden_size, network.proj_size or "-")
        options = (network.num_layers, network.directions, "yes" if network.bias else "no")
        shapes = (list(params["weight_ih_l0"].shape), list(params["weight_hh_l0"].shape))
        total = f"{sum(array.size for array in params.values()):,}"
        cells = (lstm.name, lstm.kind, *sizes, *options, _dtypes(lstm), *shapes, total)
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def _dtypes(lstm: Found) -> str:
    return ", ".join(dict.fromkeys(str(array.dtype) for array in lstm.params.values()))


def _as_dict(
    file: Path, read: Checkpoint, found: Sequence[Found], skipped: Sequence[Skipped], out: Path | None
) -> dict[str, Any]:
    return {
        "file": printable(str(file)),
        "export": None if out is None else printable(str(out)),
        "lstms": [
            {
                "prefix": printable(lstm.prefix),
                "kind": lstm.kind,
                "input_size": lstm.network.input_size,
                "hidden_size": lstm.network.hidden_size,
                "num_layers": lstm.network.num_layers,
                "bias": lstm.network.bias,
                "bidirectional": lstm.network.bidirectional,
                "proj_size": lstm.network.proj_size,
                "notes": list(lstm.notes),
                "params": {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in lstm.params.items()},
            }
            for lstm in found
        ],
        "skipped": [{"prefix": printable(s.prefix), "kind": s.kind, "reason": s.reason} for s in skipped],
        "not_made": {printable(kind): printable(place) for kind, place in read.skipped.items()},
    }
