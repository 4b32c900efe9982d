"""``crosscheck faults``: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from crosscheck.commands.cli.options import JOBS, Jobs, JsonFile
from crosscheck.commands.progress import loading


def command(
    quick: Annotated[bool, typer.Option("--quick", help="Short sequences and fewer right configurations.")] = False,
    list_faults: Annotated[bool, typer.Option("--list", help="List the faults and stop.")] = False,
    jobs: Jobs = JOBS,
    json_file: JsonFile = None,
) -> None:
    """Plant every fault of the catalogue in the reference and count how many the verdict sees: the mutation score.

    Beside it: false alarms on right implementations and random right configurations, the mutation score of tolerance
    rules in use elsewhere on the same results, and mutants of the comparer itself. Exit code 0: every fault killed, no
    false alarm, every mutant noticed; 1: not; 2: could not run.
    """
    with loading():
        from crosscheck.commands.faults import run
    run(quick, list_faults, jobs, json_file)
