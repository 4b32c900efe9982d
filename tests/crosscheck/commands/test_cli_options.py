"""The options: choices in --help, the same form of lists everywhere, versions and completion without a framework."""

from __future__ import annotations

import re
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from typer.testing import CliRunner

from benchmarks import cli as benchmarks
from crosscheck.commands import cli
from crosscheck.commands.cli import choices
from crosscheck.commands.cli.group import HelpFormatter
from crosscheck.core.finding import CouldNotRun
from crosscheck.core.names import known_names, split_names
from tests.crosscheck.commands.test_missing_packages import COMMANDS, run
from tests.support.requirements import need

OPTIONS = {"benchmarks": benchmarks.bench, **cli.SUBCOMMANDS}
FRAMEWORKS = {"jax", "jaxlib", "flax", "torch", "numpy", "optax", "matplotlib", "jinja2"}
LISTS = {  # (command, option) -> the names that it takes
    ("", "--case"): choices.CASES,
    ("", "--against"): choices.IMPLEMENTATIONS,
    ("matrix", "--only"): choices.IMPLEMENTATIONS,
    ("matrix", "--case"): choices.MATRIX_CASES,
    ("benchmarks", "--only"): benchmarks.IMPLEMENTATIONS,
    ("benchmarks", "--work"): benchmarks.KINDS,
}


def call(*arguments: str):
    """Run one of the two programs. "benchmarks" is the one without subcommands."""
    app, words = (benchmarks.app, arguments[1:]) if arguments[0] == "benchmarks" else (cli.app, arguments)
    return CliRunner().invoke(app, [word for word in words if word])


def help_of(name: str) -> str:
    return " ".join(call(name, "--help").stdout.split())


def test_the_choices_are_those_of_the_tables():
    need("torch")
    from benchmarks.implementations import KNOWN
    from benchmarks.shapes import SWEEPS
    from crosscheck.commands.train import DTYPES
    from crosscheck.lstm.cases import CASES
    from crosscheck.studies.training.optimizers import OPTIMIZERS
    from crosscheck.suite.matrix import ALL, matrix_cases

    assert tuple(CASES) == choices.CASES
    assert tuple(matrix_cases()) == choices.MATRIX_CASES
    assert choices.IMPLEMENTATIONS == ALL
    assert tuple(KNOWN) == benchmarks.IMPLEMENTATIONS
    for choice, table in (
        (benchmarks.Sweep, SWEEPS),
        (choices.Optimizer, OPTIMIZERS),
        (choices.Dtype, DTYPES),
    ):
        assert get_args(choice) == tuple(table)


@pytest.mark.parametrize("name", OPTIONS)
def test_help_shows_every_choice_and_a_wrong_one_lists_them(name):
    for parameter, hint in get_type_hints(OPTIONS[name]).items():
        found = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal]
        if found:
            option, known = f"--{parameter}", get_args(found[0])
            assert re.search(rf"{option} [<\[]{re.escape('|'.join(known))}[>\]]", help_of(name))
            done = call(name, option, "nonsense")
            assert done.exit_code == 2
            assert done.stderr.endswith(f"'nonsense' is not one of {', '.join(map(repr, known))}.\n")
            assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_h_is_help(name):
    assert call(name, "-h").stdout == call(name, "--help").stdout != ""


@pytest.mark.parametrize(("name", "option"), LISTS)
def test_a_list_shows_its_names_and_takes_only_those(name, option):
    need("torch")
    known = LISTS[name, option]
    assert ", ".join(known) in help_of(name)
    for given, words in (
        (f"{known[-1]},", "a name is empty; write NAME[,NAME...]"),
        (f"{known[-1]}x", f"(did you mean {known[-1]!r}?)"),
    ):
        done = call(name, option, given)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{name if name == 'benchmarks' else 'crosscheck'}: {option}: ")
        assert words in done.stderr
    assert ", ".join(known) in done.stderr


def test_a_list_is_split_at_commas_in_order_each_name_once():
    assert split_names(["b, a", "c", "a"]) == ["b", "a", "c"]
    assert known_names(["b,a"], "letter", ["a", "b"]) == ["b", "a"]
    with pytest.raises(ValueError, match=r"unknown letter 'z'; known: a, b"):
        known_names(["a", "z"], "letter", ["a", "b"])
    with pytest.raises(ValueError, match="a name is empty"):
        split_names(["a", ""])


def test_lists_reach_the_suite(monkeypatch):
    need("torch")
    seen = []

    def see(cases, jobs, implementations, **_):
        seen.append(([case.name for case in cases], implementations))
        raise CouldNotRun("that was all")

    monkeypatch.setattr("crosscheck.commands.common.run_suite", see)
    call("--case", "text,stacked", "--case", "text", "--against", "flax.linen,haiku", "--against", "keras")
    call("matrix", "--case", "text,stacked", "--case", "text", "--only", "flax.linen,haiku", "--only", "keras")
    assert seen == [(["text", "stacked"], ("jax_lstm", "flax.linen", "haiku", "keras"))] * 2


def test_versions_need_no_framework():
    done = run(FRAMEWORKS, "--version")
    assert done.stdout.startswith("jax-lstm ")
    assert " (jax " in done.stdout
    assert ", flax " in done.stdout
    assert ", torch " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("crosscheck gradient", ["gradient-flow", "gradients"]),
        ("crosscheck train --optimizer ad", ["adam", "adamw"]),
        ("crosscheck --case text,long-1", ["text,long-1000", "text,long-10000"]),
        ("crosscheck matrix --only hai", ["haiku"]),
    ],
)
def test_the_shell_completes_without_a_framework(line, words, monkeypatch):
    monkeypatch.setenv("_CROSSCHECK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert run(FRAMEWORKS).stdout.split() == words


def test_an_option_without_a_description_is_shown():
    formatter = HelpFormatter()
    formatter.write_dl([("--plain", ""), ("--told", "words")])
    assert formatter.getvalue() == "--plain\n--told   words\n"
