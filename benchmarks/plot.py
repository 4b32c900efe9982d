"""A result as one figure with a panel per kind of work: times along the swept axis, or bars per shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from benchmarks.result import OURS, TORCH, Result, Row, compared, implementations_in
from benchmarks.table import duration, title_of, units
from crosscheck.report import png
from crosscheck.report.svg import open_frame

MARKERS = "os^Dv<>PX*hdp"
COLOURS = (png.BLUE, "#d7873a", "#7b9e57", "#9a7bb0", "#a9a9a9", "#5aa7b5", "#c98fa5", "#8c6d46", "#c9b037", "#5b5b8a")
WIDTH, PANEL = 8.2, 3.3  # inches
GROUP = 0.84  # the share of a shape's place that its bars fill
BAR = 0.13  # the least width in inches; the figure grows with it
TALLEST = 3.0  # bars of ratios end here, and the figure on top says the ratio


def write_png(result: Result, path: Path) -> None:
    """Write the figure, whole or not at all.

    Raises:
      ValueError: nothing was timed.
      OSError: the file cannot be written.
    """
    if not any(row.seconds for row in result.rows):
        raise ValueError("no implementation was timed, so there is nothing to draw")
    png.write_png(path, lambda: draw(result))


def draw(result: Result) -> Figure:
    """Return the figure: panels one below the other."""
    kinds = list(dict.fromkeys(row.kind for row in result.rows))
    bars = len({row.shape for row in result.rows}) * (1 + len(implementations_in(result.rows)))
    width = WIDTH if result.sweep else max(WIDTH, 1.0 + BAR * bars)
    figure = Figure(figsize=(width, 0.5 + PANEL * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), 1, squeeze=False)[:, 0]
    for axes, kind in zip(panels, kinds, strict=True):
        rows = [row for row in result.rows if row.kind == kind]
        axes.set_title(title_of(rows[0]))
        axes.set_axisbelow(True)
        open_frame(axes)
        (_over_axis if result.sweep else _bars)(axes, rows, result)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = 6 if len(handles) <= 6 else 4
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _colour(result: Result, name: str) -> str:
    """Return the colour of an implementation, which is the same in every panel."""
    names = implementations_in(result.rows)
    if name == TORCH:
        return png.TEXT
    return COLOURS[[other for other in names if other != TORCH].index(name) % len(COLOURS)]


def _over_axis(axes: Axes, rows: list[Row], result: Result) -> None:
    axis = "TBDH".index(result.sweep)
    for n, name in enumerate(implementations_in(result.rows)):
        points = sorted(
            (row.shape[axis], row.median) for row in rows if row.implementation == name and row.median is not None
        )
        if points:
            style: dict[str, Any] = {"color": _colour(result, name), "marker": MARKERS[n % len(MARKERS)], "ms": 5}
            axes.plot(*zip(*points, strict=True), lw=1.4, label=name, **style)
    axes.grid(color=png.GRID, lw=0.7)
    axes.set(xscale="log", yscale="log", xlabel=result.sweep, ylabel="time")
    swept = sorted({row.shape[axis] for row in rows})
    axes.set_xticks(swept, [f"{value:,}" for value in swept])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _bars(axes: Axes, rows: list[Row], result: Result) -> None:
    """Draw ratios to torch's time, or to ours if torch was not timed, and a line at 1. Draw times if neither was timed.

    The bars of jax_lstm, and bars that are too tall for the panel, have their figure on top.
    """
    unit = next((name for name in (TORCH, OURS) if compared(rows, name)), None)
    ratios = compared(rows, unit) if unit else {}
    heights = {row: min(c.ratio, TALLEST) for row, c in ratios.items()}
    if unit is None:
        heights = {row: row.quartiles[1] for row in rows if row.seconds}
    shapes = list(dict.fromkeys(row.shape for row in rows))
    names = [name for name in implementations_in(rows) if name != unit]
    place = GROUP / max(1, len(names))
    width = 0.92 * place
    for n, name in enumerate(names):
        middle = (n + 0.5) * place - GROUP / 2
        bars = {shapes.index(row.shape) + middle: row for row in heights if row.implementation == name}
        if bars:
            axes.bar(
                list(bars), [heights[row] for row in bars.values()], width, color=_colour(result, name), label=name
            )
        for at, row in bars.items():
            ratio = ratios.get(row)
            if ratio is not None and (name == OURS or ratio.ratio > TALLEST):
                _say(axes, at + width / 2, heights[row], units(ratio), lost=name == OURS and ratio.slower)
    axes.grid(axis="y", color=png.GRID, lw=0.7)
    axes.set_xticks(range(len(shapes)), [str(shape) for shape in shapes])
    axes.set_xlim(-0.55, len(shapes) - 0.45)
    axes.tick_params(axis="x", length=0, labelsize=8.8)
    axes.set_xlabel("T,B,D,H")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    if unit:
        axes.axhline(1, color=png.TEXT, lw=1.4, label=unit)
        axes.set_ylabel(f"time in units of\n{unit}'s; above 1 is slower")
        axes.set_ylim(0, max(1.15, 1.08 * axes.get_ylim()[1]))
    else:
        axes.set_ylabel("time")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value) if value else "0"))


def _say(axes: Axes, edge: float, height: float, text: str, lost: bool) -> None:
    """Write a bar's figure above it, up to its right edge and off the line at 1. It is red if ours is slower."""
    height = 1.0 if 0.88 < height < 1 else height
    style: dict[str, Any] = {"ha": "right", "va": "bottom", "textcoords": "offset points", "xytext": (1, 2)}
    colour, weight = (png.RED, "bold") if lost else (png.TEXT, "normal")
    halo = [withStroke(linewidth=2.5, foreground="white")]
    axes.annotate(text, (edge, height), fontsize=8.5, color=colour, fontweight=weight, path_effects=halo, **style)
