"""``crosscheck gradients``: one long sequence, error against time, and how far gradients survive."""

from __future__ import annotations

import time
from functools import partial
from typing import Literal

from crosscheck.commands.cli.options import Gradients
from crosscheck.commands.common import check_json_file, check_report_folder, command_line, write_report, write_results
from crosscheck.commands.failures import fail, failures_in_one_line
from crosscheck.commands.progress import show_progress
from crosscheck.core.problem import Gradient, Quantity
from crosscheck.libraries import STANDARD, Implementation, jax_lstm
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.report.case_report import closing_line, print_failures
from crosscheck.report.curves import curve_table, input_gradient, settled_lines, survival_text
from crosscheck.report.terminal import output, say, show
from crosscheck.suite.measured_case import assess_implementation, measure_case
from crosscheck.suite.runs import CaseResult

SHOWN: tuple[Quantity, ...] = ("y", Gradient("x"))


def run(options: Gradients) -> bool:
    """Judge jax_lstm and torch.nn.LSTM on one long sequence, print error against time and return whether they agree."""
    case, every = _case(options), options.checkpoint_every
    if every is not None and every >= options.length:
        fail(f"--checkpoint-every must be under --length, {options.length}, the steps; got {every}")
    check_json_file(options.json_file)
    check_report_folder(options.report, options.json_file)
    sizes = {"length": options.length, "hidden": options.hidden, "loss": options.loss, "seed": options.seed}
    command = command_line("gradients", **sizes, forget_bias=options.forget_bias, checkpoint_every=every)
    results = _judge(case, _implementations(every), command)
    console = output()
    for result in results:
        for quantity in SHOWN:
            show(console, curve_table(result.verdict.findings, quantity, f"{result.implementation}, {quantity}"))
    for line in (survival_text(input_gradient(results[0])), *(line for r in results for line in settled_lines(r))):
        say(console, line)
    content = write_results(options.json_file, "gradients", [results])
    write_report(options.report, [results], content["environment"], command)
    print_failures([results], console)
    say(console, closing_line([results]))
    return content["ok"]


def _judge(case: RecurrentCase, implementations: list[Implementation], command: str) -> list[CaseResult]:
    results: list[CaseResult] = []
    with failures_in_one_line(), show_progress(1 + len(implementations)) as work:
        work.does("truth, condition and e_ref")
        started = time.perf_counter()
        measured = measure_case(case)
        for implementation in implementations:
            work.does(implementation.name, advance=1)
            verdict = assess_implementation(measured, implementation)
            seconds = time.perf_counter() - started
            results.append(CaseResult(case.name, implementation.name, case.expect, verdict, seconds, command))
            started = time.perf_counter()
    return results


def _implementations(checkpoint_every: int | None) -> list[Implementation]:
    judged = [STANDARD["jax_lstm"], STANDARD["torch.nn.LSTM"]]
    if checkpoint_every is not None:
        in_chunks = partial(jax_lstm.runner, checkpoint_every=checkpoint_every)
        judged.insert(1, Implementation(f"jax_lstm checkpoint_every={checkpoint_every}", in_chunks))
    return judged


def _case(options: Gradients) -> RecurrentCase:
    length, forget_bias, loss, seed = options.length, options.forget_bias, options.loss, options.seed
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
    return RecurrentCase("gradients", "", 2, length, 8, options.hidden, loss=loss, forget_bias=bias, seed=seed)
