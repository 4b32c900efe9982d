"""``crosscheck matrix``: its options."""

from __future__ import annotations

from typing import Annotated

from crosscheck.commands.cli.choices import IMPLEMENTATIONS, MATRIX_CASES
from crosscheck.commands.cli.options import JOBS, Jobs, JsonFile, list_of
from crosscheck.commands.progress import loading


def matrix(
    only: Annotated[
        list[str] | None,
        list_of(IMPLEMENTATIONS, "These sides beside jax_lstm; flax stands for all that begin with it"),
    ] = None,
    case: Annotated[list[str] | None, list_of(MATRIX_CASES, "Run only these cases")] = None,
    jobs: Jobs = JOBS,
    json_file: JsonFile = None,
) -> None:
    """Every side against float64 truth on every case that it supports: ours, torch's paths and other libraries'.

    One table a lane, a column a side, errors in units of their limits, outputs and gradients apart. Other libraries'
    weights come by jax_lstm.convert. Their disagreements are a result and no failure. Exit code 0: jax_lstm is as
    expected everywhere; 1: it is not; 2: could not run.
    """
    with loading():
        from crosscheck.commands.matrix import run
    run(only, case, jobs, json_file)
