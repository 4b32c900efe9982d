"""The documents taken apart: fenced blocks, links and anchors, what a block prints, whether a command line exists.

What a python block prints is compared with the ``text`` block right after it by one rule (`same_text`):

1. Words and whole numbers are equal.
2. A decimal, such as 0.582, may differ by one in its last digit.
3. A figure of one or two digits with an exponent, such as 1.2e-15, is a size that rounding decides: it is right up to
   a factor of ten. One with more digits is a decimal.
4. Which quantity is nearest to its limit, and which explanation comes second, rounding decides too: of such lines only
   the figures count.
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
    "examples/*.md",
    "examples/*/README.md",
    "benchmarks/README.md",
)
DOCUMENTS = [str(path.relative_to(ROOT)) for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))]
LANGUAGES = ("python", "python slow", "sh", "text")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block. ``line`` counts the lines before its first; ``output`` is the text block right after it."""

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
    return MarkdownIt("commonmark").enable("table").parse((ROOT / document).read_text())


def blocks(document: str, *languages: str) -> list[Block]:
    """The fenced blocks of a document, of some languages alone where these are given."""
    found = []
    for token, following in pairwise([*tokens(document), None]):
        if token is not None and token.type == "fence" and (not languages or token.info in languages):
            printed = following is not None and following.type == "fence" and following.info == "text"
            assert token.map is not None
            output = following.content if printed and following is not None else None
            found.append(Block(document, token.map[0] + 1, token.info, token.content, output))
    return found


def run(some: Sequence[Block], folder: Path, flags: str = "") -> list[str]:
    """What each block prints, run in order in one namespace, in a process of its own that starts in ``folder``.

    If torch is not installed, it ends before the first block that needs it. ``flags`` are XLA's. Raises AssertionError
    with the traceback, in the document's own lines.
    """
    code = [(block.document, block.line, block.code) for block in some]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    shown, error = fresh_process.run(_printed, code, folder=folder, environment=environment)
    assert not error, error
    return shown


def _printed(some: Sequence[tuple[str, int, str]]) -> list[str]:
    space, printed = {"__name__": "__main__"}, []
    for name, line, code in some:
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
    """Equal by the rule of this module."""
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
    """The targets of all links and images."""
    for token in tokens(document):
        for inner in token.children or ():
            target = inner.attrs.get("href", inner.attrs.get("src"))
            if target is not None:
                yield str(target)


def anchors(document: str) -> set[str]:
    """The anchors of the headings as GitHub makes them: lower case, hyphens for blanks, no punctuation."""
    found: set[str] = set()
    for token, inline in pairwise(tokens(document)):
        if token.type == "heading_open":
            text = "".join(part.content for part in inline.children or () if part.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            again = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found)
            found.add(f"{slug}-{again}" if again else slug)
    return found


def command_lines(block: Block) -> list[str]:
    """The lines of a shell block without comments; one that ends in a backslash goes on in the next."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def why_not_a_command(line: str) -> str:
    """Why a command line could not run; "" where its programme, target and options exist. Runs --help at most."""
    match shlex.split(line, comments=True):
        case ["make", *targets]:
            return _unknown(targets, re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        case ["crosscheck", *rest] | ["python", "-m", "crosscheck", *rest]:
            return _why_not_crosscheck(rest)
        case ["pip", "install", *targets]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            return _unknown(targets, [".", *(f".[{extra}]" for extra in extras)])
        case ["python", "-m", module, *rest]:
            return _why_not_script(module, rest)
        case ["python", script, *rest]:
            return _why_not_script(str(ROOT / script), rest)
    return "no command that tests/support/documents.py knows: make, crosscheck, pip install, python"


def _unknown(given: Sequence[str], known: Sequence[str]) -> str:
    return ", ".join(f"{name!r} is none of {', '.join(known)}" for name in given if name not in known)


def _why_not_crosscheck(arguments: Sequence[str]) -> str:
    """Parses the line as the command does, and goes no further."""
    need("torch")
    from crosscheck.commands import cli

    group = typer.main.get_command(cli.app)
    try:
        context = group.make_context("crosscheck", list(arguments) or ["--list"])
        rest = [*context._protected_args, *context.args]  # the subcommand's name is kept apart
        if rest:
            name, command, rest = group.resolve_command(context, rest)
            command.make_context(name, rest, parent=context)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@lru_cache
def _help(program: str) -> tuple[int, str]:
    """The exit code of --help and what it prints. Wide enough that rich does not cut the options."""
    with tempfile.TemporaryDirectory() as folder:
        found, error = fresh_process.run(
            fresh_process.printed_by, program, ["--help"], folder=Path(folder), environment={"COLUMNS": "200"}
        )
    return found or (1, error)


def _why_not_script(program: str, arguments: Sequence[str]) -> str:
    code, described = _help(program)
    if "No module named 'torch'" in described:
        need("torch")
    if code:
        return f"--help ends with {code}: {described[-300:]}"
    given = [word.partition("=")[0] for word in arguments if word.startswith("-") and not word[1:2].isdigit()]
    return _unknown(given, re.findall(r"(?<![\w-])--?[\w-]+", described))
