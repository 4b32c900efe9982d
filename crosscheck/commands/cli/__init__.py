"""The options of the command line. `crosscheck.commands` has what runs then, one file per subcommand.

Nothing here imports JAX or torch, so that --help, shell completion and wrong usage need neither, and are quick.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from crosscheck.commands.cli import options
from crosscheck.commands.cli.group import Command, Group
from crosscheck.commands.failures import fail
from crosscheck.commands.progress import loading

SUBCOMMANDS = {
    "checkpoint": options.Checkpoint,
    "faults": options.Faults,
    "gradient-flow": options.GradientFlow,
    "gradients": options.Gradients,
    "matrix": options.Matrix,
    "notebook": options.Notebook,
    "train": options.Train,
}


def _callback(module: str, kind: type) -> Callable[..., None]:
    """Return what typer calls: it takes the options of ``kind``, imports a module of `crosscheck.commands`, runs it."""

    def call(context: typer.Context, **given: Any) -> None:
        if context.invoked_subcommand is not None:
            _refuse(context)
            return
        with loading():
            work = import_module(f"crosscheck.commands.{module}")
        raise typer.Exit(0 if work.run(kind(**given)) else 1)

    parameters = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    parameters += inspect.signature(kind, eval_str=True).parameters.values()
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    call.__doc__ = kind.__doc__
    return call


def _refuse(context: typer.Context) -> None:
    """End the command if an option of the suite stands before a subcommand, which would not see it."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            option = parameter.opts[0]
            fail(f"{option} stands before {context.invoked_subcommand!r}; write it after, if that has it")


app = typer.Typer(
    name="crosscheck",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback(invoke_without_command=True)(_callback("suite", options.Suite))
for name, kind in SUBCOMMANDS.items():
    app.command(name, cls=Command)(_callback(name.replace("-", "_"), kind))
