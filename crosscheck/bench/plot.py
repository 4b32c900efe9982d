"""A result as one figure: times against the swept axis, or each competitor's time in units of ours, shape by shape."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from crosscheck.bench.result import OURS, Result, Row, base_medians, competitors_in, ratio
from crosscheck.bench.table import duration
from crosscheck.report.svg import drawing

MARKERS = "os^Dv<>PX*hdp"
COLOURS = ("#111111", "#0a58a8", "#b3361e", "#1b7837", "#7b3294", "#a6611a", "#5e7fa3", "#c51b7d")
GRID = "#d9d9d9"
INKED: tuple[Any, ...] = (
    "text.color",
    "axes.edgecolor",
    "axes.labelcolor",
    "xtick.color",
    "ytick.color",
    "xtick.labelcolor",
    "ytick.labelcolor",
)


def write_png(result: Result, path: Path) -> None:
    """Writes the figure, whole or not at all. ValueError where nothing was timed; OSError."""
    if not any(row.seconds for row in result.rows):
        raise ValueError("no competitor was timed, so there is nothing to draw")
    with drawing():
        matplotlib.rcParams.update(dict.fromkeys(INKED, COLOURS[0]))
        figure = draw(result)
        FigureCanvasAgg(figure)
        path = path.resolve()
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            figure.savefig(aside, format="png", dpi=110, metadata={"Software": None})
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def draw(result: Result) -> Figure:
    """A panel for each kind of work."""
    kinds = list(dict.fromkeys(row.kind for row in result.rows))
    shapes = len({row.shape for row in result.rows})
    height = 4.6 if result.sweep else 1.6 + 0.55 * shapes
    figure = Figure(figsize=(5.6 * len(kinds), height), layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        rows = [row for row in result.rows if row.kind == kind]
        (_over_axis if result.sweep else _beside_ours)(axes, rows, result)
        axes.set_title(kind)
        axes.grid(color=GRID, lw=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


def _style(result: Result, name: str) -> dict:
    n = competitors_in(result.rows).index(name)
    return {"color": COLOURS[n % len(COLOURS)], "marker": MARKERS[n % len(MARKERS)], "ms": 5, "label": name}


def _over_axis(axes: Axes, rows: list[Row], result: Result) -> None:
    axis = "TBDH".index(result.sweep)
    for name in competitors_in(rows):
        points = sorted(
            (row.shape[axis], row.median) for row in rows if row.competitor == name and row.median is not None
        )
        if points:
            axes.plot(*zip(*points, strict=True), lw=1.4, **_style(result, name))
    axes.set(xscale="log", yscale="log", xlabel=result.sweep, ylabel="time")
    swept = sorted({row.shape[axis] for row in rows})
    axes.set_xticks(swept, [f"{value:,}" for value in swept])
    axes.xaxis.set_minor_locator(NullLocator())
    _plain_ticks(axes.yaxis, duration, (1.0, 2.0, 5.0))


def _beside_ours(axes: Axes, rows: list[Row], result: Result) -> None:
    """Without ours as it comes among the rows, the times themselves."""
    base = base_medians(rows)
    shapes = list(dict.fromkeys(row.shape for row in rows))
    for name in competitors_in(rows):
        found = [
            (ratio(row, base) if base else row.median, shapes.index(row.shape))
            for row in rows
            if row.competitor == name
        ]
        points = [(value, place) for value, place in found if value is not None]
        if points:
            axes.plot(*zip(*points, strict=True), ls="", **_style(result, name))
    if base:
        axes.axvline(1, color=COLOURS[0], lw=1)
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis, "{:g}".format if base else duration, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    axes.set_xlabel(f"time in units of {OURS}'s; right of 1 is slower" if base else "time")
    axes.set_yticks(range(len(shapes)), [str(shape) for shape in shapes])
    axes.set_ylim(len(shapes) - 0.5, -0.5)


def _plain_ticks(axis: Axis, words: Callable[[float], str], at: tuple[float, ...]) -> None:
    """Ticks at these multiples of powers of ten, in words and not as powers."""
    axis.set_major_locator(LogLocator(subs=at))
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axis.set_minor_formatter(NullFormatter())
