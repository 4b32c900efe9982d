"""The command: rows, words, JSON, exit codes, and the output on each stream."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
import os
import subprocess
import sys
import threading

import pytest
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.core.finding import CouldNotRun, Outcome
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.suite import runs as suite
from tests.support import wrong_ports
from tests.support.libraries import answering

SMALL = RecurrentCase("small", "for tests", 3, 9, 4, 6)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setitem(CASES, "small", SMALL)
    return lambda *arguments: CliRunner().invoke(cli.app, list(arguments))


def test_agreement(run, tmp_path):
    file = tmp_path / "out.json"
    result = run("--case", "small", "--json", str(file))
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith(": agree")
    row = next(line for line in result.stdout.splitlines() if line.startswith("small"))
    assert "agree" in row
    assert row.rstrip().endswith(" s")
    content = json.loads(file.read_text())
    assert (content["ok"], content["verdict"]) == (True, "agree")
    assert [c["implementation"] for c in content["cases"]] == answering(SMALL)
    case = content["cases"][0]
    assert {"name", "implementation", "ok", "verdict", "findings"} <= case.keys()
    assert {f["quantity"] for f in case["findings"]} == {
        "y", "h_n", "c_n", "grad x", "grad h0", "grad c0",
        "grad weight_ih_l0", "grad weight_hh_l0", "grad bias_ih_l0", "grad bias_hh_l0",
    }  # fmt: skip
    for finding in case["findings"]:
        assert {"quantity", "check", "verdict", "ok", "error", "limit"} <= finding.keys()
        assert 0 <= finding["error"] <= finding["limit"] < 1e-4
    assert {"python", "jax", "torch", "jax device", "jax matmul precision", "torch threads"} <= content[
        "environment"
    ].keys()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", wrong_ports.WRONG)
def test_a_wrong_port_exits_1_and_is_explained(name, run, monkeypatch, tmp_path):
    monkeypatch.setitem(suite.STANDARD, "jax_lstm", wrong_ports.STANDARD[name])
    quantity = wrong_ports.WRONG[name][1]
    file = tmp_path / "out.json"
    result = run("--case", "small", "--json", str(file))
    assert result.exit_code == 1
    assert f"first wrong quantity: {quantity} [float64]; error " in result.stdout
    for words in (
        ", limit ",
        "largest at index [",
        "got ",
        "expected ",
        "diagnosis: behaves exactly like the reference with " + wrong_ports.NAMES[name],
        "diagnosis: first wrong at step 0" if quantity == "y" else "diagnosis: backward in time, the gradient of x is",
        "reproduce: crosscheck --case small",
    ):
        assert words in result.stdout
    if quantity == "y":
        assert "first time step that differs: 0" in result.stdout
    assert result.stdout.rstrip().endswith("disagree")
    content = json.loads(file.read_text())
    assert (content["ok"], content["verdict"]) == (False, "disagree")
    assert "behaves exactly like" in content["cases"][0]["diagnosis"][0]


def test_a_control_that_does_not_alarm_is_a_failure(run, monkeypatch):
    monkeypatch.setitem(CASES, "small", RecurrentCase("small", "", 3, 9, 4, 6, expect=Outcome.VACUOUS))
    result = run("--case", "small")
    assert result.exit_code == 1
    assert result.stdout.rstrip().endswith("a control did not alarm")


def test_only_controls_do_not_close_with_agree(run, monkeypatch, tmp_path):
    case = RecurrentCase("small", "", 3, 2500, 4, 6, loss="last", expect=Outcome.VACUOUS)
    monkeypatch.setitem(CASES, "small", case)
    file = tmp_path / "out.json"
    result = run("--case", "small", "--json", str(file))
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith(": vacuous, as expected")
    assert (json.loads(file.read_text())["ok"], json.loads(file.read_text())["verdict"]) == (True, "vacuous")


def test_json_goes_through_a_link_and_into_a_pipe(run, tmp_path):
    real, link, pipe = tmp_path / "real.json", tmp_path / "link.json", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    assert run("--case", "small", "--json", str(link)).exit_code == 0
    assert link.is_symlink()
    assert json.loads(real.read_text())["ok"]
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    assert run("--case", "small", "--json", str(pipe)).exit_code == 0
    reader.join(timeout=10)
    assert pipe.is_fifo()
    assert json.loads(received[0])["ok"]


def test_a_crash_is_no_verdict(run, monkeypatch):
    def crash(case):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nand more lines")

    monkeypatch.setitem(suite.STANDARD, "jax_lstm", suite.Implementation("jax_lstm", crash))
    result = run("--case", "small")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "crosscheck: RuntimeError: RESOURCE_EXHAUSTED: out of memory"


def test_a_narrow_terminal_cuts_nothing(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    row = next(line for line in run("--case", "small").stdout.splitlines() if line.startswith("small"))
    assert "…" not in row
    assert row.rstrip().endswith(" s")


def test_nan_is_valid_json(run, monkeypatch, tmp_path):
    monkeypatch.setitem(suite.STANDARD, "jax_lstm", suite.Implementation("jax_lstm", wrong_ports.one_nan))
    file = tmp_path / "out.json"
    assert run("--case", "small", "--json", str(file)).exit_code == 1
    refuse = lambda constant: pytest.fail(constant)
    assert '"nan"' in file.read_text()
    json.loads(file.read_text(), parse_constant=refuse)


def test_list(run):
    result = run("--list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(CASES)


def test_what_cannot_run_exits_2_with_one_line(run, monkeypatch, tmp_path):
    def refuse(case):
        raise CouldNotRun("the carry's dtype is fixed")

    for arguments, words in (
        (("--case", "nope"), "unknown case 'nope'; known: notebook"),
        (("--case", "small", "--json", str(tmp_path)), "not a file in a folder that can be written to"),
        (("--case", "small", "--json", str(tmp_path / "no" / "out.json")), "not a file in a folder"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("crosscheck: ")
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
    monkeypatch.setitem(suite.STANDARD, "jax_lstm", suite.Implementation("jax_lstm", refuse))
    result = run("--case", "small")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "crosscheck: the carry's dtype is fixed"


def test_as_a_module_with_only_the_table_on_stdout():
    done = subprocess.run(
        [sys.executable, "-m", "crosscheck", "--case", "one-step"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("case ")
    assert done.stdout.rstrip().endswith("agree")
    assert "error" not in done.stderr.lower()
    assert "warning" not in done.stderr.lower()


OPTIONS = [("--json", "x.json"), ("--report", "x"), ("--case", "one-step"), ("--list",), ("--shrink",), ("--jobs", "2")]


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_before_a_subcommand_is_not_lost(run, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*option, "notebook")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"crosscheck: {option[0]} stands before 'notebook'; write it after, if that has it\n"
    assert list(tmp_path.iterdir()) == []


def test_the_page_does_not_overwrite_the_json(run, tmp_path):
    result = run("--case", "small", "--json", str(tmp_path / "index.html"), "--report", str(tmp_path))
    assert result.exit_code == 2
    assert "that is the page of --report" in result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_an_output_that_is_full_is_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "crosscheck", "--list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "crosscheck: No space left on device\n")


def test_a_reader_that_has_had_enough_is_no_disagreement():
    done = subprocess.run(
        f"{sys.executable} -m crosscheck --list | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("notebook")
    assert done.stderr == ""


def test_the_same_command_twice_gives_the_same_json_but_for_times(run, tmp_path):
    contents = []
    for n in (1, 2):
        run("--case", "small", "--json", str(tmp_path / f"{n}.json"))
        content = json.loads((tmp_path / f"{n}.json").read_text())
        for case in content["cases"]:
            del case["seconds"]
        contents.append(content)
    assert contents[0] == contents[1]
