"""Prints the targets in the description of a wheel that lead nowhere on PyPI, where no file lies beside the text.

The argument is a file with the description. It is rendered as on PyPI, which gives each heading a link to itself.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

from readme_renderer.markdown import render


class Targets(HTMLParser):
    """Collects the targets of links and images, and the places on the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("href", "src", "srcset")]
        self.places |= {f"#{value}" for name, value in attributes if name in ("id", "name")}


page = render(Path(sys.argv[1]).read_text(encoding="utf-8"))
assert page, "the description cannot be rendered"
targets = Targets()
targets.feed(page)
absolute = [target for target in targets.found if target.startswith("https://")]
assert absolute, "there is no absolute link at all"
print(*sorted({*targets.found} - {*absolute} - targets.places), sep="\n")
