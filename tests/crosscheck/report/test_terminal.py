"""Tables fold by column, and prose wraps at words. Redirected output does neither."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from crosscheck.report.table import Table
from crosscheck.report.terminal import ENDLESS, output, say, show
from tests import ROOT
from tests.support.requirements import need

COLUMNS = ("case", "verdict", "error", "quantity", "time")
ROWS = [
    ("notebook", "agree", "1.7e-15 / 4.7e-14", "grad x", "9.4 s"),
    ("text", "vacuous", "", "grad h0", "12.0 s"),
]


def printed(width: int, columns=COLUMNS, rows=ROWS, title="", keys=1) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    show(console, Table(title, columns, tuple(rows), numeric=("time",), keys=keys))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_table_that_fits_stays_whole():
    whole = [
        "case      verdict  error              quantity    time",
        "notebook  agree    1.7e-15 / 4.7e-14  grad x     9.4 s",
        "text      vacuous                     grad h0   12.0 s",
        "",
    ]
    assert printed(max(map(len, whole))) == whole == printed(ENDLESS)


def test_a_table_that_is_too_wide_folds_by_column_and_repeats_the_first():
    assert printed(53) == [
        "case      verdict  error              quantity",
        "notebook  agree    1.7e-15 / 4.7e-14  grad x",
        "text      vacuous                     grad h0",
        "",
        "case        time",
        "notebook   9.4 s",
        "text      12.0 s",
        "",
    ]


def test_on_a_phone_a_row_is_a_block():
    assert printed(30) == [
        "notebook",
        "  verdict  agree",
        "  error  1.7e-15 / 4.7e-14",
        "  quantity  grad x",
        "  time  9.4 s",
        "",
        "text",
        "  verdict  vacuous",
        "  quantity  grad h0",
        "  time  12.0 s",
        "",
    ]


def test_a_block_repeats_a_key_that_its_row_leaves_out():
    rows = [("A", "one", "1" * 20), ("", "two", "2" * 20)]
    shown = printed(24, ("group", "name", "figure"), rows, keys=2)
    assert [line for line in shown if line[:1] not in ("", " ")] == ["A  one", "A  two"]


def test_a_column_with_nothing_in_it_is_left_out_and_words_without_a_name_wrap():
    assert printed(len("a"), ("a", ""), [("1", ""), ("2", "")]) == ["a", "1", "2", ""]
    rows = [("keras", "-", "it takes no lengths and has no bidirectional layer")]
    shown = printed(40, ("implementation", "time", ""), rows)
    assert max(map(len, shown)) <= 40
    assert "bidirectional" in " ".join(shown)


def test_a_title_is_not_wrapped_to_its_table():
    shown = printed(80, ("a", "b"), [("1", "2")], title="a title that is wider than the table below it")
    assert shown[0] == "a title that is wider than the table below it"


def test_prose_wraps_at_words():
    console = Console(file=io.StringIO(), width=20)
    say(
        console,
        "  reproduce: crosscheck checkpoint /a/very/long/path/without-any-blank.npz\n\nlast-word of it [not markup]",
    )
    assert console.file.getvalue().splitlines() == [
        "  reproduce:",
        "    crosscheck",
        "    checkpoint",
        "    /a/very/long/path/without-any-blank.npz",
        "",
        "last-word of it [not",
        "markup]",
    ]


def test_what_is_redirected_is_endless(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert output().width == ENDLESS
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert output().width == 40


def on_a_terminal(columns: int, *arguments: str) -> list[str]:
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", *(arguments if arguments[0] == "benchmarks" else ("crosscheck", *arguments))],
        cwd=ROOT,
        env=environment,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 10_000):
            shown += more
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()


@pytest.mark.parametrize("columns", [80, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "arguments",
    [
        ["benchmarks", "--from", "benchmarks/results/cpu-2-cores.json"],
        ["notebook"],
        ["gradients", "--length", "20", "--hidden", "3"],
        ["train", "--steps", "2", "--hidden", "3"],
        ["faults", "--list"],
        ["--list"],
        ["train", "--help"],
        ["benchmarks", "-h"],
    ],
    ids=" ".join,
)
def test_every_line_fits_and_no_word_is_broken(columns, arguments):
    need("torch")
    shown = on_a_terminal(columns, *arguments)
    words = {word for line in shown for word in line.split()}
    redirected = subprocess.run(
        [sys.executable, "-m", *(arguments if arguments[0] == "benchmarks" else ("crosscheck", *arguments))],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = set(redirected.split())
    assert {word for word in words if not re.search(r"\d", word)} <= known
    too_wide = [line for line in shown if len(line.rstrip()) > columns]
    assert all(len(line.split()) <= 2 for line in too_wide), too_wide  # a word that is as long
