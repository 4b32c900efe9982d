"""The lines of a session about the rule between scan and cudnn, for synthetic times."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.comparison import compare
from benchmarks.result import OURS, Result
from benchmarks.session.rule import MARK, favoured, marked_source, rule_lines
from benchmarks.session.schedule import CUDNN, SCAN
from benchmarks.timing import LEAST_RUNS
from jax_lstm._src import backends
from tests.benchmarks.test_results import SHAPES, row, steady

FASTER, EQUAL, SLOWER = (compare([time] * LEAST_RUNS, [1.0] * LEAST_RUNS) for time in (0.5, 1.0, 2.0))
FEW = compare([0.5], [1.0])


@pytest.mark.parametrize(
    ("comparisons", "expected"),
    [
        ((FASTER, FASTER), "cudnn"),
        ((FASTER, EQUAL), "cudnn"),
        ((SLOWER, EQUAL), "scan"),
        ((SLOWER, SLOWER), "scan"),
        ((FASTER, SLOWER), "neither"),
        ((EQUAL, EQUAL), "not decided"),
        ((FASTER, FEW), "not decided"),
        ((FASTER,), "not decided"),
    ],
)
def test_a_shape_favours_what_is_faster_in_one_kind_of_work_and_slower_in_none(comparisons, expected):
    assert favoured(comparisons) == favoured(reversed(comparisons)) == expected


def both(forward, training, shape=SHAPES[0]):
    """Return the rows of a shape. scan takes 1 ms, and cudnn the given times in ms."""
    return [
        each
        for kind, time in (("forward", forward), ("training", training))
        for each in (
            steady("jax_lstm", 1.0, shape=shape, kind=kind),
            steady(SCAN, 1.0, shape=shape, kind=kind),
            steady(CUDNN, time, shape=shape, kind=kind),
        )
    ]


def said(*rows):
    """Return the lines about the rule for these rows, without its source."""
    lines = rule_lines([Result(tuple(rows))])
    return lines[lines.index("") + 1 :]


def test_every_shape_favours_cudnn():
    assert said(*both(0.2, 0.5), *both(0.25, 1.0, SHAPES[1])) == [
        "float32 forward: cudnn is faster than scan in 2 of 2: "
        "10,2,3,4 (0.20 of its time), 100,1,3,4 (0.25 of its time)",
        "float32 training: cudnn is faster than scan in 1 of 2: 10,2,3,4 (0.50 of its time)",
        "float32 training: no difference was measured in 1 of 2: 100,1,3,4 (1.00 of its time)",
        "float32: the line may choose cudnn. All 2 measured shapes favour it.",
        "float32: control: jax_lstm by its defaults was found different from jax_lstm backend=scan in 0 of 4. If the "
        "default is scan, both are the same program, and such a difference is noise.",
    ]


def test_some_shapes_favour_cudnn():
    lines = said(*both(0.5, 0.5), *both(2.0, 1.0, SHAPES[1]))
    assert "float32 forward: cudnn is slower than scan in 1 of 2: 100,1,3,4 (2.00 of its time)" in lines
    assert lines[-2] == (
        "float32: the line may choose cudnn under a condition that tells the shapes apart. "
        "cudnn: 10,2,3,4; scan: 100,1,3,4"
    )


def test_no_shape_favours_cudnn():
    lines = said(*both(0.5, 2.0), *both(2.0, 1.0, SHAPES[1]))
    assert lines[-2] == "float32: the line stays as it is. No shape of 2 favours cudnn."
    slow = (5e-3,) * LEAST_RUNS
    different = [replace(each, seconds=slow) if each.implementation == OURS else each for each in both(0.5, 2.0)]
    assert "different from jax_lstm backend=scan in 2 of 2" in said(*different)[-1]


def test_too_few_runs_decide_nothing():
    rows = [steady(SCAN, 1.0), row(CUDNN, 0.1)]
    assert said(*rows) == [
        "float32 training: there were too few runs in 1 of 1: 10,2,3,4 (0.1 of its time)",
        "float32: the line stays as it is. No shape of 1 favours cudnn.",
    ]


def test_without_cudnn_the_reason_is_said_once_and_nothing_follows():
    rows = (steady(SCAN, 1.0), row(CUDNN, reason="needs CUDA"), row(CUDNN, reason="needs CUDA", kind="forward"))
    assert rule_lines([Result(rows)])[-2:] == [
        "cudnn was not timed beside scan. So nothing follows for this line.", "needs CUDA",
    ]  # fmt: skip


def test_each_precision_is_judged_by_itself():
    narrow = [replace(each, precision="tf32") for each in both(2.0, 2.0)]
    lines = rule_lines([Result(tuple(both(0.5, 0.5))), Result(tuple(narrow))])
    assert "float32: the line may choose cudnn. All 1 measured shapes favour it." in lines
    assert "tf32: the line stays as it is. No shape of 1 favours cudnn." in lines


def test_the_line_is_the_one_that_chooses(tmp_path):
    """The line is the return statement below the mark in the current file."""
    head, *source = marked_source(Path(backends.__file__))
    number = int(head.split("line ")[1].split(",")[0])
    text = Path(backends.__file__).read_text().splitlines()
    assert head.startswith("jax_lstm/_src/backends.py, line ")
    assert MARK in source[0]
    assert source[-1] == text[number - 1]
    assert source[-1].lstrip().startswith("return BackendChoice(")
    (tmp_path / "backends.py").write_text("pass\n")
    assert marked_source(tmp_path / "backends.py") == [f"backends.py has no line with the words {MARK!r}."]
