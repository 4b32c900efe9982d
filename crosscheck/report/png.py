"""Figures as PNG, in fixed colours, for a slide or a README."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crosscheck.report.svg import drawing
from jax_lstm._src.files import whole

TEXT, GRID = "#111111", "#d9d9d9"
BLUE, RED, GREY = "#0a58a8", "#b3361e", "#767676"
DPI = 110


def write_png(path: Path, draw: Callable[[], Figure]) -> None:
    """Write the figure that ``draw`` makes, whole or not at all.

    Raises:
      OSError: the file cannot be written.
    """
    with drawing(words=TEXT, lines=TEXT):
        figure = draw()
        FigureCanvasAgg(figure)
        with whole(path) as file:
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
