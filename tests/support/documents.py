"""The parts of a document: fenced blocks, their output, command lines, links and anchors.

The output of a python block is compared with the ``text`` block right after it by one rule (`same_text`):

1. Words and whole numbers are equal.
2. A decimal, such as 0.582, may differ by one in its last digit.
3. A figure of one or two digits with an exponent, such as 1.2e-15, depends on rounding. It may differ by a factor of
   ten. A figure with more digits is a decimal.
4. Rounding also decides which quantity is nearest to its limit, and which explanation is the second one. In such lines
   only the figures are compared.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests import ROOT
from tests.support import fresh_process
from tests.support.requirements import need

PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/*/README.md",
    "docs/api/*.md",
    "examples/*.md",
    "examples/*/README.md",
    "benchmarks/README.md",
)
DOCUMENTS = [str(path.relative_to(ROOT)) for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]
LANGUAGES = ("python", "python slow", "sh", "text")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block. ``line`` is the number of lines before its code; ``output`` is the text block right after it."""

    document: str
    line: int
    language: str
    code: str
    output: str | None = None

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line + 1}"


@lru_cache
def tokens(document: str) -> list[Token]:
    """Parse a document."""
    return MarkdownIt("commonmark").enable("table").parse((ROOT / document).read_text())


def blocks(document: str, *languages: str) -> list[Block]:
    """Return the fenced blocks of a document: all, or those of the given languages."""
    selected = []
    for token, following in pairwise([*tokens(document), None]):
        if token is not None and token.type == "fence" and (not languages or token.info in languages):
            printed = following is not None and following.type == "fence" and following.info == "text"
            assert token.map is not None
            output = following.content if printed and following is not None else None
            selected.append(Block(document, token.map[0] + 1, token.info, token.content, output))
    return selected


def run(code_blocks: Sequence[Block], folder: Path, flags: str = "") -> list[str]:
    """Run blocks in order in one namespace, in a separate process, and return the output of each block.

    Without torch, the run ends before the first block that needs it.

    Args:
      code_blocks: The blocks.
      folder: The working directory.
      flags: XLA's flags.

    Raises:
      AssertionError: A block raised. The traceback has the line numbers of the document.
    """
    code = [(block.document, block.line, block.code) for block in code_blocks]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    printed, error = fresh_process.run(_printed, code, folder=folder, environment=environment)
    assert not error, error
    return printed


def _printed(code_blocks: Sequence[tuple[str, int, str]]) -> list[str]:
    space, printed = {"__name__": "__main__"}, []
    for name, line, code in code_blocks:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                exec(compile("\n" * line + code, name, "exec"), space)
            except ModuleNotFoundError as error:
                if error.name != "torch":
                    raise
                break
        printed.append(out.getvalue())
    return printed


def same_text(got: str, expected: str) -> bool:
    """Compare two texts by the rule of this module."""
    a, b = (_without_chance(text) for text in (got, expected))
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return False
    return all(map(_same_number, NUMBER.findall(a), NUMBER.findall(b)))


def _without_chance(text: str) -> str:
    text = re.sub(r"(nearest to its limit:) .*? \[", r"\1 [", text.replace(" in the max-norm", ""))
    return re.sub(r"(errs by \S+) \(.*\)", r"\1", text)


def _same_number(got: str, expected: str) -> bool:
    a, b = (float(number.replace(",", "")) for number in (got, expected))
    digits, _, exponent = expected.partition("e")
    if exponent and len(digits.lstrip("-+")) <= len("1.2"):
        return a == b or (a * b > 0 and 0.1 < a / b < 10)
    if "." not in digits:
        return a == b
    return abs(a - b) <= 1.01 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def links(document: str) -> Iterator[str]:
    """Yield the targets of all links and images."""
    for token in tokens(document):
        for inner in token.children or ():
            target = inner.attrs.get("href", inner.attrs.get("src"))
            if target is not None:
                yield str(target)


def anchors(document: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings: lower case, hyphens for blanks, no punctuation."""
    names: set[str] = set()
    for token, inline in pairwise(tokens(document)):
        if token.type == "heading_open":
            text = "".join(part.content for part in inline.children or () if part.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            again = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in names)
            names.add(f"{slug}-{again}" if again else slug)
    return names


def command_lines(block: Block) -> list[str]:
    """Return the command lines of a shell block. A line that ends in a backslash continues in the next one."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def command_error(line: str) -> str:
    """Return why a command line cannot run, or "" if its program, target and options exist. Runs only --help."""
    match shlex.split(line, comments=True):
        case ["make", *targets]:
            return _unknown(targets, re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        case ["crosscheck", *rest] | ["python", "-m", "crosscheck", *rest]:
            return _crosscheck_error(rest)
        case ["pip", "install", *targets]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            named = [
                f"{what}{extra}" for what in (".", "jax-lstm") for extra in ("", *(f"[{name}]" for name in extras))
            ]
            return _unknown(targets, named)
        case ["python", "-m", module, *rest]:
            return _script_error(module, rest)
        case ["python", script, *rest]:
            return _script_error(str(ROOT / script), rest)
    return "tests/support/documents.py knows only the commands make, crosscheck, pip install and python"


def _unknown(given: Sequence[str], known: Sequence[str]) -> str:
    return ", ".join(f"{name!r} is not one of {', '.join(known)}" for name in given if name not in known)


def _crosscheck_error(arguments: Sequence[str]) -> str:
    """Parse the line as the command does, and run nothing."""
    need("torch")
    from crosscheck.commands import cli

    group = typer.main.get_command(cli.app)
    try:
        context = group.make_context("crosscheck", list(arguments) or ["--list"])
        rest = [*context._protected_args, *context.args]  # click stores the subcommand's name separately
        if rest:
            name, command, rest = group.resolve_command(context, rest)
            command.make_context(name, rest, parent=context)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@lru_cache
def _help(program: str) -> tuple[int, str]:
    """Return the exit code of --help and what it prints, in lines wide enough for rich to show whole options."""
    with tempfile.TemporaryDirectory() as folder:
        result, error = fresh_process.run(
            fresh_process.printed_by, program, ["--help"], folder=Path(folder), environment={"COLUMNS": "200"}
        )
    return result or (1, error)


def _script_error(program: str, arguments: Sequence[str]) -> str:
    code, help_text = _help(program)
    if "No module named 'torch'" in help_text:
        need("torch")
    if code:
        return f"--help ends with {code}: {help_text[-300:]}"
    given = [word.partition("=")[0] for word in arguments if word.startswith("-") and not word[1:2].isdigit()]
    return _unknown(given, re.findall(r"(?<![\w-])--?[\w-]+", help_text))
