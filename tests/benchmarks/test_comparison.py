"""Which of two synthetic series of times is faster: decided and undecided cases, and the digits of a ratio."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import math

import numpy as np
import pytest

from benchmarks.comparison import Comparison, compare, quartiles, spread
from benchmarks.conclusions import sentences
from benchmarks.markdown import as_markdown
from benchmarks.plot import draw
from benchmarks.result import Result, Row
from benchmarks.shapes import Shape
from benchmarks.table import COLUMNS, tables, units
from benchmarks.timing import LEAST_RUNS
from crosscheck.report import png

STEADY = (0.98, 0.99, 1.0, 1.01, 1.02)
WILD = (0.5, 0.7, 1.0, 1.4, 1.9)


def times(of, scale=1.0):
    return [scale * value for value in of]


def verdict(found: Comparison) -> str:
    assert not (found.faster and found.slower)
    return "faster" if found.faster else "slower" if found.slower else "undecided"


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e4])
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (times(STEADY), times(STEADY, 1.2), "faster"),
        (times(STEADY, 1.2), times(STEADY), "slower"),
        (times(STEADY), times(STEADY), "undecided"),
        (times(STEADY), times(STEADY, 1.01), "undecided"),
        (times(WILD), times(WILD, 1.3), "undecided"),  # the spread is wider than the difference
        (times(WILD), times(WILD, 5.0), "faster"),
        (times(STEADY), times(WILD, 1.3), "undecided"),  # one wide spread is enough
        ([*times(STEADY[:-1]), 50.0], times(STEADY, 1.2), "faster"),  # one disturbed run hides no difference
        ([*times(STEADY[1:]), 1e-3], times(STEADY, 1.02), "undecided"),  # and makes no difference
    ],
)
def test_what_differs_by_more_than_it_spreads_is_decided(first, second, expected, unit):
    found = compare(times(first, unit), times(second, unit))
    assert verdict(found) == expected
    assert found.low <= found.ratio <= found.high
    assert found.decided == (expected != "undecided")
    back = compare(times(second, unit), times(first, unit))
    assert verdict(back) == {"faster": "slower", "slower": "faster"}.get(expected, expected)
    assert (back.ratio, back.low, back.high) == pytest.approx(
        (found.inverse.ratio, found.inverse.low, found.inverse.high)
    )


@pytest.mark.parametrize(("own", "others"), [(1, 1), (1, 9), (9, 1), (LEAST_RUNS - 1, LEAST_RUNS)])
def test_too_few_runs_decide_nothing(own, others):
    found = compare([1.0] * own, [22.0] * others)
    assert not found.decided
    assert not found.enough
    assert (found.low, found.high) == (0.0, math.inf)
    assert units(found.inverse) == "20"
    assert compare([1.0] * LEAST_RUNS, [22.0] * LEAST_RUNS).decided


@pytest.mark.parametrize("seconds", [(1.0, 1.01, 1.1, 5.0, 50.0), (0.1, 8.0, 9.9, 9.99, 10.0)])
def test_a_spread_ends_where_the_runs_end(seconds):
    """A notch goes below 0 if the quartiles are far from each other. A time does not."""
    low, high = spread(seconds)
    assert min(seconds) <= low <= quartiles(seconds)[0]
    assert quartiles(seconds)[2] <= high <= max(seconds)
    assert not compare(seconds, seconds).decided
    assert compare(seconds, times(seconds, 1e3)).faster


@pytest.mark.parametrize(("runs", "most"), [(5, 0.13), (7, 0.06), (10, 0.035), (20, 0.01)])
def test_equal_implementations_are_rarely_told_apart(runs, most):
    rng = np.random.default_rng(0)
    draws = [rng.lognormal(sigma=0.1, size=(2000, runs)).tolist() for _ in range(2)]
    wrong = np.mean([compare(a, b).decided for a, b in zip(*draws, strict=True)])
    assert wrong < most


@pytest.mark.parametrize(
    ("ratio", "low", "high", "text"),
    [
        (920.92, 610.0, 1400.0, "900"),
        (920.92, 900.0, 960.0, "920"),
        (1234.5, 1190.0, 1300.0, "1,230"),
        (22.296, 20.9, 23.0, "22.3"),
        (22.296, 19.0, 30.0, "22"),
        (1.568, 1.36, 1.71, "1.6"),
        (1.04, 1.02, 1.06, "1.04"),
        (1.04, 1.03999, 1.04001, "1.04"),  # two decimals are enough
        (1.004, 1.003, 1.005, "1.004"),  # except for this ratio
        (1.00003, 0.99999, 1.1, "1.00"),
        (1.04, 1.04, 1.04, "1.04"),
        (1.4, 1.05, 12.0, "1.4"),  # digits by the nearer end: rounding does not hide a measured difference
        (3.7, 0.01, 900.0, "4"),
        (0.846, 0.63, 1.06, "0.8"),
        (0.0042, 0.0041, 0.0043, "0.004"),
    ],
)
def test_a_ratio_has_the_digits_that_its_range_supports(ratio, low, high, text):
    assert units(Comparison(ratio, low, high)) == text


def test_a_decided_ratio_is_never_printed_as_1():
    rng = np.random.default_rng(1)
    for _ in range(500):
        low = 1 + rng.lognormal(-5, 3)
        ratio = low + rng.lognormal(-3, 2)
        found = Comparison(ratio, low, ratio + rng.lognormal(-3, 3))
        assert float(units(found).replace(",", "")) > 1


PLACES = Shape(5, 2, 3, 4), Shape(9, 2, 3, 4), Shape(17, 2, 3, 4)


def row(name, seconds, place=PLACES[0]):
    return Row(name, place, "training", "plain", "float32", seconds=tuple(seconds))


UNDECIDED = (
    row("jax_lstm", times(WILD, 1.3e-3)),
    row("torch.nn.LSTM", times(WILD, 1e-3)),
    row("haiku", times(WILD, 0.9e-3)),
)


def test_sentences_draw_no_conclusion_if_the_spread_is_wider_than_the_difference():
    first, second = sentences(Result(UNDECIDED))  # each is 1 ± 1.57 · 0.7 / √5: 1.3 times 0.51 / 1.49 to 1.49 / 0.51
    assert first == (
        "no difference between jax_lstm and torch.nn.LSTM was measured in 1 of 1: "
        "5,2,3,4 training (1.30 ms beside 1.00 ms, a ratio of 0.44 to 3.81)"
    )
    assert "jax_lstm and haiku was measured in 1 of 1" in second


def test_sentences_tell_decided_undecided_and_unknown_apart():
    rows = [row("jax_lstm", times(STEADY, 2e-3), place) for place in PLACES]
    torchs = (times(STEADY, 1e-3), times(STEADY, 2.01e-3), [1.0])
    rows += [row("torch.nn.LSTM", seconds, place) for place, seconds in zip(PLACES, torchs, strict=True)]
    assert sentences(Result(tuple(rows))) == [
        "jax_lstm is slower than torch.nn.LSTM in 1 of 3: 5,2,3,4 training (2.00 times its time)",
        "no difference between jax_lstm and torch.nn.LSTM was measured in 1 of 3: "
        "9,2,3,4 training (2.00 ms beside 2.01 ms, a ratio of 0.97 to 1.02)",
        "too few runs, under 5, to compare jax_lstm with torch.nn.LSTM in 1 of 3: "
        "17,2,3,4 training (2.00 ms beside 1.00 s)",
    ]
    many = Result((row("jax_lstm", times(STEADY, 1e-3)), row("torch.nn.LSTM", times(WILD, 0.92092))))
    assert sentences(many) == ["jax_lstm is faster than torch.nn.LSTM in 1 of 1: torch.nn.LSTM takes 900 times as long"]


def test_a_loss_is_marked_only_if_it_was_measured():
    """A loss is bold in the brief table and red in the plot. Both have the same figure with the same digits."""
    table, _, *told = as_markdown(Result(UNDECIDED)).split("\n\n")
    assert "**" not in table
    assert told[0].startswith("no difference between")
    assert [text.get_color() for text in draw(Result(UNDECIDED)).axes[0].texts] == [png.TEXT]
    clear = Result(
        (row("jax_lstm", times(STEADY, 1.3)), row("torch.nn.LSTM", STEADY), row("haiku", times(STEADY, 0.9)))
    )
    line = as_markdown(clear).splitlines()[2]
    assert [cell.strip() for cell in line.split("|")[4:6]] == ["**1.30**", "**0.90**"]
    (said,) = draw(clear).axes[0].texts
    assert (said.get_text(), said.get_color()) == ("1.30", png.RED)
    (shown,) = tables(clear)
    assert [cells[COLUMNS.index("to ours")] for cells in shown.rows] == ["1.00", "0.77", "0.69"]
