"""README and docs run: their blocks print what they say, their tables are the commands', their options exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crosscheck import cli
from crosscheck.cases import CASES
from crosscheck.faults.bench import bench_cases
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.mutants import MUTANTS
from crosscheck.faults.rules import RULES
from crosscheck.suite import run_suite

ROOT = Path(__file__).parent.parent
README, DOCS = ((ROOT / name).read_text() for name in ("README.md", "docs/crosscheck.md"))
BLOCKS = [block for text in (README, DOCS) for block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)]
FIGURE = re.compile(r"\d\.\de[+-]\d\d")
TABLE = next(text for kind, text in BLOCKS if kind == "text" and text.startswith("case "))
ROWS = {line.split()[0]: line for line in TABLE.splitlines() if line.split() and line.split()[0] in CASES}


def test_it_is_short():
    assert len(README.splitlines()) < 120


@pytest.mark.parametrize("n", [n for n, (kind, _) in enumerate(BLOCKS) if kind == "python"])
def test_a_block_prints_what_follows_it(n):
    kind, expected = BLOCKS[n + 1]
    assert kind == "text"
    done = subprocess.run([sys.executable, "-c", BLOCKS[n][1]], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert same_text(done.stdout, expected)


def same_text(got, expected):
    """Equal words; which quantity is nearest to its limit, and how near, depends on the processor's rounding."""
    if masked(got) != masked(expected):
        return False
    pairs = zip(FIGURE.findall(got), FIGURE.findall(expected), strict=True)
    return all(1 / 10 < float(a) / float(b) < 10 for a, b in pairs)


def masked(text):
    text = re.sub(r"(nearest to its limit:) .*? \[", r"\1 # [", text.replace(" in the max-norm", ""))
    text = re.sub(r"(errs by) .* \(.*\)", r"\1 #", text)
    return FIGURE.sub("#", text)


def test_the_table_has_every_case_with_its_verdict():
    assert list(ROWS) == list(CASES)
    for name, line in ROWS.items():
        assert line.split()[1] == CASES[name].expect


@pytest.mark.parametrize("name", ["notebook", "stacked", "rnn-relu"])
def test_the_tables_limits_are_the_measured_ones(name):
    (results,) = run_suite([CASES[name]])
    _, limit_a, _, limit_b = map(float, FIGURE.findall(ROWS[name]))
    for lane, limit in (("A", limit_a), ("B", limit_b)):
        limits = [f.limit for f in results[0].verdict.findings if f.lane == lane]
        assert min(limits) / 2 < limit < max(limits) * 2


def test_its_options_are_the_commands():
    described = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "120"}).stdout
    (row,) = (line for line in README.splitlines() if line.startswith("| `crosscheck` |"))
    assert set(re.findall(r"--\w+", row)) == set(re.findall(r"--\w+", described)) - {"--help"}
    assert f", {len(CASES)} cases (" in row


def test_its_commands_exist_with_their_options():
    known = CliRunner().invoke(cli.app, ["--help"]).stdout
    shown = re.findall(r"`crosscheck ([a-z]+)([^`]*)`", README + DOCS)
    assert {name for name, _ in shown} == set(re.findall(r"^  ([a-z]+) ", known.split("Commands:")[1], re.MULTILINE))
    for name, options in shown:
        described = CliRunner().invoke(cli.app, [name, "--help"]).stdout
        assert set(re.findall(r"--\w+", options)) <= set(re.findall(r"--\w+", described))


def test_the_kill_score_is_of_todays_catalogue():
    """The share of crosscheck itself: all that apply to each case, of today's catalogue."""
    assert f"plants {len(FAULTS)} known mistakes" in README
    assert f"killed {len(FAULTS)} of {len(FAULTS)} faults; 0 false alarms in" in DOCS
    assert f"{len(MUTANTS)} of {len(MUTANTS)} broken comparers noticed: ok" in DOCS
    table = next(text for kind, text in BLOCKS if kind == "text" and text.startswith("rejected"))
    head, *lines = table.splitlines()
    assert head.split()[-len(RULES) :] == list(RULES)
    for n, case in enumerate(bench_cases(False)):
        assert lines[3 * n].split()[0] == case.name
        for kind, line in zip(("outputs", "gradients"), lines[3 * n :], strict=False):
            count = sum(fault.kind == kind and fault.applies(case) for fault in FAULTS.values())
            assert re.search(rf"faults of {kind} +{count} / {count} ", line)


def test_its_commands_are_the_makefiles():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w[\w-]*)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for link in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / link).exists()
