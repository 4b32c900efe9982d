"""``benchmarks.operations``: the time of a call, added up by kind of operation."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.operations import by_kind, kind_of, main, profile_operations

APP = typer.Typer()
APP.command()(main)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("matrix products", "ynn_fusion.3 dot.12 dot_add_fusion"),
        ("moving data", "copy.7 copy_bitcast_fusion.3 bitcast_dynamic-update-slice_fusion.5 concatenate.9 transpose"),
        (
            "gates and other pointwise",
            "multiply_add_fusion tanh_multiply_fusion.1 wrapped_add add_copy_fusion",
        ),
        (None, "while.41 call.2 conditional"),
    ],
)
def test_kinds_by_name(kind, names):
    assert {kind_of(name) for name in names.split()} == {kind}


def test_seconds_add_up_by_kind_without_loops():
    found = by_kind([("dot.1", 2.0), ("while.3", 9.0), ("dot.2", 1.0), ("copy.1", 0.5)])
    assert found == {"matrix products": 3.0, "moving data": 0.5}


def test_operations_are_those_that_ran_and_fill_the_call():
    a = jnp.ones((600, 600), jnp.float32)
    compiled = jax.jit(lambda a: jnp.tanh(a @ a)).lower(a).compile()
    call = lambda: jax.block_until_ready(compiled(a))
    call()
    found, took = profile_operations(call, calls=1)
    total = by_kind(found)
    assert set(total) == {"matrix products", "gates and other pointwise"}  # which takes longer depends on the machine
    assert min(total.values()) > 0
    assert sum(total.values()) < took


def test_the_command_shows_both_calls_and_the_kinds():
    done = CliRunner().invoke(APP, ["--shape", "20,2,3,4", "--work", "training", "--seconds", "0.1"])
    assert done.exit_code == 0, done.output
    for words in ("20,2,3,4, training", "torch.nn.LSTM, a call", "jax_lstm, a call", "moving data", "pointwise"):
        assert words in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--work", "both"), "--work must be one of"),
        (("--shape", "1,2"), "four whole numbers"),
        (("--seconds", "0"), "--seconds must be over 0"),
    ],
)
def test_bad_options(arguments, words):
    done = CliRunner().invoke(APP, arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
