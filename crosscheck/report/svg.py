"""Matplotlib figures as SVG inside a page, with the colours and the font of the page.

Figures are drawn in placeholder colours, which become CSS variables, so that one drawing serves a light and a dark
page. Text stays text. `with_prefix` makes the ids of several figures distinct. The same figure gives the same text on
any machine with the same matplotlib.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

VARIABLES = ("ink", "muted", "rule", "paper", "accent", "band", "bad", "heat")
INK, MUTED, RULE, PAPER, ACCENT, BAND, BAD, HEAT = (f"#fe01{n:02x}" for n in range(len(VARIABLES)))

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crosscheck",
    "path.simplify": False,  # `thinned` decides what may be left out
    "font.size": 9.5,
    "text.parse_math": False,  # a parameter's name may have a dollar sign
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.8,
}
_WORDS = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
_LINES = ("axes.edgecolor", "xtick.color", "ytick.color")
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_FONT = re.compile(r"((?:font|font-family): [^;\"']*)'[^;\"]*")
_SHEET = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_REFERENCE = re.compile(r"(url\(#|href=\"#)([^)\"]+)")


@contextmanager
def drawing(words: str = INK, lines: str = MUTED) -> Iterator[None]:
    """Use matplotlib's defaults and our settings, not the matplotlibrc of the user. They are restored afterwards.

    Args:
      words: the colour of words.
      lines: the colour of axes and ticks.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS | dict.fromkeys(_WORDS, words) | dict.fromkeys(_LINES, lines))
        yield


def open_frame(axes: Axes) -> None:
    """Remove the lines above and on the right."""
    axes.spines[["top", "right"]].set_visible(False)


def inline_svg(figure: Figure, label: str) -> str:
    """Return the ``<svg>`` element of a figure that was drawn in `drawing`. A screen reader reads ``label``."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for n, name in enumerate(VARIABLES):
        text = text.replace(f"#fe01{n:02x}", f"var(--{name})")
    text = _FONT.sub(r"\1var(--sans)", text)
    text = _SHEET.sub("", text)  # it would apply to the whole page
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text, count=2).replace("xlink:href", "href")
    text = re.sub(r"<!--.*?-->|^\s+", "", text, flags=re.DOTALL | re.MULTILINE)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1).strip()


def with_prefix(svg: str, prefix: str) -> str:
    """Return the SVG with ``prefix`` before every id and every reference to one."""
    svg = re.sub(r'\sid="([^"]*)"', rf' id="{prefix}-\1"', svg)
    return _REFERENCE.sub(rf"\1{prefix}-\2", svg)
