"""``crosscheck faults``: whether the verdict sees every known mistake, and accepts what is right."""

from __future__ import annotations

import time

from crosscheck.commands.cli.options import Faults
from crosscheck.commands.common import check_json_file, write_json_file
from crosscheck.commands.failures import failures_in_one_line
from crosscheck.commands.progress import show_progress
from crosscheck.core.processes import run_all
from crosscheck.faults.catalogue import FAULTS
from crosscheck.report import score_report
from crosscheck.report.terminal import output, say
from crosscheck.suite.mutation_score import Score, tasks


def run(options: Faults) -> bool:
    """Measure the mutation score, print it and return whether it is right."""
    console = output()
    if options.list_faults:
        for fault in FAULTS.values():
            say(console, f"{fault.name:26s} {fault.kind:9s}  {fault.description}")
        return True
    check_json_file(options.json_file)
    started = time.perf_counter()
    todo = tasks(options.quick)
    done = []
    with failures_in_one_line(), show_progress(len(todo)) as work:
        for name, trials in run_all(todo, options.jobs, work.begins):
            done.append(trials)
            work.ends(name)
    score = Score(done)
    content = score_report.to_json(score, options.quick, time.perf_counter() - started)
    write_json_file(options.json_file, "faults", content)
    score_report.print_score(score, options.quick, console)
    return score.ok
