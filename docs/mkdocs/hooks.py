"""What MkDocs needs for pages that are also read on GitHub: links out of docs/, the changelog, and formulas.

The formulas of the notebook become MathML when the site is built, so that a page loads nothing from another server.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
CODE = re.compile(r"<(pre|code|script|style)\b.*?</\1>", re.DOTALL)
FORMULA = re.compile(r"(\$\$?)([^$]+)\1")
FOREIGN = re.compile(r"<script\b(?:(?!</script>).)*(?:cdnjs|mathjax).*?</script>", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(r"^(```python) slow$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add CHANGELOG.md as the page changelog.md."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=with_links(text, ROOT, DOCS, config.repo_url)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Let links to files outside docs/ lead to the repository, and give slow blocks their colours."""
    folder = (DOCS / page.file.src_uri).parent
    return FENCE.sub(r"\1", with_links(markdown, folder, folder, config.repo_url))


def on_page_content(page_html: str, page: Page, **_: Any) -> str:
    """Put MathML in the place of the notebook's formulas, and drop scripts of other servers, which would draw them."""
    if not page.file.src_uri.endswith(".ipynb"):
        return page_html
    done, parts = 0, []
    page_html = FOREIGN.sub("", page_html)
    for code in CODE.finditer(page_html):
        parts += [FORMULA.sub(_mathml, page_html[done : code.start()]), code[0]]
        done = code.end()
    return "".join([*parts, FORMULA.sub(_mathml, page_html[done:])])


def _mathml(match: re.Match[str]) -> str:
    formula = html.unescape(match[2])
    if match[1] == "$":
        return convert(formula)
    return f'<span class="formula">{convert(formula, display="block")}</span>'


def with_links(markdown: str, written_in: Path, shown_in: Path, repository: str | None) -> str:
    """Return the text with its relative links as they are from ``shown_in``, or absolute if they leave docs/."""

    def mended(match: re.Match[str]) -> str:
        opening, target, anchor, closing = match.groups(default="")
        path = Path(os.path.normpath(written_in / target))
        if "://" in target or target.startswith("/") or not path.exists():
            return match[0]
        if path.is_relative_to(DOCS):
            return f"{opening}{os.path.relpath(path, shown_in)}{anchor}{closing}"
        return f"{opening}{repository}/blob/main/{path.relative_to(ROOT).as_posix()}{anchor}{closing}"

    return LINK.sub(mended, markdown)
