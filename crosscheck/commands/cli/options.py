"""Options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from crosscheck.commands.cli.choices import complete_from

JOBS = min(os.cpu_count() or 1, 4)

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results to this file.")]
ReportFolder = Annotated[
    Path | None,
    typer.Option("--report", metavar="DIR", help="Write a page with every curve and limit to DIR/index.html."),
]
Jobs = Annotated[int, typer.Option(min=1, help="The number of processes.")]


def list_of(names: Sequence[str], text: str, metavar: str = "NAME[,NAME...]") -> Any:
    """Return an option that takes a list of ``names``; its help is ``text`` and the names."""
    shown = f"{text}: {', '.join(names)}. May be repeated."
    return typer.Option(metavar=metavar, help=shown, autocompletion=complete_from(names))
