"""A failing case is reduced to the smallest one that still fails, and to three lines that show it."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import pytest
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import wrong_outputs
from crosscheck.libraries import Implementation
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.suite import runs as suite
from crosscheck.suite.shrinking import reproduction, shrink

CASE = RecurrentCase("wide", "", 4, 9, 5, 6, num_layers=2, bidirectional=True, lengths=(9, 3, 7, 5), time_major=True)


def side(name, called="port"):
    fault = FAULTS[name]

    def runner(case):
        wrong = fault if fault.applies(case) else NOTHING
        return faulty.runner(wrong, case)

    return Implementation(called, runner)


NOTHING = wrong_outputs("nothing", "nothing")


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("gate-order-igfo", {"batch": 1, "steps": 1, "input_size": 1, "hidden_size": 1, "num_layers": 1}),
        ("weight_hh-transposed", {"batch": 1, "steps": 1, "input_size": 1, "hidden_size": 2, "num_layers": 1}),
        ("y-directions-swapped", {"batch": 1, "steps": 1, "bidirectional": True, "num_layers": 1}),
        ("no-gradient-between-layers", {"steps": 1, "num_layers": 2, "hidden_size": 1}),
    ],
)
def test_nothing_that_is_not_needed_is_left(name, smallest):
    small = shrink(CASE, side(name))
    assert {key: getattr(small, key) for key in smallest} == smallest
    assert small.lengths is None
    assert not small.time_major


def test_what_needs_its_lengths_keeps_them():
    small = shrink(CASE, side("padding-filled"))
    assert small.lengths is not None
    assert (small.num_layers, small.bidirectional) == (1, False)
    assert small.steps <= 2


def test_the_lines_give_the_verdict_again(monkeypatch, capsys):
    monkeypatch.setitem(suite.STANDARD, "jax_lstm", side("gate-order-igfo", "jax_lstm"))
    monkeypatch.setitem(CASES, "wide", CASE)
    result = CliRunner().invoke(cli.app, ["--case", "wide", "--shrink"])
    assert result.exit_code == 1
    lines = result.stdout.rstrip().splitlines()[-5:]
    assert "smallest case that still fails (wide, jax_lstm):" in result.stdout
    assert lines[0].startswith("from crosscheck.")
    exec("\n".join(lines), {})
    said = capsys.readouterr().out
    assert said.startswith("disagree: ")
    assert "gates read in the order i g f o" in said


def test_every_option_is_in_the_lines():
    case = RecurrentCase("shrunk", "", None, 3, 2, 4, kind="rnn", nonlinearity="relu", loss="last")
    text = reproduction(case, "torch_ref")
    assert len(text.splitlines()) == 5
    for words in (
        "batch=None",
        "steps=3",
        "kind='rnn'",
        "nonlinearity='relu'",
        "loss='last'",
        'implementations_named(["torch_ref"])',
    ):
        assert words in text


def test_without_a_failure_nothing_is_shrunk(monkeypatch):
    monkeypatch.setitem(CASES, "tiny", RecurrentCase("tiny", "", 2, 4, 3, 5))
    result = CliRunner().invoke(cli.app, ["--case", "tiny", "--shrink"])
    assert result.exit_code == 0
    assert "smallest" not in result.stdout
