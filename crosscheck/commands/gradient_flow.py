"""``crosscheck gradient-flow``: how gradients vanish in an RNN and survive in an LSTM, by both frameworks."""

from __future__ import annotations

from typing import Any

from crosscheck.commands.cli.options import MOST_STEPS, NARROWEST, SHORTEST, GradientFlow
from crosscheck.commands.common import (
    check_json_file,
    check_plot_file,
    check_report_folder,
    command_line,
    write_json_file,
    write_page_of,
    writing,
)
from crosscheck.commands.failures import fail, failures_in_one_line
from crosscheck.commands.progress import show_progress
from crosscheck.core.environment import describe_environment
from crosscheck.report.terminal import output, say, show
from crosscheck.studies.gradient_flow.sentences import closing_line, failures, study_sentences
from crosscheck.studies.gradient_flow.study import Study, run_study
from crosscheck.studies.gradient_flow.study_json import to_json
from crosscheck.studies.gradient_flow.tables import study_tables
from crosscheck.studies.gradient_flow.training import TRAINED

MOST_NUMBERS = 2**28  # of all Jacobians that torch_ref forms: 2 GiB in float64, and as much again on the way
PIECES = 8 + len(TRAINED)


def run(options: GradientFlow) -> bool:
    """Measure by both frameworks, compare, print the tables and return whether they agree."""
    _check(options)
    check_json_file(options.json_file)
    check_report_folder(options.report, options.json_file)
    check_plot_file(options.plot, options.json_file)
    length, hidden, train_steps, seed = options.length, options.hidden, options.train_steps, options.seed
    command = command_line("gradient-flow", length=length, hidden=hidden, train_steps=train_steps, seed=seed)
    with failures_in_one_line(), show_progress(PIECES if train_steps else PIECES - len(TRAINED)) as work:
        study = run_study(length, hidden, seed, train_steps, options.jobs, work.begins, work.ends)
    settings = describe_environment()
    write_json_file(options.json_file, "gradient-flow", to_json(study, settings, command))
    _draw(study, options, settings, command)
    console = output()
    for table in study_tables(study):
        show(console, table)
    for line in (*study_sentences(study), *failures(study), "", closing_line(study)):
        say(console, line)
    return study.ok


def _check(options: GradientFlow) -> None:
    length, hidden, train_steps = options.length, options.hidden, options.train_steps
    numbers = length * (2 * hidden) ** 2
    for name, value, least in (
        ("--length", length, SHORTEST),
        ("--hidden", hidden, NARROWEST),
        ("--train-steps", train_steps, 0),
        ("--seed", options.seed, 0),
        ("--jobs", options.jobs, 1),
    ):
        if value < least:
            fail(f"{name} must be at least {least}; got {value}")
    if train_steps > MOST_STEPS:
        fail(f"--train-steps must be at most {MOST_STEPS}; got {train_steps}")
    if numbers > MOST_NUMBERS:
        fail(
            f"--length {length} --hidden {hidden}: torch_ref forms every Jacobian, {numbers:.1e} numbers, over "
            f"{MOST_NUMBERS:.1e}; jax_lstm.gradient_flow goes further"
        )


def _draw(study: Study, options: GradientFlow, settings: dict[str, Any], command: str) -> None:
    report, plot = options.report, options.plot
    if report is None and plot is None:
        return
    from crosscheck.studies.gradient_flow.page import (  # drawing is slow to import, and most runs draw nothing
        PNG,
        study_page,
    )
    from crosscheck.studies.gradient_flow.plot import write_png

    if report is not None:
        write_page_of(lambda: study_page(study, settings, command), report)
        with writing("--report", report):
            write_png(study, report / PNG)
    if plot is not None:
        with writing("--plot", plot):
            write_png(study, plot)
