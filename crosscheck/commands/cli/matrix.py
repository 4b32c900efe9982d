"""``crosscheck matrix``: its options."""

from __future__ import annotations

from typing import Annotated

from crosscheck.commands.cli.choices import IMPLEMENTATIONS, MATRIX_CASES
from crosscheck.commands.cli.options import JOBS, Jobs, JsonFile, list_of
from crosscheck.commands.progress import loading


def command(
    only: Annotated[
        list[str] | None,
        list_of(IMPLEMENTATIONS, "These implementations beside jax_lstm; flax stands for all that begin with it"),
    ] = None,
    case: Annotated[list[str] | None, list_of(MATRIX_CASES, "Run only these cases")] = None,
    jobs: Jobs = JOBS,
    json_file: JsonFile = None,
) -> None:
    """Judge every implementation in every case that it supports: ours, torch's paths and other libraries'.

    One table per precision check, one column per implementation: errors of outputs and of gradients in units of their
    limits. Other libraries' weights come by jax_lstm.convert. Their disagreements are a result and no failure.
    Exit code 0: jax_lstm is as expected everywhere; 1: it is not; 2: could not run.
    """
    with loading():
        from crosscheck.commands.matrix import run
    run(only, case, jobs, json_file)
