"""``crosscheck gradients``: one long sequence, error against time, and how far gradients survive."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from crosscheck.cases import RecurrentCase
from crosscheck.commands.common import (
    check_json_file,
    check_report_folder,
    fail,
    failures_in_one_line,
    output,
    progress,
    write_report,
    write_results,
)
from crosscheck.finding import FLOAT64, Outcome, worst
from crosscheck.report.curves import curve_table, survival_text
from crosscheck.report.table import closing_line, print_failures
from crosscheck.sides import SIDES, Side, jax_lstm
from crosscheck.suite import CaseResult, measure_case, run_side


def gradients(
    length: Annotated[int, typer.Option(min=2, help="Time steps.")] = 1_000,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units.")] = 32,
    forget_bias: Annotated[
        str | None, typer.Option(help="'chrono' (log U(1, T-1)) or a number to add to the default.")
    ] = None,
    loss: Annotated[str, typer.Option(help="'last': a loss on the last step alone; 'all': on every output.")] = "last",
    seed: Annotated[int, typer.Option(min=0, help="Of weights, inputs and cotangents.")] = 0,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Judge jax_lstm with this option too: chunks of so many steps.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page with every curve and limit to DIR/index.html.")
    ] = None,
) -> None:
    """Gradients over one long sequence: jax_lstm and torch.nn.LSTM, float64 and float32, error against time.

    Batch 2, 8 features. Prints the error of outputs and of dL/dx_t beside its limit along the sequence, how far the
    gradient survives, and which steps are too small to check (vacuous) in which lane. 100,000 steps take some minutes
    and less than 4 GB. Exit code 0: agree; 1: not; 2: could not run.
    """
    case = _case(length, hidden, forget_bias, loss, seed)
    if checkpoint_every is not None and checkpoint_every >= length:
        fail(f"--checkpoint-every must be under --length, {length}, the steps; got {checkpoint_every}")
    check_json_file(json_file)
    check_report_folder(report, json_file)
    command = f"crosscheck gradients --length {length} --hidden {hidden} --loss {loss} --seed {seed}"
    command += f" --forget-bias {forget_bias}" * (forget_bias is not None)
    command += f" --checkpoint-every {checkpoint_every}" * (checkpoint_every is not None)
    sides = _sides(checkpoint_every)
    results: list[CaseResult] = []
    with failures_in_one_line(), progress() as bar:
        task = bar.add_task("truth, condition and e_ref", total=1 + len(sides))
        started = time.perf_counter()
        measured = measure_case(case)
        for side in sides:
            bar.update(task, advance=1, description=side.name)
            verdict = run_side(measured, side)
            seconds = time.perf_counter() - started
            results.append(CaseResult(case.name, side.name, case.expect, verdict, seconds, command))
            started = time.perf_counter()
    console = output()
    for result in results:
        for quantity in ("y", "grad x"):
            console.print(curve_table(f"{result.side}, {quantity}", result.verdict.findings, quantity))
            console.print()
    truth = next(f for f in results[0].verdict.findings if (f.quantity, f.check, f.part) == ("grad x", FLOAT64, "t"))
    console.print(survival_text(truth), highlight=False, markup=False)
    for result in results:
        settled = [f for f in result.verdict.findings if f.settled and f.part == "t"]
        for finding in settled:
            doubts = ", ".join(f"{n} steps {name}" for name, n in finding.counts.items() if name != Outcome.AGREE)
            where = f"{result.side}, {finding.quantity}, lane {finding.lane}"
            console.print(f"{where}: {doubts}, settled {finding.settled}", highlight=False, markup=False)
    content = write_results(json_file, "gradients", [results])
    write_report(report, [results], content["environment"], command)
    print_failures([results], console)
    console.print(closing_line([results]), highlight=False, markup=False)
    raise typer.Exit(0 if worst(r.outcome for r in results) is Outcome.AGREE else 1)


def _sides(checkpoint_every: int | None) -> list[Side]:
    chunked = [] if checkpoint_every is None else [_in_chunks(checkpoint_every)]
    return [SIDES["jax_lstm"], *chunked, SIDES["torch.nn.LSTM"]]


def _in_chunks(every: int) -> Side:
    return Side(f"jax_lstm checkpoint_every={every}", partial(jax_lstm.runner, checkpoint_every=every))


def _case(length, hidden, forget_bias, loss, seed) -> RecurrentCase:
    if loss not in ("last", "all"):
        fail(f"--loss must be 'last' or 'all'; got {loss!r}")
    bias: str | float | None = forget_bias
    if forget_bias not in (None, "chrono"):
        try:
            bias = float(forget_bias)
        except ValueError:
            fail(f"--forget-bias must be 'chrono' or a number; got {forget_bias!r}")
        if bias != bias or abs(bias) == float("inf"):
            fail(f"--forget-bias must be finite; got {forget_bias!r}")
    if bias == "chrono" and length < 3:
        fail(f"--forget-bias chrono needs --length of at least 3; got {length}")
    return RecurrentCase("gradients", "", 2, length, 8, hidden, loss=loss, forget_bias=bias, seed=seed)
