"""Every document runs: its blocks print what stands below them, its commands exist, its links lead somewhere."""

from __future__ import annotations

import pytest

from tests import documents
from tests.documents import DOCUMENTS, LANGUAGES, ROOT, anchors, blocks, command_lines, links, same_text, tokens

PYTHON = [document for document in DOCUMENTS if blocks(document, "python")]
SLOW = [document for document in DOCUMENTS if blocks(document, "python slow")]


def check(some, folder):
    for block, printed in zip(some, documents.run(some, folder), strict=True):
        expected = block.output or ""
        assert same_text(printed, expected), f"{block.place} prints\n{printed}\nand the document says\n{expected}"


@pytest.mark.parametrize("document", PYTHON)
def test_blocks_print_what_follows_them(document, tmp_path):
    check(blocks(document, "python"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("document", SLOW)
def test_slow_blocks_too(document, tmp_path):
    """All blocks again, those that are marked ``python slow`` among them."""
    check(blocks(document, "python", "python slow"), tmp_path)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_says_what_it_is(document):
    """An indented block says nothing, and so no test would know what to do with it."""
    indented = [f"{document}:{token.map[0] + 1}" for token in tokens(document) if token.type == "code_block"]
    assert not indented, f"fence these blocks: {indented}"
    for block in blocks(document):
        assert block.language in LANGUAGES, f"{block.place}: {block.language!r} is none of {LANGUAGES}"


COMMANDS = {line: block.place for document in DOCUMENTS for block in blocks(document, "sh") for line in
            command_lines(block)}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_exists(line):
    assert documents.why_not_a_command(line) == "", COMMANDS[line]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for link in links(document):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), f"{document}: {link}"
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), f"{document}: {link}"


def test_every_document_is_in_the_index():
    index = {link.partition("#")[0] for link in links("docs/README.md")}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index
