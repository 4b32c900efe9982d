"""docs/notebook.ipynb: it runs in a clean kernel, and its committed outputs are what it prints.

After a change of the notebook, `python -m tests.support.notebook` executes it and writes its outputs.
"""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import re

import nbformat
import pytest
from markdown_it import MarkdownIt

from tests import ROOT
from tests.support import notebook, xla_flags
from tests.support.documents import anchors, same_text

COMMITTED = notebook.read()
CELLS = notebook.code_cells(COMMITTED)
OUTPUTS = [(cell.id, output) for cell in CELLS for output in cell.outputs]
SECTIONS = [
    "The gradient vanishes",
    "the gates",
    "six equations",
    "Two mistakes",
    "torch.nn.LSTM",
    "Long sequences",
    "trained",
    "Export",
]


@pytest.mark.isa
def test_it_runs_and_prints_the_committed_outputs(tmp_path):
    executed = notebook.code_cells(notebook.execute(COMMITTED, tmp_path, xla_flags.FLAGS))
    for got, expected in zip(executed, CELLS, strict=True):
        assert [output.output_type for output in got.outputs] == [output.output_type for output in expected.outputs]
        for one, other in zip(got.outputs, expected.outputs, strict=True):
            assert one.get("name") == other.get("name"), f"{got.id} prints to another stream"
            text, committed = notebook.printed(one), notebook.printed(other)
            assert same_text(text, committed), f"{got.id} prints\n{text}\nand the notebook says\n{committed}"
            assert list(one.get("data", ())) == list(other.get("data", ()))
    assert not list(tmp_path.iterdir()), "it leaves files in the working directory"


def test_it_is_valid_and_has_nothing_that_differs_from_run_to_run():
    nbformat.validate(COMMITTED)
    assert notebook.strip(COMMITTED) == COMMITTED
    identifiers = [cell.id for cell in COMMITTED.cells]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[a-z0-9-]{3,}", identifier) for identifier in identifiers), "name each cell"


def test_its_outputs_are_complete():
    assert [cell.execution_count for cell in CELLS] == list(range(1, len(CELLS) + 1))
    for cell in CELLS:
        shows = "print(" in cell.source or "show(\n" in cell.source
        assert bool(cell.outputs) == shows, f"{cell.id} has an output that no code prints, or none"


@pytest.mark.parametrize(("cell", "output"), OUTPUTS, ids=[cell for cell, _ in OUTPUTS])
def test_an_output_is_text_or_a_figure_and_no_error(cell, output):
    assert output.output_type in ("stream", "display_data")
    assert output.get("name", "stdout") == "stdout"
    assert "Warning" not in notebook.printed(output)
    assert not re.search(r"(?<![\w.])/\w+/\w", notebook.printed(output)), "an absolute path"


def test_each_figure_has_alternative_text():
    figures = [output for _, output in OUTPUTS if output.output_type == "display_data"]
    assert len(figures) >= 4
    for output in figures:
        assert list(output.data) == ["text/html", "text/plain"], "an image/png has no alternative text in nbconvert"
        (image,) = notebook.Images(output.data["text/html"]).found
        text = image["alt"] or ""
        assert text == output.data["text/plain"]
        assert re.match(r"[A-Z].{60,}\.$", text), f"a sentence at least: {text!r}"
        assert (image["src"] or "").startswith("data:image/png;base64,iVBORw0KGgo")


def test_it_uses_neither_magics_nor_private_modules():
    for cell in CELLS:
        compile(cell.source, cell.id, "exec")  # a magic is no Python
        private = re.search(r"\b(jax_lstm\._src|crosscheck\.\w+\.|\w\._[a-z])", cell.source)
        assert not private, f"{cell.id}: {private}"


def test_its_sections_are_in_order():
    headings = re.findall(r"^## (\d)\. (.*)", "\n".join(cell.source for cell in COMMITTED.cells), re.MULTILINE)
    assert [int(number) for number, _ in headings] == list(range(1, len(SECTIONS) + 1))
    for (_, heading), words in zip(headings, SECTIONS, strict=True):
        assert words in heading


def test_the_targets_of_its_links_exist():
    targets = []
    for cell in COMMITTED.cells:
        if cell.cell_type == "markdown":
            for token in MarkdownIt("commonmark").parse(cell.source):
                targets += [str(t.attrs["href"]) for t in token.children or () if "href" in t.attrs]
    assert len(targets) >= 8
    for link in targets:
        path, _, anchor = link.partition("#")
        assert path.endswith(".md"), f"{link}: the site and GitHub both resolve a relative link to a page"
        assert (ROOT / "docs" / path).exists(), link
        assert not anchor or anchor in anchors(f"docs/{path}"), link
