"""The behaviour of every command line: wrong usage is one line, and --help fits a narrow terminal."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from crosscheck.commands.failures import Failure

USAGE_ERROR = cast(type[Exception], typer.BadParameter.__bases__[0])  # typer has no name of its own for it
WIDE, NARROW = 80, 60
WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
_Context: Any = TyperGroup.context_class
_HelpFormatter: Any = _Context.formatter_class


class HelpFormatter(_HelpFormatter):
    """A help text as wide as the terminal, up to 80 columns. On a narrow one a description is below its option."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.width = min(shutil.get_terminal_size().columns, WIDE) - 2

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms and descriptions. Names with a hyphen stay whole, which click would break."""
        rows = list(rows)
        margin = " " * self.current_indent
        longest = max(len(term) for term, _ in rows) if self.width > NARROW else 2
        indent = margin + " " * (min(longest, col_max) + col_spacing)
        for term, description in rows:
            first = f"{margin}{term}"
            if len(first) > len(indent) - col_spacing or not description:
                self.write(f"{first}\n")
                first = ""
            words = " ".join(description.split())
            lines = textwrap.wrap(words, self.width, initial_indent=indent, subsequent_indent=indent, **WHOLE)
            self.write("".join(f"{line}\n" for line in lines).replace(indent, first.ljust(len(indent)), 1))


class Context(_Context):
    """The context of a command."""

    formatter_class = HelpFormatter


class Program:
    """A program whose wrong usage and failures are one line on stderr and exit code 2."""

    name: str | None

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Parse, run and exit."""
        try:
            code = super().main(*arguments, **options | {"standalone_mode": False})  # type: ignore[misc]
        except USAGE_ERROR as error:
            message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
            code = self._failed(message.replace("Value error, ", ""))  # the words of typer's parser
        except Failure as failure:
            code = self._failed(str(failure))
        raise SystemExit(code)

    def _failed(self, message: str) -> int:
        typer.echo(f"{self.name}: {message}", err=True)
        return 2


class Command(TyperCommand):
    """A subcommand."""

    context_class = Context


class SingleCommand(Program, TyperCommand):
    """A program that is one command."""

    context_class = Context


class Group(Program, TyperGroup):
    """A program with subcommands."""

    context_class = Context
