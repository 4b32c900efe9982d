"""``crosscheck faults``: whether the verdict sees every known mistake, and accepts what is right."""

from __future__ import annotations

import time

from crosscheck.commands.cli.options import Faults
from crosscheck.commands.common import check_json_file, results_of, write_json_file
from crosscheck.commands.failures import fail
from crosscheck.faults.catalogue import FAULTS
from crosscheck.report import score_report
from crosscheck.report.terminal import output, say
from crosscheck.suite.mutation_score import Score, tasks

LIBRARIES = {"equinox": "equinox", "haiku": "dm-haiku"}  # the module, and the package that brings it


def run(options: Faults) -> bool:
    """Measure the mutation score, print it and return whether it is right."""
    if options.models:
        return _run_models(options)
    console = output()
    if options.list_faults:
        for fault in FAULTS.values():
            say(console, f"{fault.name:26s} {fault.kind:9s}  {fault.description}")
        return True
    check_json_file(options.json_file)
    started = time.perf_counter()
    score = Score(results_of(tasks(options.quick), options.jobs))
    content = score_report.to_json(score, options.quick, time.perf_counter() - started)
    write_json_file(options.json_file, "faults", content)
    score_report.print_score(score, options.quick, console)
    return score.ok


def _run_models(options: Faults) -> bool:
    try:
        from crosscheck.commands import model_faults  # some models are written in libraries that the rest does without
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        fail(f"--models needs {LIBRARIES[error.name]}, which is not installed: pip install 'jax-lstm[libraries]'")
    return model_faults.run(options)
