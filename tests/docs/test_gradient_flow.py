"""docs/gradient-flow.md: its figures agree with the command's, and its plot exists."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import re

import pytest
from PIL import Image
from typer.testing import CliRunner

from crosscheck.commands import cli
from crosscheck.core.verdict import Verdict
from crosscheck.report.table import Table
from crosscheck.studies.gradient_flow.implementations import run_in_jax
from crosscheck.studies.gradient_flow.network import study_networks
from crosscheck.studies.gradient_flow.sentences import closing_line, study_sentences
from crosscheck.studies.gradient_flow.study import Measurement, Study, mean_radius, run_study
from crosscheck.studies.gradient_flow.tables import lstm_table, rnn_table, study_tables
from tests import ROOT

TEXT = (ROOT / "docs" / "gradient-flow.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
SHOWN = [line for kind, block in BLOCKS if kind == "text" for line in block.splitlines()]
LENGTH, HIDDEN, TRAIN_STEPS, SEED = (
    int(re.search(rf"`crosscheck gradient-flow[^`]*--{name} (\d+)", TEXT)[1])
    for name in ("length", "hidden", "train-steps", "seed")
)


def same(got: str, expected: str) -> bool:
    """Check that the words are equal, and the figures within two units of their last digit, since processors differ."""
    figure = r"-?\d[\d.]*(?:e[+-]\d+)?"
    if re.sub(figure, "#", got).split() != re.sub(figure, "#", expected).split():
        return False
    return all(map(near, re.findall(figure, got), re.findall(figure, expected)))


def near(a: str, b: str) -> bool:
    (x, power), (y, other) = (text.partition("e")[::2] for text in (a, b))
    difference = float(x) * 10.0 ** (int(power or 0) - int(other or 0)) - float(y)
    return abs(difference) <= 2.01 * 10.0 ** -len(y.partition(".")[2])


def is_shown(line: str) -> bool:
    return any(same(line, other) for other in SHOWN)


def rows(table: Table) -> list[str]:
    return [" ".join(row) for row in table.rows]


def test_the_comparison_of_figures_depends_on_their_digits():
    assert same("a 1.41e-223 b", "a 1.42e-223 b")
    assert not same("a 1.41e-223 b", "a 1.41e-222 b")
    assert not same("a 0.60 b", "a 0.63 b")
    assert not same("a 0.60 b", "c 0.60 b")


def test_the_document_names_the_command_with_its_defaults():
    help_text = CliRunner().invoke(cli.app, ["gradient-flow", "--help"], env={"COLUMNS": "140"}).stdout
    for name, value in (("length", LENGTH), ("hidden", HIDDEN), ("train-steps", TRAIN_STEPS), ("seed", SEED)):
        assert re.search(rf"--{name} .*\[default: {value}\]", re.sub(r"\s+", " ", help_text))
    for option in re.findall(r"`[^`]*(--[\w-]+)[^`]*`", TEXT):
        assert option in help_text


def measured(name: str) -> Measurement:
    """Measure one network of the study in JAX, whose figures the tables show."""
    (network,) = (n for n in study_networks(LENGTH, HIDDEN, SEED) if n.name == name)
    return Measurement(network, run_in_jax(network), Verdict((), ()), mean_radius(network))


@pytest.mark.isa
@pytest.mark.parametrize("name", ["RNN tanh", pytest.param("LSTM, forget bias chrono", marks=pytest.mark.slow)])
def test_its_figures_agree_with_a_measurement(name):
    """Compare one row of each of the two main tables with what the command would print."""
    one = measured(name)
    if one.mean_radius is not None:
        assert abs(one.mean_radius / one.rate.factor - 1) < 0.01  # as required
        assert one.radius > 1.05 * one.rate.factor
    study = Study((one,))
    (row,) = rows(rnn_table(study) if one.network.kind == "rnn" else lstm_table(study))
    assert is_shown(row), row


def test_the_plot_exists():
    (name,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    with Image.open(ROOT / "docs" / name) as image:
        assert image.size[0] > 1_000
    for link in re.findall(r"\]\(([\w./-]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists()


@pytest.mark.slow
def test_all_its_figures_agree_with_the_command():
    study = run_study(LENGTH, HIDDEN, SEED, TRAIN_STEPS, 2)
    assert study.ok
    main = study_tables(study)[:2]
    lines = [line for table in main for line in rows(table)] + [
        s for s in study_sentences(study) if "baseline" not in s
    ]
    missing = [line for line in lines if not is_shown(line)]
    assert not missing, "\n".join(missing)
    assert closing_line(study) in SHOWN
