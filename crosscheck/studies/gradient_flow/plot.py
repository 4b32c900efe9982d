"""Plots of gradients back through time, RNN beside LSTM, on one sheet for a slide or one by one on a page.

Lines differ by dash and marker as well as by colour, and both norms share one logarithmic axis. A look is a dict of
matplotlib's settings: with placeholder colours, which become the colours of a page, or with fixed ones for a PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from crosscheck.report import png
from crosscheck.report.svg import ACCENT, BAD, INK, MUTED, RULE, drawing, inline_svg
from crosscheck.studies.gradient_flow.study import Measurement, Study

SIZE = (13.3, 7.6)  # inches: a slide
PANEL = (5.4, 3.9)
LOG10_2 = float(np.log10(2.0))
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1.2, 1.4)), (0, (7, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D")


def _look(lines: tuple[str, str, str, str], grid: str) -> dict[Any, Any]:
    """Return the settings for colours of four lines, dark to light, which "C0" to "C3" name, and of the grid."""
    return {
        "axes.prop_cycle": cycler(color=lines),
        "axes.titlesize": 11.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": grid,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "legend.columnspacing": 1.2,
    }


ON_PAGE = _look((INK, ACCENT, BAD, MUTED), RULE)
FIXED = _look((png.TEXT, png.BLUE, png.RED, png.GREY), png.GRID) | {"font.size": 11}


@drawing()
def page_svgs(study: Study) -> dict[str, str]:
    """Return the inline SVG of each panel by its title, in the colours of a page."""
    matplotlib.rcParams.update(ON_PAGE)
    figures = [Figure(figsize=PANEL, layout="constrained") for _ in range(6)]
    panels = [figure.subplots() for figure in figures]
    _fill(panels, study)
    svgs = {}
    for figure, axes in zip(figures, panels, strict=True):
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


def draw(study: Study, look: dict[Any, Any]) -> Figure:
    """Return all panels on one figure."""
    matplotlib.rcParams.update(look)
    figure = Figure(figsize=SIZE, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    parts = figure.subfigures(2, 3, squeeze=False).flat  # each has a legend of its own
    _fill([part.subplots() for part in parts], study)
    return figure


def _fill(panels: Sequence[Axes], study: Study) -> None:
    """Draw the study into six axes, which are of one figure or of several."""
    titles = (f"RNN: ‖dL/dh_t‖, loss at T = {study.rnns[0].network.steps:,}", "LSTM: ‖dL/dc_t‖, by forget bias")
    _over_time(panels[:2], titles, study.rnns, study.lstms)
    for axes in panels[:2]:
        axes.set_xlabel("time step t  (the loss is at T, on the right)")
    _shares(panels[2], study.lstms)
    _norms_and_rates(panels[3], study.rnns)
    if not study.trained:
        for axes in panels[4:]:
            axes.set_axis_off()
        return
    titles = ("RNN: ‖dL/dh_t‖ before and after training", "LSTM: ‖dL/dc_t‖ before and after training")
    both = [m for pair in study.trained for m in (pair.before, pair.after)]
    rnns, lstms = ([m for m in both if m.network.kind == kind] for kind in ("rnn", "lstm"))
    _over_time(panels[4:], titles, rnns, lstms, styles=(1, 0, 3, 2))  # before dashed and after solid
    for axes in panels[4:]:
        axes.set_xlabel(f"time step t  (adding problem, T = {both[0].network.steps})")


def _over_time(
    panels: Sequence[Axes],
    titles: Sequence[str],
    rnns: Sequence[Measurement],
    lstms: Sequence[Measurement],
    styles: Sequence[int] = range(4),
) -> None:
    """Draw norms of dL/dh_t of RNNs and of dL/dc_t of LSTMs, on one logarithmic axis. Zeros are left out."""
    for axes, title, quantity, measurements in zip(panels, titles, ("dh", "dc"), (rnns, lstms), strict=True):
        for n, m in zip(styles, measurements, strict=False):
            log10 = m.relative(quantity) * LOG10_2
            every = max(1, log10.size // 8)
            shown = np.where(np.isfinite(log10), log10, np.nan)
            axes.plot(shown, markevery=(n * every // 4, every), label=m.network.label, **_style(n))
        axes.set_title(title)
        axes.set_ylabel("in units of ‖dL/dh_T‖")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1e{value:+.0f}" if value else "1"))
        axes.axhline(0.0, color="0.5", lw=0.8)
        _legend(axes)
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _legend(axes: Axes, handlelength: float = 2.8) -> None:
    """Put the legend below the panel, so that it hides no curve."""
    handles, labels = axes.get_legend_handles_labels()
    panel = axes.get_figure(root=False)
    assert panel is not None
    panel.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=handlelength)


def _style(n: int) -> dict[str, Any]:
    return {"color": f"C{n}", "ls": DASHES[n], "lw": 1.9, "marker": MARKERS[n], "ms": 5.5}


def _shares(axes: Axes, measurements: Sequence[Measurement]) -> None:
    for n, m in enumerate(measurements):
        share = np.exp2(m.log2_share()[-2::-1])  # from T - 1 back to 0
        x = np.arange(1, share.size + 1)
        at = np.unique(np.geomspace(1, share.size, 9).astype(int)) - 1
        axes.plot(x, share, markevery=list(at), label=m.network.label, **_style(n))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("steps back from the loss, T - t")
    axes.set_title("LSTM: share of dL/dc_t along c only")
    _legend(axes)


def _norms_and_rates(axes: Axes, measurements: Sequence[Measurement]) -> None:
    """Draw, per RNN, the range of ‖J_t‖ as a bar, and the rate of the product and its predictions as markers."""
    means = [m.mean_radius or 0.0 for m in measurements]
    dots: list[tuple[str, list[float], dict[str, Any]]] = [
        ("fitted factor per step", [m.rate.factor for m in measurements], {"marker": "o", "color": "C0"}),
        ("ρ(diag(mean φ') W_hh)", means, {"marker": "x", "color": "C1", "ms": 12}),
        ("ρ(W_hh)", [m.radius for m in measurements], {"marker": "D", "color": "C2", "markerfacecolor": "none"}),
    ]
    for n, m in enumerate(measurements):
        label = "‖J_t‖, smallest to largest" if not n else None
        axes.plot([n, n], [m.norms.min(), m.norms.max()], color="C3", lw=9, solid_capstyle="butt", label=label)
    for label, values, style in dots:
        axes.plot(np.arange(len(measurements)) + 0.22, values, label=label, **{"ls": "", "ms": 8, "mew": 1.8, **style})
    axes.axhline(1.0, color="C0", lw=1.2)
    axes.set_xticks(range(len(measurements)), [m.network.label.replace(", ", ",\n") for m in measurements])
    axes.set_xlim(-0.5, len(measurements) - 0.3)
    axes.set_ylim(0, None)
    axes.set_ylabel("per step")
    axes.set_title("RNN: norm of one step, factor of many")
    _legend(axes, handlelength=1.4)
