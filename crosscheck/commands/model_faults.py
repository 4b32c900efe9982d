"""``crosscheck faults --models``: the same over models of many architectures."""

from __future__ import annotations

import time

from crosscheck.commands.cli.options import Faults
from crosscheck.commands.common import check_json_file, results_of, write_json_file
from crosscheck.report import model_score_report
from crosscheck.report.terminal import output
from crosscheck.suite.model_score import ModelScore, tasks


def run(options: Faults) -> bool:
    """Measure the score over models, print it and return whether it is right."""
    console = output()
    if options.list_faults:
        model_score_report.print_catalogue(console)
        return True
    check_json_file(options.json_file)
    started = time.perf_counter()
    score = ModelScore(results_of(tasks(options.quick), options.jobs))
    content = model_score_report.to_json(score, time.perf_counter() - started)
    write_json_file(options.json_file, "faults --models", content)
    model_score_report.print_model_score(score, console)
    return score.ok
