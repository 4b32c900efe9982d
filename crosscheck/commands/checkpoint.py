"""``crosscheck checkpoint``: the LSTMs of a checkpoint file, cross-checked on their real weights and exported."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from crosscheck.commands.cli.options import Checkpoint as Options
from crosscheck.commands.common import check_json_file, check_report_folder, write_json_file, write_report, writing
from crosscheck.commands.failures import Failure, fail, failures_in_one_line
from crosscheck.commands.progress import show_progress
from crosscheck.core.environment import describe_environment
from crosscheck.report import case_report
from crosscheck.report.case_report import closing_line, print_cases
from crosscheck.report.terminal import output, say, say_settings, show
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
from crosscheck.studies.checkpoint.report import network_table, not_made_text, nothing_to_check, to_json
from crosscheck.suite.runs import CaseResult, run_case


def run(options: Options) -> bool:
    """Judge and export the LSTMs of a checkpoint, print what was found and return whether every LSTM agrees."""
    file, prefix, export_to, json_file = options.file, options.prefix, options.export_to, options.json_file
    with failures_in_one_line():
        _check_targets(file, export_to, json_file)
        check_report_folder(options.report, json_file)
        read, found, skipped = _read(file, prefix)
    results = []
    with failures_in_one_line(), show_progress(len(found)) as work:
        for lstm in found:
            work.begins(lstm.name)
            results.append(run_case(case_of(lstm), _command(file, lstm.name * bool(lstm.prefix))))
            work.ends(lstm.name)
    content = case_report.to_json(results, describe_environment())
    content["ok"] = content["ok"] and not any(entry.is_lstm for entry in skipped)
    content["checkpoint"] = to_json(file, read, found, skipped, export_to)
    write_report(options.report, results, content["environment"], _command(file, prefix))
    _write(found, export_to, json_file, content)
    _print(read, found, skipped, results, content, output())
    return content["ok"]


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
    """Return what can be checked and what cannot. The command ends if there is nothing to check."""
    try:
        read = read_checkpoint(file)
    except BadFile as error:
        fail(str(error))
    entries = find_networks(read, prefix)
    found = [entry for entry in entries if isinstance(entry, FoundLSTM)]
    skipped = [entry for entry in entries if isinstance(entry, Skipped)]
    if not found:
        fail(nothing_to_check(file, prefix, read, skipped))
    return read, found, skipped


def _write(found: list[FoundLSTM], out: Path | None, json_file: Path | None, content: dict[str, Any]) -> None:
    """Write the export and the JSON file, or neither."""
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
    show(console, network_table(found))
    for lstm in found:
        for note in lstm.notes:
            say(console, f"as read: {lstm.name}: {note}")
    if read.skipped:
        say(console, f"not made: {not_made_text(read)}")
    if read.skipped or any(lstm.notes for lstm in found):
        console.print()
    for entry in skipped:
        line = f"not checked: {entry.name} ({entry.kind}): {entry.reason}"
        say(console, line, "red" if entry.is_lstm else "")
    if skipped:
        console.print()
    print_cases(results, console)
    say_settings(console, content["environment"])
    if out := content["checkpoint"]["export"]:
        count = f"{len(found)} LSTM{'s' * (len(found) > 1)}"
        line = f"exported to {printable(out)}: {count}, as params.safetensors and orbax/"
        say(console, f"{line}; their verdict is {content['verdict']}")
    unchecked = [entry.name for entry in skipped if entry.is_lstm]
    missing = f"; but not every LSTM could be checked: {listed(unchecked)}" if unchecked else ""
    say(console, closing_line(results) + missing, "green" if content["ok"] else "red")
