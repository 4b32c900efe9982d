"""The figures of compiled programs, for programs of the CPU and in the committed table. No other compiler is needed."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from benchmarks.accelerators import targets
from benchmarks.accelerators.figures import Figures, Loop, figures_of
from benchmarks.accelerators.programs import IMPLEMENTATIONS, network, training_step
from benchmarks.accelerators.result import Result, Row, as_content, as_markdown, from_content
from benchmarks.shapes import Shape
from tests import ROOT

SHAPE = Shape(24, 2, 3, 4)
TABLE = from_content(json.loads((ROOT / "benchmarks/results/accelerators/figures.json").read_text()))
WORKS = sorted({(row.target, row.precision, row.kind, str(row.shape)) for row in TABLE.rows})
B, C = "128,32,128,256", "1024,128,512,512"


def figures(implementation, *work):
    (row,) = (
        row
        for row in TABLE.rows
        if (row.implementation, row.target, row.precision, row.kind, str(row.shape)) == (implementation, *work)
    )
    return row.figures


def test_the_loops_of_a_program_and_what_is_in_them():
    w = jnp.ones((5, 7))

    def function(x):
        inner = lambda c, x: (jnp.tanh(x @ w) @ w.T + c, None)
        outer = lambda c, x: (jax.lax.scan(inner, c, x)[0], None)
        return jax.lax.scan(outer, jnp.zeros((3, 5)), x)[0]

    found = figures_of(jax.jit(function).lower(jnp.ones((4, 6, 3, 5))).compile())
    assert [(loop.trips, loop.runs) for loop in found.loops] == [((4,), 4), ((4, 6), 24)]
    assert found.innermost == [found.loops[1]]
    assert found.loops[1].operations >= 2
    assert found.cycles == 0


def test_a_loop_after_another_is_no_inner_loop():
    loop = Loop((4,), 1, 1, ())
    nested = replace(loop, trips=(4, 6))
    assert Figures((loop, loop, nested, loop), 0, 0, 0).innermost == [loop, nested, loop]


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_every_implementation_is_lowered_with_the_same_sizes(name):
    pytest.importorskip({"jax_lstm": "jax_lstm", "flax": "flax", "haiku": "haiku", "equinox": "equinox"}[name])
    apply, weights, x = network(name, SHAPE, "float32")
    value, (d_weights, d_x) = jax.eval_shape(training_step(apply), weights, x)
    assert value.shape == ()
    assert d_x.shape == x.shape == (2, 24, 3)
    assert jax.tree.map(jnp.shape, d_weights) == jax.tree.map(jnp.shape, weights)
    assert jax.eval_shape(apply, weights, x).shape == (2, 24, 4)


def test_a_compiler_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(targets, "installed_version", lambda package: "not installed")
    assert targets.missing("v5e") == "not installed: libtpu; `make test-accelerators` installs it"
    targets.devices_of.cache_clear()
    with pytest.raises(RuntimeError, match="h100: not installed: jax-cuda13-plugin, jax-cuda13-pjrt, nvidia"):
        targets.devices_of("h100")


def test_the_table_as_markdown():
    loop = Loop((4, 5), 3, 1000, ())
    found = Figures((replace(loop, trips=(4,)), loop), 2_500_000, 7_000_000, 9_000_000)
    rows = [
        Row("v5e", "jax_lstm", SHAPE, "forward", "float32", found),
        Row("v5e", "flax", SHAPE, "forward", "float32", reason="TypeError: no"),
        Row("h100", "jax_lstm", SHAPE, "forward", "float32", replace(found, cycles=0)),
    ]
    text = as_markdown(Result(rows, "a command", {"jax": "1"}))
    assert "| float32 | forward | 24,2,3,4 | 2.5 / - | 1000 / - | 3 / - | 7 / - | 9 / - |" in text
    assert "flax, float32 forward 24,2,3,4: TypeError: no" in text
    assert "| float32 | forward | 24,2,3,4 | 3 | 7 | 9 |" in text
    assert json.loads(json.dumps(as_content(Result(rows, "", {}))))["rows"][1]["reason"] == "TypeError: no"


def test_the_committed_pages_are_one_result():
    assert (ROOT / "benchmarks/results/accelerators/figures.md").read_text() == as_markdown(TABLE)
    assert from_content(json.loads(json.dumps(as_content(TABLE)))) == TABLE


@pytest.mark.parametrize("work", WORKS, ids=" ".join)
def test_ours_is_not_above_flax_in_cycles_and_operations(work):
    ours, flax = figures("jax_lstm", *work), figures("flax", *work)
    assert ours.cycles <= flax.cycles
    of_steps = lambda each: sum(loop.operations for loop in each.innermost)
    assert of_steps(ours) < of_steps(flax)


@pytest.mark.parametrize("target", ["v5e", "v6e"])
def test_the_forward_pass_of_a_small_layer_on_a_tpu(target):
    work = (target, "float32", "forward", B)
    assert figures("jax_lstm", *work).cycles <= 0.6 * figures("flax", *work).cycles


def test_the_memory_of_a_large_layer():
    """Without blocks, the forward pass needed 2148 MB on v5e and 2147 MB on an H100, without arguments and results."""
    assert figures("jax_lstm", "v5e", "float32", "forward", C).temporary <= 250e6
    assert figures("jax_lstm", "h100", "float32", "forward", C).temporary <= 200e6
    for target in ("v5e", "v6e", "h100"):
        for precision in ("float32", "bfloat16"):
            work = (target, precision, "training", C)
            assert figures("jax_lstm", *work).temporary <= 0.6 * figures("flax", *work).temporary
