"""Plots of gradients back through time, RNN beside LSTM, on one sheet for a slide or one by one on a page.

Lines differ by dash and marker as well as by colour, and both norms share one logarithmic axis. `draw` fills a figure
in given colours: placeholders that become the colours of a page, or fixed ones for a PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from crosscheck.report import png
from crosscheck.report.svg import ACCENT, BAD, INK, MUTED, RULE, drawing, inline_svg, open_frame
from crosscheck.studies.gradient_flow.study import Measurement, Study

SIZE = (13.3, 7.6)  # inches: a slide
PANEL = (5.4, 3.9)
LOG10_2 = float(np.log10(2.0))
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1.2, 1.4)), (0, (7, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D")


class Palette(NamedTuple):
    """The colours of four lines, dark to light, of text and of the grid."""

    lines: tuple[str, str, str, str]
    text: str
    grid: str


ON_PAGE = Palette((INK, ACCENT, BAD, MUTED), INK, RULE)
FIXED = Palette((png.TEXT, png.BLUE, png.RED, png.GREY), png.TEXT, png.GRID)


def page_svgs(study: Study) -> dict[str, str]:
    """Return the inline SVG of each panel by its title, in the colours of a page."""
    with drawing():
        figures = [Figure(figsize=PANEL, layout="constrained") for _ in range(6)]
        panels = np.array([figure.subplots() for figure in figures]).reshape(2, 3)
        _fill(panels, study, ON_PAGE)
        svgs = {}
        for figure, axes in zip(figures, panels.flat, strict=True):
            title = axes.get_title()
            axes.set_title("")
            if title:
                svgs[title] = inline_svg(figure, title)
        return svgs


def write_png(study: Study, path: Path) -> None:
    """Write the sheet, whole or not at all.

    Raises:
      OSError: the file cannot be written.
    """
    png.write_png(path, lambda: draw(study, FIXED))


def draw(study: Study, palette: Palette) -> Figure:
    """Return all panels on one figure."""
    figure = Figure(figsize=SIZE, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    matplotlib.rcParams["font.size"] = 11
    parts = figure.subfigures(2, 3, squeeze=False).flat  # each has a legend of its own
    _fill(np.array([part.subplots() for part in parts]).reshape(2, 3), study, palette)
    return figure


def _fill(panels: Any, study: Study, palette: Palette) -> None:
    """Draw the study into axes `[2, 3]`, which are of one figure or of several."""
    length = study.length
    _over_time(panels[0, 0], study.rnns, "dh", palette)
    _over_time(panels[0, 1], study.lstms, "dc", palette)
    _same_axis(panels[0, 0], panels[0, 1])
    panels[0, 0].set_title(f"RNN: ‖dL/dh_t‖, loss at T = {length:,}")
    panels[0, 1].set_title("LSTM: ‖dL/dc_t‖, by forget bias")
    for axes in panels[:, :2].flat:
        axes.set_ylabel("in units of ‖dL/dh_T‖")
    _shares(panels[0, 2], study.lstms, palette)
    _norms_and_rates(panels[1, 0], study.rnns, palette)
    panels[1, 0].set_ylabel("per step")
    _training(panels[1, 1], panels[1, 2], study, palette)
    for axes in panels.flat:
        axes.set_axisbelow(True)
        axes.grid(color=palette.grid, lw=0.7)
        axes.title.set_fontsize(11.5)
        open_frame(axes)


def _over_time(axes: Axes, measurements: Sequence[Measurement], quantity: str, palette: Palette) -> None:
    for n, m in enumerate(measurements):
        _line(axes, m.relative(quantity) * LOG10_2, n, palette, m.network.label)
    axes.set_xlabel("time step t  (the loss is at T, on the right)")
    _decades(axes)
    _legend(axes)


def _legend(axes: Axes, handlelength: float = 2.8) -> None:
    """Put the legend below the panel, so that it hides no curve."""
    handles, labels = axes.get_legend_handles_labels()
    panel = axes.get_figure(root=False)
    assert panel is not None
    style: dict[str, Any] = {"frameon": False, "fontsize": 10, "handlelength": handlelength, "columnspacing": 1.2}
    panel.legend(handles, labels, loc="outside lower center", ncols=2, **style)


def _line(axes: Axes, log10: np.ndarray, n: int, palette: Palette, label: str) -> None:
    """Draw one line. Zeros, at minus infinity, are left out."""
    shown = np.where(np.isfinite(log10), log10, np.nan)
    every = max(1, log10.size // 8)
    axes.plot(np.arange(log10.size), shown, markevery=(n * every // 4, every), label=label, **_style(n, palette))


def _style(n: int, palette: Palette) -> dict[str, Any]:
    return {"color": palette.lines[n], "ls": DASHES[n], "lw": 1.9, "marker": MARKERS[n], "ms": 5.5}


def _decades(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1e{value:+.0f}" if value else "1"))
    axes.axhline(0.0, color="0.5", lw=0.8)


def _same_axis(*panels: Axes) -> None:
    low, high = (f(axes.get_ylim()[k] for axes in panels) for k, f in ((0, min), (1, max)))
    for axes in panels:
        axes.set_ylim(low, high)


def _shares(axes: Axes, measurements: Sequence[Measurement], palette: Palette) -> None:
    for n, m in enumerate(measurements):
        share = np.exp2(m.log2_share()[-2::-1])  # from T - 1 back to 0
        x = np.arange(1, share.size + 1)
        at = np.unique(np.geomspace(1, share.size, 9).astype(int)) - 1
        axes.plot(x, share, markevery=list(at), label=m.network.label, **_style(n, palette))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("steps back from the loss, T - t")
    axes.set_title("LSTM: share of dL/dc_t along c only")
    _legend(axes)


def _norms_and_rates(axes: Axes, measurements: Sequence[Measurement], palette: Palette) -> None:
    """Draw, per RNN, the range of ‖J_t‖ as a bar, and the rate of the product and its predictions as markers."""
    dark, accent, light, grey = palette.lines
    means = [m.mean_radius or 0.0 for m in measurements]
    dots: list[tuple[str, list[float], dict[str, Any]]] = [
        ("fitted factor per step", [m.rate.factor for m in measurements], {"marker": "o", "color": dark}),
        ("ρ(diag(mean φ') W_hh)", means, {"marker": "x", "color": accent, "ms": 12}),
        ("ρ(W_hh)", [m.radius for m in measurements], {"marker": "D", "color": light, "markerfacecolor": "none"}),
    ]
    for n, m in enumerate(measurements):
        label = "‖J_t‖, smallest to largest" if not n else None
        axes.plot([n, n], [m.norms.min(), m.norms.max()], color=grey, lw=9, solid_capstyle="butt", label=label)
    for label, values, style in dots:
        axes.plot(np.arange(len(measurements)) + 0.22, values, label=label, **{"ls": "", "ms": 8, "mew": 1.8, **style})
    axes.axhline(1.0, color=palette.text, lw=1.2)
    axes.set_xticks(range(len(measurements)), [m.network.label.replace(", ", ",\n") for m in measurements])
    axes.set_xlim(-0.5, len(measurements) - 0.3)
    axes.set_ylim(0, None)
    axes.set_title("RNN: norm of one step, factor of many")
    _legend(axes, handlelength=1.4)


def _training(left: Axes, right: Axes, study: Study, palette: Palette) -> None:
    """Draw before dashed and after solid, RNN on the left, LSTMs on the right, on one axis."""
    if not study.trained:
        for axes in (left, right):
            axes.set_axis_off()
        return
    for pair in study.trained:
        lstm = pair.before.network.kind == "lstm"
        axes, quantity = (right, "dc") if lstm else (left, "dh")
        first = len(axes.get_lines())
        for k, m in enumerate((pair.before, pair.after)):
            _line(axes, m.relative(quantity) * LOG10_2, first + (1 - k), palette, m.network.label)
    for axes, what in ((left, "RNN: ‖dL/dh_t‖"), (right, "LSTM: ‖dL/dc_t‖")):
        axes.set_title(f"{what} before and after training")
        axes.set_xlabel(f"time step t  (adding problem, T = {study.trained[0].before.network.steps})")
        _decades(axes)
        _legend(axes)
    _same_axis(left, right)
