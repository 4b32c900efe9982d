"""The places of the legends of a figure."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend


def count_outside(figure: Figure) -> int:
    """Assert that each legend is inside the figure and outside of all axes, and return how many there are."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    legends = _legends(figure)
    for legend in legends:
        box = legend.get_window_extent(renderer)
        assert box.width > 1
        for axes in figure.axes:
            assert not box.overlaps(axes.bbox), f"a legend over the axes {axes.get_title()!r}"
        assert -1 <= box.x0 < box.x1 <= figure.bbox.width + 1, "a legend is cut off"
        assert -1 <= box.y0 < box.y1 <= figure.bbox.height + 1, "a legend is cut off"
    return len(legends)


def _legends(figure: Figure) -> list[Legend]:
    """Return the legends of the figure, of its panels and of its axes."""
    legends = [*figure.legends, *(legend for panel in figure.subfigs for legend in panel.legends)]
    return legends + [legend for axes in figure.axes if (legend := axes.get_legend()) is not None]
