"""No legend hides curves or is cut off, neither in drawings on pages nor in figures that a command writes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")


import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import plot as bench_plot
from benchmarks.implementations import KNOWN
from benchmarks.result import Result, Row
from benchmarks.shapes import Shape
from crosscheck.core.finding import SEVERITY
from crosscheck.core.slices import TIME
from crosscheck.report import plots
from crosscheck.report.svg import drawing
from crosscheck.studies.gradient_flow import plot as flow_plot
from crosscheck.studies.training import page as training_page
from crosscheck.studies.training.lockstep import StepLosses
from examples.run import Run
from tests.support import report_samples as samples
from tests.support.legends import count_outside


@pytest.fixture
def drawn(monkeypatch):
    """Return a list that gets the count of legends of every figure that goes into a page."""
    figures = []

    def keep(figure, label):
        with drawing():
            figures.append(count_outside(figure))
        return f"<svg>{label}</svg>"

    for module in (plots, training_page, flow_plot):
        monkeypatch.setattr(module, "inline_svg", keep)
    return figures


def test_the_check_sees_a_legend_over_axes():
    figure = Figure()
    figure.subplots().plot([1, 2], label="a line")
    figure.axes[0].legend()
    with pytest.raises(AssertionError, match="a legend over the axes"):
        count_outside(figure)
    outside = Figure(figsize=(2, 2))
    outside.add_axes((0.1, 0.5, 0.8, 0.4)).plot([1, 2], label="a line " * 20)
    outside.legend(loc="lower left")
    with pytest.raises(AssertionError, match="cut off"):
        count_outside(outside)


def test_of_a_curve_with_every_outcome(drawn):
    outcomes = np.arange(40) % len(SEVERITY)
    plots.curve([samples.finding_of("y", "float64", TIME, samples.rows_of(np.full(40, 1e-15), 1e-14, outcomes))])
    plots.heat_map(samples.gates("float64"))
    assert drawn == [1, 0]


@pytest.mark.parametrize("dtypes", [("float64",), ("float64", "float32")])
def test_of_the_losses(drawn, dtypes):
    losses = lambda n: dict.fromkeys(("torch", *(f"jax {dtype}" for dtype in dtypes)), 5.0 - 0.1 * n)
    steps = [StepLosses(n + 1, losses(n), losses(n) if n % 3 else {}, None) for n in range(30)]
    training_page.loss_curves(steps)
    assert drawn == [1]


def test_of_the_benchmarks_bars_and_curves():
    names = [*KNOWN, "jax_lstm unroll=4"]
    assert len(names) > 10
    for sweep in ("", "T"):
        rows = tuple(
            Row(name, Shape(steps, 2, 3, 4), kind, "plain", "float32", seconds=(1.0 + n,) * 5)
            for kind in ("forward", "training")
            for steps in (10, 100)
            for n, name in enumerate(names)
        )
        assert count_outside(bench_plot.draw(Result(rows, sweep=sweep))) == 1


def test_of_an_examples_curves(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **options: found.append(count_outside(figure)))
    lines = {f"jax_lstm, held out, lag {n}": ([1, 2], [0.5, 0.25 * n]) for n in range(8)}
    Run(tmp_path / "run", {}).plot("curve.png", lines)
    assert found == [1]
