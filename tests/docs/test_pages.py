"""Every document is checked: the output of its blocks, its commands and its links."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests import ROOT
from tests.support import documents, json_page, xla_flags
from tests.support.documents import (
    DOCUMENTS,
    LANGUAGES,
    Block,
    anchors,
    blocks,
    command_lines,
    links,
    same_text,
    tokens,
)
from tests.support.requirements import need

PYTHON = [document for document in DOCUMENTS if blocks(document, "python", "python slow")]
COMMANDS = {
    line: block.place for document in DOCUMENTS for block in blocks(document, "sh") for line in command_lines(block)
}


def check(code_blocks, folder, flags):
    """Compare the output of all blocks. Without torch, stop before the first block that needs it, and skip."""
    outputs = documents.run(code_blocks, folder, flags)
    for block, printed in zip(code_blocks, outputs, strict=False):
        expected = block.output or ""
        assert same_text(printed, expected), f"{block.place} prints\n{printed}\nand the document says\n{expected}"
    if len(outputs) < len(code_blocks):
        need("torch")
    assert len(outputs) == len(code_blocks)


@pytest.mark.isa
@pytest.mark.parametrize("document", PYTHON)
def test_blocks_print_the_text_that_follows_them(document, tmp_path):
    """The blocks are compiled quickly, to save time. The slow test below compiles as for users."""
    check(blocks(document, "python"), tmp_path, xla_flags.FLAGS)


@pytest.mark.slow
@pytest.mark.parametrize("document", PYTHON)
def test_all_blocks_as_a_reader_runs_them(document, tmp_path):
    """This includes the blocks marked ``python slow``."""
    check(blocks(document, "python", "python slow"), tmp_path, xla_flags.AS_USERS_COMPILE)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_names_its_language(document):
    """An indented block has no language, so no test would check it."""
    indented = [f"{document}:{token.map[0] + 1}" for token in tokens(document) if token.type == "code_block"]
    assert not indented, f"fence these blocks: {indented}"
    for block in blocks(document):
        assert block.language in LANGUAGES, f"{block.place}: {block.language!r} is not one of {LANGUAGES}"


@pytest.mark.once
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_exists(line):
    assert documents.command_error(line) == "", COMMANDS[line]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_targets_of_links_exist(document):
    for link in links(document):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = ((ROOT / document).parent / path if path else ROOT / document).resolve()
        assert target.exists(), f"{document}: {link}"
        assert not anchor or anchor in anchors(str(target.relative_to(ROOT))), f"{document}: {link}"


def test_every_document_is_in_the_index():
    index = {link.partition("#")[0] for link in links("docs/README.md")}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index


def test_the_page_about_json_agrees_with_the_schema():
    assert (ROOT / "docs" / "json.md").read_text(encoding="utf-8") == json_page.page()


def test_the_constants_in_the_page_about_the_verdict_agree_with_the_code():
    need("torch")
    text = (ROOT / "docs/verdict.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_.]+)\.([A-Z].*?)` \| (.+?) \|", text, re.MULTILINE)
    assert len(rows) >= 16
    for module, name, value in rows:
        actual = eval(name, vars(import_module(f"crosscheck.{module}")))
        assert actual == eval(value), f"crosscheck.{module}.{name} is {actual}, and the table says {value}"


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("agree 1.2e-15", "agree 9.9e-16", True),
        ("agree 1.2e-15", "agree 1.3e-14", False),
        ("error 3e-16", "error 4e-16", True),
        ("error 0e+00", "error 4e-16", False),
        ("moved -1.2e-03", "moved 1.2e-03", False),
        ("0.582 to", "0.583 to", True),
        ("0.582 to", "0.584 to", False),
        ("1.234e-03", "1.235e-03", True),
        ("1.234e-03", "1.236e-03", False),
        ("10,000 steps", "10,001 steps", False),
        ("case 3", "case 4", False),
        ("agree", "disagree", False),
        ("agree 1", "agree", False),
        ("weight_hh_l0", "weight_hh_l1", False),
        ("nearest to its limit: y [64]; error 1.0e-16", "nearest to its limit: x[t=3] [64]; error 2.0e-16", True),
        ("nearest to its limit: y [64]; error 1.0e-16", "nearest to its limit: y [32]; error 1.0e-16", False),
        ("errs by 3.1e-01 (one way)", "errs by 3.2e-01 (another)", True),
        ("errs by 3.1e-01 (one way)", "errs by 3.2e-03 (one way)", False),
    ],
)
def test_the_rule_for_printed_text(got, expected, same):
    assert same_text(got, expected) is same


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("make test lint  # both", ""),
        ("make tests", "'tests' is not one of"),
        ("crosscheck", ""),
        ("crosscheck --case notebook --report out", ""),
        ("crosscheck --cases notebook", "No such option"),
        ("crosscheck --jobs some", "a valid integer"),
        ("python -m crosscheck gradients --length 100 --json out.json", ""),
        ("crosscheck gradients --length", "requires an argument"),
        ("crosscheck gradient --length 100", "No such command 'gradient'"),
        ("crosscheck checkpoint", "Missing parameter: file"),
        ("pip install '.[crosscheck]'", ""),
        ("pip install '.[nothing]'", "is not one of"),
        ("python -m pytest -q", ""),
        ("python -m pytest --no-such-option", "'--no-such-option' is not one of"),
        ("python no_such_script.py", "No such file"),
        ("rm -rf /", "knows only the commands"),
    ],
)
def test_what_is_checked_in_a_command_line(line, why):
    error = documents.command_error(line)
    assert error == why if not why else why.lower() in error.lower(), error


def test_blocks_run_in_order_in_one_namespace(tmp_path):
    two_blocks = [
        Block("a.md", 3, "python", "a = 1\nprint(a)"),
        Block("a.md", 9, "python", "open('b', 'w').close()\nprint(a + 1)"),
    ]
    assert documents.run(two_blocks, tmp_path) == ["1\n", "2\n"]
    assert (tmp_path / "b").exists()
    with pytest.raises(AssertionError, match=r'"a.md", line 11(.|\n)*ZeroDivisionError'):
        documents.run([Block("a.md", 9, "python", "a = 1\na / 0")], tmp_path)
