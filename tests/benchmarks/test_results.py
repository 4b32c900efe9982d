"""The benchmark's arithmetic: turns with a fake clock, medians and spreads, tables, sentences, the plot."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import random

import pytest

from benchmarks.conclusions import sentences
from benchmarks.markdown import as_markdown
from benchmarks.plot import TALLEST, draw, write_png
from benchmarks.result import Result, Row, as_content, from_content
from benchmarks.shapes import CPU_TABLE, GPU_TABLE, SWEEPS, Shape, parse_shape
from benchmarks.table import COLUMNS, as_text, duration, size, tables
from benchmarks.timing import LEAST_RUNS, Clock, interleave, medians
from crosscheck.report import png
from crosscheck.report.json import read_json, write_json

SHAPES = Shape(10, 2, 3, 4), Shape(100, 1, 3, 4)


class FakeTime:
    """A clock that moves only by the costs of the calls and by sleep."""

    def __init__(self, settle=0.0, rest=0.0):
        self.time, self.calls, self.slept = 0.0, [], 0.0
        self.clock = Clock(lambda: self.time, self.sleep, settle, rest)

    def sleep(self, seconds):
        self.time += seconds
        self.slept += seconds

    def call(self, name, *costs, fails_at=None):
        made = []

        def call():
            made.append(1)
            self.calls.append(name)
            if len(made) == fails_at:
                raise RuntimeError("no more")
            self.time += costs[(len(made) - 1) % len(costs)]

        return call


def test_each_round_has_each_implementation_once_in_changing_order():
    fake = FakeTime()
    calls = {name: fake.call(name, 1.0) for name in "abcd"}
    found = interleave(calls, dict.fromkeys(calls, 1.0), most_runs=12, budget=1e9, clock=fake.clock)
    rounds = [tuple(fake.calls[n : n + 4]) for n in range(0, len(fake.calls), 4)]
    assert len(rounds) == 12
    assert all(sorted(each) == list("abcd") for each in rounds)
    assert len(set(rounds)) > 4
    assert {each[0] for each in rounds} == set("abcd")
    assert all(times.seconds == [1.0] * 12 for times in found.values())


def test_only_the_last_call_of_a_turn_is_timed():
    """A short call is first repeated for the settling time. Before a long call the process sleeps."""
    fake = FakeTime(settle=1.0, rest=7.0)
    calls = {"short": fake.call("short", 0.25), "long": fake.call("long", 2.0)}
    found = interleave(calls, {"short": 0.25, "long": 2.0}, most_runs=3, budget=1e9, clock=fake.clock)
    assert found["short"].seconds == [0.25] * 3
    assert found["long"].seconds == [2.0] * 3
    assert fake.calls.count("short") == 3 * (4 + 1)
    assert fake.calls.count("long") == 3
    assert fake.slept == 3 * 7.0


@pytest.mark.parametrize(
    ("cost", "budget", "runs"), [(1.0, 3.0, LEAST_RUNS), (1.0, 20.0, 20), (1.0, 1e9, 50), (4.0, 3.0, 1)]
)
def test_the_budget_ends_it_but_each_has_its_least_runs(cost, budget, runs):
    """A call that is longer than the budget gets one run."""
    fake = FakeTime()
    found = interleave({"a": fake.call("a", cost)}, {"a": cost}, most_runs=50, budget=budget, clock=fake.clock)
    assert len(found["a"].seconds) == runs


def test_a_slow_one_ends_and_others_go_on():
    fake = FakeTime()
    calls = {"slow": fake.call("slow", 9.0), "quick": fake.call("quick", 0.1), "bad": fake.call("bad", 0.1, fails_at=3)}
    found = interleave(calls, dict.fromkeys(calls, 1.0), most_runs=50, budget=2.0, clock=fake.clock)
    assert [len(times.seconds) for times in found.values()] == [1, LEAST_RUNS, 2]
    assert [str(times.failed) for times in found.values()] == ["None", "None", "no more"]


def test_a_call_that_fails_has_no_median():
    fake = FakeTime()
    with pytest.raises(RuntimeError, match="no more"):
        medians({"bad": fake.call("bad", 0.1, fails_at=9)}, most_runs=3)


def row(name="jax_lstm", *milliseconds, shape=SHAPES[0], kind="training", **more):
    seconds = tuple(value * 1e-3 for value in milliseconds)
    return Row(name, shape, kind, "plain", "float32", "1.0", seconds, **more)


def test_median_quartiles_and_spread():
    times = [3.0, 1.0, 2.0, 5.0, 4.0, 100.0, 0.5, 6.0, 7.0]
    random.Random(1).shuffle(times)
    measured = row("a", *times)
    assert measured.median == 4e-3
    assert measured.quartiles == pytest.approx((2e-3, 4e-3, 6e-3))
    assert measured.spread == pytest.approx(1.0)
    assert row("a", 2.0, 4.0).median == pytest.approx(3e-3)
    assert (row("a", 7.0).quartiles, row("a", 7.0).spread) == ((7e-3,) * 3, 0.0)
    assert (row("a").median, row("a").spread) == (None, None)


def steady(name, milliseconds, **more):
    """Return a row with as many equal runs as a comparison needs."""
    return row(name, *[milliseconds] * LEAST_RUNS, **more)


ROWS = (
    steady("jax_lstm", 2.0, memory=3 << 20, compile_seconds=0.5),
    steady("torch.nn.LSTM", 1.0),
    steady("haiku", 3.0),
    row("equinox", reason="equinox is not installed"),
    steady("jax_lstm", 2.0, shape=SHAPES[1]),
    steady("torch.nn.LSTM", 8.0, shape=SHAPES[1]),
    steady("haiku", 5.0, shape=SHAPES[1]),
    steady("haiku", 5.0, kind="forward"),
)
RESULT = Result(ROWS, {"device": "cpu", "date": "today"}, "python -m benchmarks", "T")


def test_a_table_says_time_ratio_memory_and_reasons():
    training, forward = tables(RESULT)
    lines = [dict(zip(COLUMNS, cells, strict=True)) for cells in training.rows]
    assert training.title == "training, float32"
    assert [line["T,B,D,H"] for line in lines] == ["10,2,3,4", "", "", "", "100,1,3,4", "", ""]
    assert [line["to ours"] for line in lines] == ["1.00", "0.50", "1.50", "-", "1.00", "4.00", "2.50"]
    assert (lines[0]["time"], lines[0]["memory"], lines[0]["compile"]) == ("2.00 ms", "3.0 MiB", "500 ms")
    assert lines[1]["memory"] == lines[1]["compile"] == "-"
    assert lines[3][""] == "equinox is not installed"
    assert forward.rows[0][2:4] == ("5.00 ms", "-")
    text = as_text(training).splitlines()
    assert len(text) == 2 + 7
    assert text[5].endswith("equinox is not installed")
    assert len({line.index("s  ") for line in text[2:5]}) == 1


def test_sentences_tell_losses_and_wins_alike():
    assert sentences(RESULT) == [
        "jax_lstm is slower than torch.nn.LSTM in 1 of 2: 10,2,3,4 training (2.00 times its time)",
        "jax_lstm is faster than torch.nn.LSTM in 1 of 2: torch.nn.LSTM takes 4.00 times as long",
        "jax_lstm is faster than haiku in 2 of 2: haiku takes 1.50 to 2.50 times as long",
    ]
    wrong = row("jax_lstm chunks", differs=True, reason="computes something else: y")
    assert sentences(Result((ROWS[0], wrong))) == [
        "no implementation was timed beside jax_lstm",
        "jax_lstm chunks at 10,2,3,4 training: computes something else: y",
    ]


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (ROWS, 0),
        ((row("haiku", 1.0),), 0),
        ((row("haiku", differs=True, reason="x"), row("jax_lstm", 1.0)), 0),
        ((row("jax_lstm", 1.0), row("jax_lstm chunks", differs=True)), 1),
        ((row("jax_lstm", differs=True), row("haiku", 1.0)), 1),
        ((row("jax_lstm", reason="out of memory"), row("haiku", 1.0)), 2),
        ((row("haiku", reason="not installed"),), 2),
    ],
)
def test_the_exit_code_is_about_ours_being_right_and_never_about_who_wins(rows, code):
    assert Result(rows).exit_code == code


def test_json_carries_everything_and_back():
    content = as_content(RESULT)
    assert from_content(content) == RESULT
    first, second = content["rows"][:2]
    assert (second["median"], second["ratio"], second["runs"], second["seconds"]) == (1e-3, 0.5, 5, [1e-3] * 5)
    assert (first["shape"], first["memory"]) == ({"T": 10, "B": 2, "D": 3, "H": 4}, 3 << 20)


def test_an_infinite_error_comes_back_from_a_file(tmp_path):
    result = Result((row("haiku", error=float("inf"), differs=True),))
    write_json(tmp_path / "out.json", "bench", as_content(result))
    content = read_json(tmp_path / "out.json", "bench")
    assert content["rows"][0]["error"] == "inf"
    assert from_content(content) == result


@pytest.mark.parametrize("content", [[], {}, {"rows": [{}]}, {"rows": 3}])
def test_content_that_is_no_result_is_refused(content):
    with pytest.raises(ValueError, match="is a damaged result"):
        from_content(content)


def test_figures_show_what_was_measured(tmp_path):
    write_png(RESULT, tmp_path / "sweep.png")
    write_png(Result(ROWS), tmp_path / "table.png")
    for name in ("sweep.png", "table.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2
    swept, _ = draw(RESULT).axes
    lines = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in swept.lines}
    assert lines["torch.nn.LSTM"] == [(10, 1e-3), (100, 8e-3)]
    labels = [text.get_text() for text in swept.get_xticklabels()]
    assert labels == ["10", "100"]
    with pytest.raises(ValueError, match="nothing to draw"):
        write_png(Result((row("haiku", reason="x"),)), tmp_path / "none.png")


def bars_of(axes):
    return {bars.get_label(): [(bar.get_x(), bar.get_height()) for bar in bars] for bars in axes.containers}


def test_bars_are_in_units_of_torch_and_say_ours():
    """The bars of a shape are next to each other. Ours has its figure, in red if slower. Very tall bars are cut off."""
    rows = (*ROWS[:7], steady("equinox", 40.0, shape=SHAPES[1]), steady("torch.nn.LSTM", 10.0, kind="forward"), ROWS[7])
    training, forward = draw(Result(rows)).axes
    bars = bars_of(training)
    assert {name: [height for _, height in found] for name, found in bars.items()} == {
        "jax_lstm": pytest.approx([2.0, 0.25]),
        "haiku": pytest.approx([3.0, 0.625]),
        "equinox": [TALLEST],
    }
    assert [[round(left) for left, _ in found] for found in bars.values()] == [[0, 1], [0, 1], [1]]
    assert len({left for found in bars.values() for left, _ in found}) == 5
    said = {text.get_text(): text.get_color() for text in training.texts}
    assert said == {"2.00": png.RED, "0.25": png.TEXT, "5.00": png.TEXT}
    (line,) = training.lines
    assert (line.get_label(), set(line.get_ydata())) == ("torch.nn.LSTM", {1})
    assert [text.get_text() for text in training.get_xticklabels()] == ["10,2,3,4", "100,1,3,4"]
    assert bars_of(forward) == {"haiku": [(pytest.approx(-0.42, abs=0.1), 0.5)]}
    same = {bars.get_label(): bars[0].get_facecolor() for axes in (training, forward) for bars in axes.containers}
    assert same["haiku"] == forward.containers[0][0].get_facecolor()


@pytest.mark.parametrize(
    ("names", "unit", "heights"),
    [
        (("jax_lstm", "haiku"), "ours", {"haiku": [1.5, 2.5]}),
        (("haiku",), "none", {"haiku": [3e-3, 5e-3]}),
    ],
)
def test_without_torch_bars_are_in_units_of_ours_and_without_ours_times(names, unit, heights):
    (training,) = draw(Result(tuple(r for r in ROWS if r.implementation in names and r.kind == "training"))).axes
    found = {name: [height for _, height in bars] for name, bars in bars_of(training).items()}
    assert found == {name: pytest.approx(values) for name, values in heights.items()}
    assert [line.get_label() for line in training.lines] == ["jax_lstm"] * (unit == "ours")


def test_the_brief_table_has_bold_losses_and_says_what_is_missing():
    flax = (steady("flax.linen", 4.0, memory=4 << 20), steady("flax.linen", 9.0, shape=SHAPES[1], memory=2 << 20))
    ours = steady("jax_lstm", 6.0, shape=SHAPES[1], memory=3 << 20)
    rows = (*ROWS[:4], ours, steady("jax_lstm chunks", 9.0, shape=SHAPES[1]), *ROWS[5:], *flax)
    table, legend, *told = as_markdown(Result(rows, {"device": "cpu"})).split("\n\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0] == [
        "T,B,D,H", "torch.nn.LSTM, ms", "jax_lstm, ms", "jax_lstm", "haiku", "jax_lstm chunks", "flax.linen", "memory",
    ]  # fmt: skip
    assert cells[2] == ["10,2,3,4", "1.00", "2.00", "**2.00**", "3.00", "-", "4.00", "0.75"]
    assert cells[3] == ["100,1,3,4", "8.00", "6.00", "0.75", "**0.62**", "**1.12**", "1.12", "**1.50**"]
    assert len({len(line) for line in table.splitlines()}) == 1
    assert legend.startswith("training, float32. ")
    assert told == [
        "jax_lstm is slower than torch.nn.LSTM in 1 of 2: 10,2,3,4 training (2.00 times its time)",
        "jax_lstm is slower than haiku in 1 of 2: 100,1,3,4 training (1.20 times its time)",
        "equinox was not timed at 10,2,3,4: equinox is not installed",
        "device cpu",
    ]


def test_the_brief_table_has_no_ratios_for_a_shape_without_torch():
    rows = (row("torch.nn.LSTM", 1.0), row("jax_lstm", 2.0), row("jax_lstm", 1234.5, shape=SHAPES[1]))
    lines = as_markdown(Result(rows)).splitlines()
    assert lines[3].replace(" ", "") == "|100,1,3,4|-|1,234|-|-|"
    with pytest.raises(ValueError, match="was not timed in training"):
        as_markdown(Result((row("jax_lstm", 1.0), row("torch.nn.LSTM", 1.0, kind="forward"))))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.3, "12.3 s"), (0.99951, "1.00 s"), (0.0123, "12.3 ms"), (4.5e-5, "45.0 µs"), (123.4, "123 s")],
)
def test_durations_have_three_digits(seconds, text):
    assert duration(seconds) == text


def test_sizes():
    assert [size(n) for n in (0, 512, 20 << 10, 3 << 19, 4000 << 20)] == [
        "0.0 KiB", "0.5 KiB", "20 KiB", "1.5 MiB", "4,000 MiB",
    ]  # fmt: skip


def test_shapes():
    assert parse_shape(" 1, 2,3,4 ") == Shape(1, 2, 3, 4)
    assert str(Shape(1, 2, 3, 4)) == "1,2,3,4"
    assert set(CPU_TABLE) < set(GPU_TABLE)
    assert [shape.steps for shape in SWEEPS["T"]] == [100, 1_000, 10_000, 100_000]
    for axis, shapes in SWEEPS.items():
        assert all(len({shape[n] for shape in shapes}) == (len(shapes) if "TBDH"[n] == axis else 1) for n in range(4))
    for text in ("1,2,3", "1,2,3,0", "1,2,3,-4", "a,b,c,d", "1,2,3,4,5", ""):
        with pytest.raises(ValueError, match="must be T,B,D,H, four whole numbers"):
            parse_shape(text)
