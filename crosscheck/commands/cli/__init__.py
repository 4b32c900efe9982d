"""The command line: what may be asked for. One file for each command; crosscheck.commands has what is done then.

Nothing here imports JAX or torch, so that --help, shell completion and wrong usage need neither, and are quick.
"""

from __future__ import annotations

import typer

from crosscheck.commands.cli.checkpoint import checkpoint
from crosscheck.commands.cli.faults import faults
from crosscheck.commands.cli.gradient_flow import gradient_flow
from crosscheck.commands.cli.gradients import gradients
from crosscheck.commands.cli.group import Command, Group
from crosscheck.commands.cli.matrix import matrix
from crosscheck.commands.cli.notebook import notebook
from crosscheck.commands.cli.suite import standard_suite
from crosscheck.commands.cli.train import train

app = typer.Typer(
    name="crosscheck",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback(invoke_without_command=True)(standard_suite)
for command in (checkpoint, faults, gradient_flow, gradients, matrix, notebook, train):
    app.command(cls=Command)(command)
