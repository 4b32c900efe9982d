"""The options of the command line, one file per subcommand. `crosscheck.commands` has what runs then.

Nothing here imports JAX or torch, so that --help, shell completion and wrong usage need neither, and are quick.
"""

from __future__ import annotations

import typer

from crosscheck.commands.cli import checkpoint, faults, gradient_flow, gradients, matrix, notebook, train
from crosscheck.commands.cli.group import Command, Group
from crosscheck.commands.cli.suite import standard_suite

app = typer.Typer(
    name="crosscheck",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback(invoke_without_command=True)(standard_suite)
for module in (checkpoint, faults, gradient_flow, gradients, matrix, notebook, train):
    app.command(module.__name__.rpartition(".")[2].replace("_", "-"), cls=Command)(module.command)
