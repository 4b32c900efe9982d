"""benchmarks/pipeline.py: the pipeline is the same function as the stack on one device."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import crosscheck
from benchmarks.pipeline import Way, largest_difference, main, make_ways
from benchmarks.timing import medians
from tests.support.arrays import drawn_weights

LAYERS, DEVICES, CHUNKS = 4, 2, 3
B, T, D, H = 2, 6, 3, 5


@pytest.fixture(scope="module")
def ways():
    params = drawn_weights(D, H, num_layers=LAYERS)
    x = np.random.default_rng(0).normal(size=(B, T, D))
    return make_ways(LAYERS, DEVICES, [CHUNKS], params, x)


def test_all_ways_give_the_outputs_and_gradients_of_one_device(ways):
    assert list(ways) == ["one device", "one device, 3 chunks", "data parallel", "pipeline, 3 chunks"]
    assert largest_difference(ways, LAYERS, D) < 1e-13  # roundings of float64


@pytest.mark.parametrize("array", ["weights", "x"])
def test_a_wrong_way_is_seen(ways, array):
    run, params, x, _ = ways["pipeline, 3 chunks"]
    wrong = {
        "weights": lambda params, x: run(params | {"bias_ih": params["bias_ih"] * (1 + 1e-9)}, x),
        "x": lambda params, x: run(params, x.at[:, -1, -1].multiply(1 + 1e-9)),
    }[array]
    assert largest_difference({"one device": ways["one device"], "wrong": Way(wrong, params, x)}, LAYERS, D) > 1e-12


def test_the_pipeline_hands_over_once_per_tick(ways):
    run, params, x, _ = ways["pipeline, 3 chunks"]
    found = crosscheck.find_collectives(jax.jit(run).lower(params, x).compile())
    inside = [(c.operation, c.shape, c.loops) for c in found if c.loops]
    assert inside == [("collective-permute", f"f64[{B},{T // CHUNKS},{H}]", (CHUNKS + DEVICES - 1,))]


def test_every_way_is_timed(ways):
    times = medians({name: way.compiled(lambda run: run) for name, way in ways.items()}, most_runs=1)
    assert times.keys() == ways.keys()
    assert min(times.values()) > 0


def test_the_bound_counts_the_ticks(ways):
    assert {name: way.at_best for name, way in ways.items()} == {
        "one device": 1.0,
        "one device, 3 chunks": 1.0,
        "data parallel": 0.5,
        "pipeline, 3 chunks": 4 / 6,  # 4 ticks, each a sixth of the work
    }


@pytest.mark.parametrize("wrong", [["--layers", "3"], ["--length", "99"], ["--inputs", "65"]])
def test_sizes_that_do_not_fit_are_refused(wrong):
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, wrong)
    assert done.exit_code == 2
    assert " ".join(wrong) in done.output
