"""The defaults of the commands in this folder, and the parsers of their options."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from benchmarks.accelerators.targets import missing
from benchmarks.shapes import Shape, parse_shape

SHAPES = (Shape(1_000, 16, 128, 128), Shape(128, 32, 128, 256), Shape(1_024, 128, 512, 512))


def choose(option: str, given: Sequence[str] | None, default: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """Return the values of an option, or its default. Raise typer.BadParameter if one is not ``known``."""
    if unknown := [name for name in given or () if name not in known]:
        raise typer.BadParameter(f"{option} must be one of {', '.join(known)}; got {unknown[0]}")
    return list(given or default)


def choose_targets(given: Sequence[str] | None, default: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """Return the targets. Raise typer.BadParameter if one is unknown or its compiler is not installed."""
    targets = choose("--target", given, default, known)
    if reasons := [f"{name}: {reason}" for name in targets if (reason := missing(name))]:
        raise typer.BadParameter("; ".join(reasons))
    return targets


def choose_shapes(given: Sequence[str] | None, default: Sequence[Shape] = SHAPES) -> Sequence[Shape]:
    """Return the shapes. Raise typer.BadParameter if one is not T,B,D,H."""
    try:
        return [parse_shape(text) for text in given] if given else default
    except ValueError as error:
        raise typer.BadParameter(f"--shape {error}") from error
