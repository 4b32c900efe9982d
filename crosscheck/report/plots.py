"""Two drawings of slices: error against time with the limit, and a heat map of gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from crosscheck.core.finding import SEVERITY, Finding, Kind, Rows
from crosscheck.core.problem import Gradient, is_gradient
from crosscheck.core.slices import TIME
from crosscheck.core.verdict_text import check_text
from crosscheck.lstm.gates import GATE, GATES
from crosscheck.report.svg import ACCENT, BAD, BAND, HEAT, INK, MUTED, PAPER, RULE, drawing, inline_svg, open_frame

WIDTH = 4.6  # inches; the page scales the whole
PANEL = 1.9
BINS = 400  # a curve of more steps than this is thinned out
FAINTEST, DARKEST = -3.0, 3.0  # decades of error / limit that have shades of their own
_AGREE, _VACUOUS, _INCONCLUSIVE, _DISAGREE = range(len(SEVERITY))
_STRIP: dict[int, dict[str, Any]] = {
    _VACUOUS: {"facecolor": "none", "edgecolor": MUTED, "hatch": "//////"},
    _INCONCLUSIVE: {"facecolor": "none", "edgecolor": MUTED, "hatch": "......"},
    _DISAGREE: {"facecolor": BAD, "edgecolor": BAD},
}


def ratios(rows: Rows) -> np.ndarray:
    """Return the errors in units of their limits, `[slices]`; -1 if there was nothing to compare."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(rows.error == 0, 0.0, rows.error / rows.limit)
    ratio[(rows.outcomes == _VACUOUS) | np.isnan(ratio)] = -1.0
    return ratio


def thinned(rows: Rows, bins: int = BINS) -> np.ndarray:
    """Return the slices to draw, in order: per bin the one with the largest error / limit, and the gravest outcome.

    No peak is lost, since the worst slice of all is the worst of its bin.
    """
    total = rows.error.size
    if total <= bins:
        return np.arange(total)
    of, ratio = np.arange(total) * bins // total, ratios(rows)
    ends = np.flatnonzero(np.diff(of, append=bins))
    nearest, gravest = np.lexsort((ratio, of)), np.lexsort((ratio, rows.outcomes, of))
    return np.unique(np.concatenate((nearest[ends], gravest[ends])))


@drawing()
def curve(findings: Sequence[Finding], bins: int = BINS) -> str:
    """Return error against step on a log axis as inline SVG, one panel per finding. The limit is the edge of a band.

    Errors and limits are in the 2-norm, relative to the norm of the truth in the same step. Steps that were vacuous
    or inconclusive are marked at the bottom.

    Args:
      findings: the findings of one check by time or training step, in the order of the panels.
      bins: a longer curve is thinned out to this number of bins.

    Raises:
      ValueError: a finding has no steps.
    """
    for finding in findings:
        if not finding.scope.in_order or finding.rows is None:
            raise ValueError(f"a curve needs findings by time or training step with their rows; got {finding.label!r}.")
    height = 0.3 + PANEL * len(findings) + 0.18
    figure = Figure(figsize=(WIDTH, height))
    seen: set[int] = set()
    for n, finding in enumerate(findings):
        foot = height - 0.3 - PANEL * (n + 1) + 0.34
        axes = figure.add_axes((0.6 / WIDTH, foot / height, 1 - 0.75 / WIDTH, (PANEL - 0.64) / height))
        seen |= _panel(axes, finding, bins)
    axes.set_xlabel(_along(findings[0]), labelpad=2)
    keys = [Line2D([], [], color=ACCENT, lw=1.3, label="error"), Patch(facecolor=BAND, label="within the limit")]
    keys += [Patch(label=str(SEVERITY[k]), **_STRIP[k]) for k in sorted(seen)]
    style: dict[str, Any] = {"handlelength": 1.2, "handletextpad": 0.5, "columnspacing": 0.9}
    style["fontsize"] = 9.5 if len(keys) <= 3 else 8.5
    figure.legend(handles=keys, loc="upper left", ncols=len(keys), frameon=False, borderpad=0, **style)
    names = ", ".join(str(f.quantity) for f in findings)
    return inline_svg(
        figure, f"Error against time step of {names} in the {check_text(findings[0].check)}, and its limit"
    )


def _along(finding: Finding) -> str:
    if finding.scope != TIME:
        return finding.scope.noun
    return f"{finding.check.steps}-step stretch, in order" if _of_stretches(finding) else "time step t"


def _of_stretches(finding: Finding) -> bool:
    return finding.check.kind is Kind.TEACHER_FORCED


def _panel(axes: Axes, finding: Finding, bins: int) -> set[int]:
    """Draw one finding and return the outcomes that are marked at the bottom."""
    assert finding.rows is not None
    rows, t = finding.rows, thinned(finding.rows, bins)
    error, limit, outcomes = rows.error[t], rows.limit[t], rows.outcomes[t]
    drawn = (outcomes != _VACUOUS) & ~np.isnan(error)
    x = t + _start(finding)
    low, high = _span(error[drawn], limit[drawn], outcomes[drawn])
    shown = np.where(drawn, np.clip(error, low, high), np.nan)
    edge = np.where(drawn, np.clip(limit, low, high), np.nan)
    axes.fill_between(x, low, edge, color=BAND, lw=0)
    axes.plot(x, edge, color=MUTED, lw=0.9)
    axes.plot(x, shown, color=ACCENT, lw=1.1)
    isolated = drawn & ~np.append(drawn[1:], False) & ~np.append(False, drawn[:-1])
    axes.plot(x[isolated], shown[isolated], ".", color=ACCENT, ms=3)
    wrong = drawn & (outcomes == _DISAGREE)
    axes.plot(x[wrong], shown[wrong], ".", color=BAD, ms=5 if wrong.sum() < 50 else 2.5)
    axes.set(yscale="log", ylim=(low, high), xlim=(_start(finding) - 0.5, _start(finding) + rows.error.size - 0.5))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y", color=RULE, lw=0.6)
    axes.set_axisbelow(True)
    open_frame(axes)
    if not drawn.any():
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing to compare in any step", transform=axes.transAxes, ha="center", color=MUTED)
    way = "" if finding.scope != TIME else " (adjoint)" if is_gradient(finding.quantity) else " (forward)"
    axes.set_title(f"{finding.quantity}{way}", loc="left", fontsize=9.5, pad=5)
    axes.set_title(_nearest(finding), loc="right", fontsize=8.5, color=MUTED, pad=5)
    return _strip(axes, rows, bins, _start(finding))


def _span(error: np.ndarray, limit: np.ndarray, outcomes: np.ndarray) -> tuple[float, float]:
    """Return the y-axis: all errors and the limits of decided steps, with room for the strip below them."""
    decided = outcomes != _INCONCLUSIVE
    numbers = np.concatenate((error, limit[decided] if decided.any() else limit))
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    if not numbers.size:
        return 1e-16, 1.0
    low, high = float(max(numbers.min(), numbers.max() * 1e-20)), float(numbers.max())
    return low / 2 * (low / high) ** 0.12, high * 2


def _nearest(finding: Finding) -> str:
    assert finding.rows is not None
    ratio = ratios(finding.rows)
    worst = int(np.argmax(ratio))
    if ratio[worst] < 0:
        return ""
    where = "step" if finding.scope != TIME else "stretch" if _of_stretches(finding) else "t ="
    return f"worst {number(ratio[worst])} × limit at {where} {worst + _start(finding):,}"


def _start(finding: Finding) -> int:
    """Return the number of the first step: 0 for time steps, 1 for training steps."""
    return int(finding.scope != TIME)


def _strip(axes: Axes, rows: Rows, bins: int, first: int) -> set[int]:
    """Mark at the bottom, by the gravest outcome of each bin, which steps do not agree."""
    total = rows.error.size
    edges = np.unique(np.arange(min(bins, total) + 1) * total // min(bins, total))
    gravest = np.maximum.reduceat(rows.outcomes, edges[:-1])
    starts = np.flatnonzero(np.diff(gravest, prepend=-1))
    ends = np.append(starts[1:], gravest.size)
    seen = set()
    for start, end in zip(starts, ends, strict=True):
        outcome = int(gravest[start])
        if outcome == _AGREE:
            continue
        seen.add(outcome)
        left, right = first + edges[start] - 0.5, first + edges[end] - 0.5
        axes.axvspan(left, right, 0, 0.07, lw=0.5 if outcome == _DISAGREE else 0, **_STRIP[outcome])
    return seen


@drawing()
def heat_map(findings: Sequence[Finding]) -> str:
    """Return the error of each gate of each gradient in units of its limit, in the 2-norm, as inline SVG.

    Shades are a log scale, from the faintest at 1/1000 of the limit to the darkest at 1000 times the limit. A frame
    marks blocks that disagree.

    Args:
      findings: the findings of one check by gate.

    Raises:
      ValueError: a finding has no gates.
    """
    for finding in findings:
        if finding.scope != GATE or finding.rows is None or finding.rows.error.size != len(GATES):
            raise ValueError(f"a heat map needs findings by gate with their rows; got {finding.label!r}.")
    quantities = [finding.quantity for finding in findings]
    names = [_shortened(name.of if isinstance(name, Gradient) else name) for name in quantities]
    margin = min(0.15 + 0.078 * max(map(len, names)), 2.4)
    height = 0.3 + 0.27 * len(findings) + 0.62
    figure = Figure(figsize=(WIDTH, height))
    box = (margin / WIDTH, 0.62 / height, 1 - (margin + 0.1) / WIDTH, 0.27 * len(findings) / height)
    axes = figure.add_axes(box)
    for row, finding in enumerate(findings):
        _cells(axes, row, finding)
    _label(axes, GATES, names)
    axes.tick_params(labeltop=True, labelbottom=False)
    _scale(figure, height)
    return inline_svg(
        figure, f"Gradient error by parameter and gate in the {check_text(findings[0].check)}, in units of its limit"
    )


def _cells(axes: Axes, row: int, finding: Finding) -> None:
    assert finding.rows is not None
    for gate, ratio in enumerate(ratios(finding.rows)):
        outcome = finding.rows.outcomes[gate]
        wrong = outcome == _DISAGREE
        _shaded(axes, gate, row, ratio)
        if wrong:
            axes.add_patch(Rectangle((gate + 0.03, row + 0.06), 0.94, 0.88, facecolor="none", edgecolor=BAD, lw=1.6))
        undecided = outcome == _INCONCLUSIVE or (ratio < 0 and not wrong)
        text = str(SEVERITY[outcome]) if undecided else number(ratio) if ratio >= 0 else "no limit"
        colour = PAPER if _shade(ratio) > 0.5 else INK
        weight = "bold" if wrong else "normal"
        axes.text(gate + 0.5, row + 0.52, text, ha="center", va="center", color=colour, weight=weight, fontsize=9)


def _shaded(axes: Axes, x: float, y: float, ratio: float) -> None:
    axes.add_patch(Rectangle((x + 0.01, y + 0.03), 0.98, 0.94, facecolor=HEAT, alpha=_shade(ratio), lw=0))


def _shade(ratio: float) -> float:
    """Return the opacity. A ratio at the limit is below the middle, so that anything over it stands out."""
    if ratio <= 0:
        return 0.0
    place = float(np.clip((np.log10(ratio) - FAINTEST) / (DARKEST - FAINTEST), 0.0, 1.0))
    return round(0.04 + 0.66 * place if place <= 0.5 else 0.2 + 0.8 * place, 3)


def _scale(figure: Figure, height: float) -> None:
    """Draw the key: one shade per decade."""
    decades = np.arange(int(FAINTEST), int(DARKEST) + 1)
    axes = figure.add_axes((0.95 / WIDTH, 0.3 / height, 1 - 1.05 / WIDTH, 0.16 / height))
    for n, decade in enumerate(decades):
        _shaded(axes, n, 0, 10.0**decade)
    texts = [number(10.0**decade) for decade in decades]
    _label(axes, ["≤ " + texts[0], *texts[1:-1], "≥ " + texts[-1]], ["error / limit"], fontsize=8.5)


def _label(axes: Axes, columns: Sequence[str], rows: Sequence[str], **style: Any) -> None:
    """Name the columns and rows of cells that are one unit wide and high, the first row on top."""
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, **style)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, **style)
    axes.tick_params(length=0, pad=4)
    axes.spines[:].set_visible(False)


def number(ratio: float) -> str:
    """Return a number with two digits as a short text."""
    if not np.isfinite(ratio):
        return "∞"
    if ratio >= 9999.5:
        digits, power = f"{ratio:.0e}".split("e")
        return f"{digits}e{int(power)}"
    if ratio >= 9.5:
        return f"{ratio:.0f}"
    if 0 < ratio < 0.00095:
        return "< 0.001"
    return f"{ratio:.2g}"


def _shortened(name: str, most: int = 28) -> str:
    """Return the name without its middle if it is long. The table beside the map has the whole name."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
