"""``crosscheck checkpoint``: the LSTMs of a checkpoint file, cross-checked on their real weights and exported."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosscheck.commands.common import check_json_file, check_report_folder, write_json_file, write_report, writing
from crosscheck.commands.failures import Failure, fail, failures_in_one_line
from crosscheck.commands.progress import progress
from crosscheck.core.environment import describe_environment
from crosscheck.report.content import as_dict
from crosscheck.report.table import closing_line, print_table
from crosscheck.report.terminal import new_table, output, say, show
from crosscheck.studies.checkpoint import (
    BadFile,
    CannotExport,
    Checkpoint,
    FoundLSTM,
    Skipped,
    case_of,
    export,
    find_networks,
    read_checkpoint,
)
from crosscheck.studies.checkpoint.errors import listed, printable
from crosscheck.studies.checkpoint.flax_export import check_out
from crosscheck.suite.runs import CaseResult, run_case


def run(file: Path, prefix: str, export_to: Path | None, json_file: Path | None, report: Path | None) -> None:
    """Judge and export the LSTMs of a checkpoint, print what was found and exit."""
    with failures_in_one_line():
        _check_targets(file, export_to, json_file)
        check_report_folder(report, json_file)
        read, found, skipped = _read(file, prefix)
    results = []
    with failures_in_one_line(), progress(len(found)) as work:
        for lstm in found:
            work.begins(lstm.name)
            results.append(run_case(case_of(lstm), _command(file, lstm.name * bool(lstm.prefix))))
            work.ends(lstm.name)
    content = as_dict(results, describe_environment())
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
        import_module("orbax.checkpoint")  # if it is missing, the command ends here, before any work
        try:
            check_out(out)
        except CannotExport as error:
            fail(f"--export {error}")


def _read(file: Path, prefix: str) -> tuple[Checkpoint, list[FoundLSTM], list[Skipped]]:
    """What can be checked and what cannot; ends the command if there is nothing to check."""
    try:
        read = read_checkpoint(file)
    except BadFile as error:
        fail(str(error))
    entries = find_networks(read, prefix)
    found = [entry for entry in entries if isinstance(entry, FoundLSTM)]
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
    known = [entry.name for entry in find_networks(read)]
    if prefix and known:
        return f"--prefix {printable(prefix)}: there is no LSTM at or below it; known prefixes: {listed(known)}"
    shapes = [f"{name or '(no name)'} {list(array.shape)}" for name, array in read.arrays.items()]
    instead = f"{listed(shapes) or 'no arrays at all'}{'; not made: ' * bool(read.skipped)}{_not_made(read)}"
    return f"{printable(str(file))}: no LSTM in it; found instead: {instead}"


def _not_made(read: Checkpoint) -> str:
    return listed([f"{kind} at {place or 'the top level'}" for kind, place in read.skipped.items()])


def _write(found: list[FoundLSTM], out: Path | None, json_file: Path | None, content: dict[str, Any]) -> None:
    """Both or neither."""
    if out is not None:
        with writing("--export", out):
            try:
                export(found, out)
            except CannotExport as error:
                fail(f"--export {error}")
    try:
        write_json_file(json_file, "checkpoint", content)
    except Failure:
        if out is not None:
            shutil.rmtree(out)
        raise


def _print(
    read: Checkpoint,
    found: list[FoundLSTM],
    skipped: list[Skipped],
    results: Sequence[Sequence[CaseResult]],
    content: dict[str, Any],
    console: Console,
) -> None:
    show(console, _table(found))
    for lstm in found:
        for note in lstm.notes:
            say(console, f"as read: {lstm.name}: {note}")
    if read.skipped:
        say(console, f"not made: {_not_made(read)}")
    if read.skipped or any(lstm.notes for lstm in found):
        console.print()
    for entry in skipped:
        line = f"not checked: {entry.name} ({entry.kind}): {entry.reason}"
        say(console, line, "red" if entry.is_lstm else "")
    if skipped:
        console.print()
    print_table(results, console)
    settings = ", ".join(f"{name} {value}" for name, value in content["environment"].items())
    say(console, settings + "\n\n")
    if out := content["checkpoint"]["export"]:
        lines = (
            f"exported to {printable(out)}: {len(found)} LSTM{'s' * (len(found) > 1)}, as params.safetensors and orbax/"
        )
        say(console, f"{lines}; their verdict is {content['verdict']}")
    unchecked = [entry.name for entry in skipped if entry.is_lstm]
    missing = f"; but not every LSTM could be checked: {listed(unchecked)}" if unchecked else ""
    say(console, closing_line(results) + missing, "green" if content["ok"] else "red")


def _table(found: Sequence[FoundLSTM]) -> Table:
    numbers = ("inputs", "hidden", "projection", "layers", "directions")
    columns = ("LSTM", "kind", *numbers, "bias", "dtype", "weight_ih", "weight_hh", "parameters")
    table = new_table(columns, numeric=(*numbers, "parameters"))
    for lstm in found:
        network, params = lstm.network, lstm.stack_params
        sizes = (network.input_size, network.hidden_size, network.proj_size or "-")
        options = (network.num_layers, network.directions, "yes" if network.bias else "no")
        shapes = (list(params["weight_ih_l0"].shape), list(params["weight_hh_l0"].shape))
        total = f"{sum(array.size for array in params.values()):,}"
        cells = (lstm.name, lstm.kind, *sizes, *options, _dtypes(lstm), *shapes, total)
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def _dtypes(lstm: FoundLSTM) -> str:
    return ", ".join(dict.fromkeys(str(array.dtype) for array in lstm.params.values()))


def _as_dict(
    file: Path, read: Checkpoint, found: Sequence[FoundLSTM], skipped: Sequence[Skipped], out: Path | None
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
