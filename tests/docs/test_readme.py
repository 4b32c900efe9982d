"""The tables of README and docs agree with the commands. test_pages.py checks blocks, commands and links."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
import re

import pytest
from typer.testing import CliRunner

from benchmarks.cli import app as benchmark_app
from benchmarks.result import OURS, base_rows, compared, from_content
from crosscheck.commands import cli
from crosscheck.faults.catalogue import FAULTS
from crosscheck.lstm.cases import CASES
from crosscheck.models.catalogue import MISTAKES, PAIRS
from crosscheck.suite.fault_cases import fixed_cases
from crosscheck.suite.model_rules import MODEL_RULES
from crosscheck.suite.model_score import DOUBT, RIGHT
from crosscheck.suite.mutants import MUTANTS
from crosscheck.suite.runs import run_suite
from crosscheck.suite.tolerance_rules import RULES
from tests import ROOT
from tests.support.documents import blocks

README, DOCS = ((ROOT / name).read_text() for name in ("README.md", "docs/crosscheck.md"))
TABLES = [block.code for block in blocks("docs/crosscheck.md", "text")]
FIGURE = re.compile(r"\d\.\de[+-]\d\d")
TABLE = next(text for text in TABLES if text.startswith("case "))
ROWS = {line.split()[0]: line for line in TABLE.splitlines() if line.split() and line.split()[0] in CASES}


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 110


def test_the_table_has_every_case_with_its_verdict():
    assert list(ROWS) == list(CASES)
    for name, line in ROWS.items():
        assert line.split()[1] == CASES[name].expect


@pytest.mark.isa
@pytest.mark.parametrize("name", ["notebook", "stacked", "rnn-relu"])
def test_the_limits_in_the_table_agree_with_a_measurement(name):
    (results,) = run_suite([CASES[name]])
    _, limit_a, _, limit_b = map(float, FIGURE.findall(ROWS[name]))
    for check, limit in (("float64", limit_a), ("float32", limit_b)):
        limits = [f.limit for f in results.judged[0].verdict.findings if str(f.check) == check]
        assert min(limits) / 2 < limit < max(limits) * 2


def test_the_table_of_commands_has_the_options_of_the_suite():
    help_text = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "120"}).stdout
    (row,) = (line for line in DOCS.splitlines() if line.startswith("| `crosscheck` |"))
    general_options = {"--help", "--version", "--install", "--show"}
    assert set(re.findall(r"--\w+", row)) == set(re.findall(r"--\w+", help_text)) - general_options
    assert f", {len(CASES)} cases (" in row


def test_the_subcommands_exist_with_their_options():
    known = CliRunner().invoke(cli.app, ["--help"]).stdout
    shown = re.findall(r"`crosscheck ([a-z][a-z-]*)([^`]*)`", DOCS)
    assert {name for name, _ in shown} == set(re.findall(r"^  ([a-z-]+) ", known.split("Commands:")[1], re.MULTILINE))
    for name, options in shown:
        help_text = CliRunner().invoke(cli.app, [name, "--help"]).stdout
        assert set(re.findall(r"--\w+", options)) <= set(re.findall(r"--\w+", help_text))


def test_the_mutation_score_has_the_current_catalogue():
    """crosscheck itself rejects all faults that apply to each case."""
    assert f"plants {len(FAULTS)} known mistakes" in DOCS
    assert f"killed {len(FAULTS)} of {len(FAULTS)} faults; 0 false alarms in" in DOCS
    assert f"{len(MUTANTS)} of {len(MUTANTS)} broken comparers noticed: ok" in DOCS
    table = next(text for text in TABLES if text.startswith("rejected"))
    head, *lines = table.splitlines()
    assert head.split()[-len(RULES) :] == list(RULES)
    for n, case in enumerate(fixed_cases(False)):
        assert lines[3 * n].split()[0] == case.name
        for kind, line in zip(("outputs", "gradients"), lines[3 * n :], strict=False):
            count = sum(fault.kind == kind and fault.applies(case) for fault in FAULTS.values())
            assert re.search(rf"faults of {kind} +{count} / {count} ", line)


def test_the_score_over_models_has_the_current_catalogue():
    section = DOCS.split("### The score over models")[1].split("\n## ")[0]
    pairs, mistakes, hidden = len(PAIRS), len(MISTAKES), sum(bool(mistake.answer) for mistake in MISTAKES.values())
    problems = pairs * -(-RIGHT // pairs)
    right = rf"0 false alarms in {problems:,} right problems of {pairs} pairs; \d\.\d\d% in doubt"
    wrong = f"killed {mistakes - hidden} of {mistakes} mistakes, {hidden} are not showable: ok"
    assert re.search(f"{right}, less than {DOUBT:.0%} allowed; {wrong}", section)
    table = next(text for text in TABLES if text.startswith("rejected") and "right problems" in text)
    rows = {name: counts for name, *counts in (re.split(" {2,}", row) for row in table.splitlines()[1:])}
    assert list(rows) == ["crosscheck", *MODEL_RULES]
    assert rows["crosscheck"][1] == f"{mistakes - hidden} / {mistakes}"
    for of_right, of_wrong in rows.values():
        assert of_right.endswith(f"/ {problems}")
        assert of_wrong.endswith(f"/ {mistakes}")


def printed(file, *options):
    done = CliRunner().invoke(benchmark_app, ["--from", str(ROOT / "benchmarks" / "results" / file), *options])
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_the_speed_table_agrees_with_the_command():
    speed = README.split("## Speed")[1].split("\n## ")[0]
    table = [line for line in speed.splitlines() if line.startswith("|")]
    assert table == [line for line in printed("cpu-2-cores.json", "--brief") if line.startswith("|")]


def test_nothing_is_faster_than_ours_in_the_forward_pass_as_the_readme_says():
    content = json.loads((ROOT / "benchmarks" / "results" / "cpu-2-cores.json").read_text())
    forward = [row for row in from_content(content).rows if row.kind == "forward"]
    assert len(base_rows(forward)) == 6
    assert not [row for row, comparison in compared(forward).items() if comparison.faster]
    assert "In the forward pass, none of these is faster than ours." in " ".join(README.split())


def test_the_results_are_quoted_as_the_command_prints_them():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    quoted = re.findall(r"\*\*\[([\w-]+\.json)\].*\n\n((?:>.*\n)+)", text)
    assert {file for file, _ in quoted} == {path.name for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    for file, quote in quoted:
        lines = [line.removeprefix("> ") for line in quote.splitlines() if line != ">"]
        statements = (f"{OURS} is ", f"no difference between {OURS} ", "too few runs, ")
        assert lines == [line for line in printed(file) if line.startswith(statements)]
