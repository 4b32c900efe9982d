"""``crosscheck gradients``: one long sequence, error against time, and how far gradients survive."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Literal

import typer

from crosscheck.commands.common import check_json_file, check_report_folder, write_report, write_results
from crosscheck.commands.failures import fail, failures_in_one_line
from crosscheck.commands.progress import progress
from crosscheck.core.finding import FLOAT64, Outcome, worst
from crosscheck.core.problem import Gradient, Quantity
from crosscheck.core.slices import TIME
from crosscheck.core.verdict_text import check_text, settled_text
from crosscheck.libraries import STANDARD, Implementation, jax_lstm
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.report.curves import curve_table, survival_text
from crosscheck.report.table import closing_line, print_failures
from crosscheck.report.terminal import output, say, show
from crosscheck.suite.measured_case import assess_implementation, measure_case
from crosscheck.suite.runs import CaseResult

SHOWN: tuple[Quantity, ...] = ("y", Gradient("x"))


def run(
    length: int,
    hidden: int,
    forget_bias: str | None,
    loss: str,
    seed: int,
    checkpoint_every: int | None,
    json_file: Path | None,
    report: Path | None,
) -> None:
    """Judge both sides on one long sequence, print error against time and exit."""
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
    with failures_in_one_line(), progress(1 + len(sides)) as work:
        work.does("truth, condition and e_ref")
        started = time.perf_counter()
        measured = measure_case(case)
        for side in sides:
            work.does(side.name, advance=1)
            verdict = assess_implementation(measured, side)
            seconds = time.perf_counter() - started
            results.append(CaseResult(case.name, side.name, case.expect, verdict, seconds, command))
            started = time.perf_counter()
    console = output()
    for result in results:
        for quantity in SHOWN:
            show(console, curve_table(result.verdict.findings, quantity), f"{result.implementation}, {quantity}")
    truth = next(
        f for f in results[0].verdict.findings if (f.quantity, f.check, f.scope) == (Gradient("x"), FLOAT64, TIME)
    )
    say(console, survival_text(truth))
    for result in results:
        settled = [f for f in result.verdict.findings if f.settled_by and f.scope == TIME]
        for finding in settled:
            doubts = ", ".join(f"{n} steps {name}" for name, n in finding.counts.items() if name != Outcome.AGREE)
            where = f"{result.implementation}, {finding.quantity}, {check_text(finding.check)}"
            say(console, f"{where}: {doubts}, settled {settled_text(finding)}")
    content = write_results(json_file, "gradients", [results])
    write_report(report, [results], content["environment"], command)
    print_failures([results], console)
    say(console, closing_line([results]))
    raise typer.Exit(0 if worst(r.outcome for r in results) is Outcome.AGREE else 1)


def _sides(checkpoint_every: int | None) -> list[Implementation]:
    chunked = [] if checkpoint_every is None else [_in_chunks(checkpoint_every)]
    return [STANDARD["jax_lstm"], *chunked, STANDARD["torch.nn.LSTM"]]


def _in_chunks(every: int) -> Implementation:
    return Implementation(f"jax_lstm checkpoint_every={every}", partial(jax_lstm.runner, checkpoint_every=every))


def _case(length, hidden, forget_bias, loss, seed) -> RecurrentCase:
    bias: Literal["chrono"] | float | None = None
    if forget_bias == "chrono":
        bias = "chrono"
    elif forget_bias is not None:
        try:
            bias = float(forget_bias)
        except ValueError:
            fail(f"--forget-bias must be 'chrono' or a number; got {forget_bias!r}")
        if bias != bias or abs(bias) == float("inf"):
            fail(f"--forget-bias must be finite; got {forget_bias!r}")
    if bias == "chrono" and length < 3:
        fail(f"--forget-bias chrono needs --length of at least 3; got {length}")
    return RecurrentCase("gradients", "", 2, length, 8, hidden, loss=loss, forget_bias=bias, seed=seed)
