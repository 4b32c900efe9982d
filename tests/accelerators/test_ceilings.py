"""The costs of jax_lstm are at most those in benchmarks/results/accelerators/figures.json, with the same compiler.

Only that file has limits. `make accelerators` writes it again, also after an update of a compiler.
"""

from __future__ import annotations

import json

import jax
import pytest

from benchmarks.accelerators.figures import figures_of
from benchmarks.accelerators.programs import compile_network
from benchmarks.accelerators.result import from_content
from benchmarks.accelerators.targets import compiler_of, missing
from tests import ROOT

TABLE = from_content(json.loads((ROOT / "benchmarks/results/accelerators/figures.json").read_text()))
OURS = [row for row in TABLE.rows if row.implementation == "jax_lstm"]
QUICK = {("float32", "128,32,128,256"), ("bfloat16", "128,32,128,256")}
SLACK = 1.01  # the compiler places small arrays differently in every run


def name_of(row):
    return f"{row.target} {row.precision} {row.kind} {row.shape}"


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=name_of(row), marks=() if (row.precision, str(row.shape)) in QUICK else pytest.mark.slow)
        for row in OURS
    ],
)
def test_no_figure_is_above_its_ceiling(row):
    if reason := missing(row.target):
        pytest.skip(f"{row.target}: {reason}")
    package, version = compiler_of(row.target).split(" ")
    if TABLE.versions[package] != version:
        pytest.skip(f"the table is for {package} {TABLE.versions[package]}, and {version} is installed")
    with jax.enable_x64(False):
        got = figures_of(compile_network(row.target, row.implementation, row.shape, row.kind, row.precision))
    for loop, ceiling in zip(got.innermost, row.figures.innermost, strict=True):
        assert loop.operations <= ceiling.operations
    for name in ("cycles", "temporary", "peak"):
        assert getattr(got, name) <= SLACK * getattr(row.figures, name), name
