"""Matplotlib figures as SVG that lives inside a page: its colours and type are the page's, and nothing points outside.

Figures are drawn in sentinel colours, which become CSS variables, so that one drawing serves a light and a dark page.
Text stays text. Ids are kept only where something refers to them; `with_prefix` sets those of one figure apart from the
next one's. The same figure gives the same text every time, on any machine with the same matplotlib.
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
    "path.simplify": False,  # what may be left out is decided before drawing
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a parameter's name is a dollar sign
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.linewidth": 0.8,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_FONT = re.compile(r"((?:font|font-family): [^;\"']*)'[^;\"]*")
_SHEET = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_REFERENCE = re.compile(r"(url\(#|href=\"#)([^)\"]+)")


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's defaults and our settings, whatever the reader's own matplotlibrc says; restored afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def open_frame(axes: Axes) -> None:
    """No line above and on the right."""
    axes.spines[["top", "right"]].set_visible(False)


def inline_svg(figure: Figure, label: str) -> str:
    """The ``<svg>`` element of a figure drawn in `drawing`, read out as ``label`` to those who cannot see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for n, name in enumerate(VARIABLES):
        text = text.replace(f"#fe01{n:02x}", f"var(--{name})")
    text = _FONT.sub(r"\1var(--sans)", text)
    text = _SHEET.sub("", text)  # it would apply to the whole page, which has its own
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text, count=2).replace("xlink:href", "href")
    text = re.sub(r'(?<= d=")[^"]*', lambda path: _shorter(path[0]), text)
    used = {name for _, name in _REFERENCE.findall(text)}
    text = re.sub(r'\sid="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r"<!--.*?-->|^\s+", "", text, flags=re.DOTALL | re.MULTILINE)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1).strip()


def _shorter(path: str) -> str:
    """A path in hundredths of a point; between straight lines, a lineto need not be named."""
    path = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), path)
    return re.sub(r"\s*\n(L )?" if not set(path) & set("CQ") else r"\s*\n", " ", path).strip()


def with_prefix(svg: str, prefix: str) -> str:
    """The same with every id, and every reference to one, set apart by ``prefix``."""
    svg = re.sub(r'\sid="([^"]*)"', rf' id="{prefix}-\1"', svg)
    return _REFERENCE.sub(rf"\1{prefix}-\2", svg)
