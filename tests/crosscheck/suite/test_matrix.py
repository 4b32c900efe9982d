"""`crosscheck matrix` and `crosscheck --against`: their output, files and exit codes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.core.finding import FLOAT32, FLOAT64, Check, Kind
from crosscheck.core.problem import is_gradient
from crosscheck.libraries import BACKENDS, OTHER_LIBRARIES, STANDARD
from crosscheck.libraries import implementation as sides
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.suite.matrix import ALL, matrix_cases, matrix_entry
from crosscheck.suite.runs import run_implementations
from jax_lstm._src import cpu_library
from tests import ROOT
from tests.support import wrong_ports
from tests.support.native import kernels_from

CASE = RecurrentCase("small", "", 3, 6, 4, 5)
BOTH = RecurrentCase("both", "", 3, 6, 4, 5, bidirectional=True)


def absent(case):
    raise sides.NotInstalled("there is no module 'absent'; pip install it")


@pytest.fixture
def run(monkeypatch):
    """Return the command on two cases and three libraries: one right, one wrong and one not installed."""
    monkeypatch.setattr("crosscheck.commands.matrix.matrix_cases", lambda: {"small": CASE, "both": BOTH})
    monkeypatch.setitem(CASES, "small", CASE)
    monkeypatch.setitem(CASES, "both", BOTH)
    wrong = wrong_ports.STANDARD["gate order"]
    monkeypatch.setitem(OTHER_LIBRARIES, "wrong", sides.Implementation("wrong", wrong.runner))
    monkeypatch.setitem(OTHER_LIBRARIES, "absent", sides.Implementation("absent", absent, "no-such-package"))
    return lambda *arguments: CliRunner().invoke(cli.app, [*arguments, "--jobs", "1"])


def test_the_matrix(run, tmp_path):
    need("equinox")
    file = tmp_path / "out.json"
    result = run("matrix", "--only", "torch.nn.LSTM,equinox,wrong,absent", "--json", str(file))
    assert result.exit_code == 0, result.output
    tables = result.stdout.split("float32: error / limit")
    for table, own in zip(tables, ("=", "=/="), strict=True):
        small, both = (
            next(line.split() for line in table.splitlines() if line.startswith(n)) for n in ("small", "both")
        )
        assert small[2] == own
        ours, equinox = ([float(figure) for figure in small[n].split("/")] for n in (1, 3))
        assert all(0 < figure < 1 for figure in (*ours, *equinox))
        assert small[4].count("!") == 2
        assert (both[3], " ".join(small[5:])) == ("-", "not installed")
    for words in (
        "equinox: not supported: both: it has no bidirectional network",
        "absent: not installed: small, both: there is no module 'absent'; pip install it",
        "wrong is not as expected in 2 of 2 cases: small, both",
        "no-such-package not installed",
        "2 cases, 5 implementations, 7 verdicts; jax_lstm: agree",
    ):
        assert words in result.stdout
    content = json.loads(file.read_text())
    assert (content["ok"], content["verdict"]) == (True, "agree")
    commands = {case["reproduce"] for case in content["cases"] if case["implementation"] == "wrong"}
    assert commands == {f"crosscheck matrix --only wrong --case {name}" for name in ("small", "both")}
    verdicts = {(case["name"], case["implementation"]): case["verdict"] for case in content["cases"]}
    assert verdicts["small", "wrong"] == "disagree"
    assert ("both", "equinox") not in verdicts
    assert {(e["name"], e["implementation"], e["what"]) for e in content["without"]} == {
        ("both", "equinox", "not supported"), ("small", "absent", "not installed"), ("both", "absent", "not installed"),
    }  # fmt: skip


def test_the_matrix_fails_where_ours_is_wrong(run, monkeypatch):
    monkeypatch.setitem(STANDARD, "jax_lstm", replace(wrong_ports.STANDARD["gate order"], name="jax_lstm"))
    result = run("matrix", "--only", "torch.nn.LSTM", "--case", "small")
    assert result.exit_code == 1
    assert result.stdout.rstrip().endswith("jax_lstm: disagree")


def test_figures_are_the_largest_error_in_units_of_its_limit():
    (result,) = run_implementations(CASE, ["jax_lstm"]).judged
    for check in (FLOAT64, FLOAT32):
        for gradients in (False, True):
            of_check = [f for f in result.verdict.findings if f.check == check]
            ratios = [f.error / f.limit for f in of_check if is_gradient(f.quantity) == gradients]
            assert matrix_entry(result, check, gradients).ratio == max(ratios)
    assert matrix_entry(result, Check(None, Kind.INPUTS), False) is None


def test_its_cases_are_the_standard_ones_and_lengths_without_an_empty_row():
    assert {name: case for name, case in matrix_cases().items() if name in CASES} == CASES
    (extra,) = matrix_cases().keys() - CASES.keys()
    assert (0 in CASES["lengths"].lengths, min(matrix_cases()[extra].lengths) > 0) == (True, True)
    assert tuple(STANDARD | BACKENDS | OTHER_LIBRARIES) == ALL


def test_against_judges_ours_and_the_named_sides(run, tmp_path):
    file = tmp_path / "out.json"
    result = run("--case", "small", "--case", "both", "--against", "torch_ref", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert [case["implementation"] for case in json.loads(file.read_text())["cases"]] == ["jax_lstm", "torch_ref"] * 2
    result = run("--case", "small", "--against", "wrong", "--json", str(file))
    assert result.exit_code == 1
    assert "reproduce: crosscheck --case small --against wrong" in result.stdout
    assert "small, wrong: disagree" in result.stdout


def test_against_names_what_a_library_has_not_and_stops_where_it_is_not_there(run):
    need("equinox")
    result = run("--case", "both", "--case", "small", "--against", "equinox")
    assert result.exit_code == 0
    assert "equinox: not supported: both: it has no bidirectional network" in result.stdout
    result = run("--case", "small", "--against", "absent")
    assert result.exit_code == 2
    assert result.stderr == "crosscheck: --against absent: there is no module 'absent'; pip install it\n"


def test_kernels_that_are_missing_stop_the_command_only_if_they_are_asked_for(run, tmp_path):
    file = tmp_path / "out.json"
    refused = f"native cannot run this call: {cpu_library.NOT_BUILT}\n"
    with kernels_from(tmp_path / "missing"):
        result = run("--case", "small", "--json", str(file))
        asked = run("--case", "small", "--against", "jax_lstm[native]")
    assert result.exit_code == 0, result.output
    assert f"jax_lstm[native]: not installed: small: {refused}" in result.stdout
    absent_ones = [(entry["implementation"], entry["what"]) for entry in json.loads(file.read_text())["without"]]
    assert absent_ones == [("jax_lstm[native]", "not installed")]
    assert asked.exit_code == 2
    assert asked.stderr == f"crosscheck: --against jax_lstm[native]: {refused}"


def test_a_wrong_backend_fails_the_suite_and_the_matrix(run, monkeypatch):
    wrong = replace(wrong_ports.STANDARD["gate order"], name="jax_lstm[scan]")
    monkeypatch.setitem(BACKENDS, "jax_lstm[scan]", wrong)
    result = run("--case", "small")
    assert result.exit_code == 1
    assert "small, jax_lstm[scan]: disagree" in result.stdout
    assert "reproduce: crosscheck --case small --against 'jax_lstm[scan]'" in result.stdout
    result = run("matrix", "--only", "jax_lstm[scan]", "--case", "small")
    assert result.exit_code == 1
    assert result.stdout.rstrip().endswith("; jax_lstm and its backends: disagree")


@pytest.mark.parametrize("arguments", [("--against", "nothing"), ("matrix", "--only", "nothing")])
def test_an_unknown_side_is_an_error_that_lists_them(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "unknown implementation 'nothing'; known: jax_lstm, torch_ref, torch.nn.LSTM" in result.stderr
    assert run("matrix", "--case", "nothing").stderr.startswith(
        "crosscheck: --case: unknown case 'nothing'; known: small, both"
    )


def test_the_documents_tables_have_every_case():
    text = (ROOT / "docs" / "crosscheck.md").read_text()
    tables = text.split("## Other libraries")[1].split("```text\n")[1].split("```")[0].split("float32: error / limit")
    assert len(tables) == 2
    for table in tables:
        rows = [line.split()[0] for line in table.splitlines() if line and line.split()[0] in matrix_cases()]
        assert rows == list(matrix_cases())
