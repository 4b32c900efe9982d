"""Pages, docstrings and comments follow the English rules of CONTRIBUTING.md, as far as patterns can check them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

COUNTED = (
    "once|twice|one|two|three|four|[0-9]+|arrays?|products?|bias(es)?|keys?|numbers?|weights?|matri(x|ces)|values?|"
    "floats?|bytes|times|lines?|ms|µs|loops?|calls?|names?|rows?"
)
PER = (
    "gate|step|layer|direction|row|batch|chunk|call|token|file|case|seed|column|line|unit|device|block|entry|cell|"
    "second|run|array|library|name|sequence|tensor"
)
HABITS = {
    "'only' before the word, not 'alone' after it": r"\balone\b",
    "'verify' or 'check': a sample proves nothing": r"\b(prove[sdn]?|proofs?|proving)\b",
    "'per step', not 'a step'": rf"\b({COUNTED}) an? ({PER})\b(?! (has|have|had|is|are|was))",
    "no sentence begins with 'Of'": r"(?:^|[.:|] +)(?-i:Of) [a-z]",
}
FOLDERS = ("jax_lstm", "torch_ref", "crosscheck", "benchmarks", "examples", "docs", "tests")
FILES = [
    path
    for path in [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    if path.suffix in (".py", ".md", ".cc", ".h") and path != Path(__file__)
]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page, or of the docstrings and comments of a Python file, with their numbers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines = node.body[0].value.value.splitlines()
            yield from enumerate((line.strip() for line in lines), node.body[0].lineno)


@pytest.mark.parametrize("habit", HABITS)
def test_the_habit_is_in_no_page_docstring_or_comment(habit):
    pattern = re.compile(HABITS[habit], re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in prose(path)
        if pattern.search(line)
    ]
    assert not found, f"write {habit}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "habits"),
    [
        ("one array a gate", ["'per step', not 'a step'"]),
        ("the float32 check alone", ["'only' before the word, not 'alone' after it"]),
        ("this proves it", ["'verify' or 'check': a sample proves nothing"]),
        ("None. Of the faults, two are new", ["no sentence begins with 'Of'"]),
        ("one array per gate, and a step has two rows", []),
    ],
)
def test_what_a_pattern_sees(text, habits):
    assert [name for name, pattern in HABITS.items() if re.search(pattern, text, re.IGNORECASE)] == habits
