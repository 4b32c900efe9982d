"""Blocks of time steps and hand-made transposes change how it is computed, and not what."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm._src import blocks, products
from tests.support.arrays import drawn_weights, normal, state_of

B, D, H = 3, 2, 4
OPTIONS = {
    "plain": {},
    "lean": {"residuals": "lean"},
    "lengths": {"lengths": np.array([7, 0, 4])},
    "reset and cuts": {"reset": np.arange(3 * 7).reshape(3, 7) % 5 == 3, "truncate_every": 3},
    "chunks": {"checkpoint_every": 5},
}
NETWORKS = {"both ways": {"bidirectional": True}, "projection": {"proj_size": 2}}


def close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), got, expected)


def problem(network):
    params = drawn_weights(D, H, **NETWORKS[network])
    return params, normal((B, 7, D)), state_of(params, B)


def in_small_blocks(monkeypatch):
    """Blocks of three steps, and of two for the gradients of weights. Returns the list of what was cut so."""
    cut = []
    for module in ("recurrence", "tangents"):
        monkeypatch.setattr(f"jax_lstm._src.{module}.block_steps", lambda length, sums: min(3, length))
    monkeypatch.setattr(products, "one_device", lambda *trees: True)
    monkeypatch.setattr(products, "near_divisor", lambda length, wanted: cut.append(length) or min(2, length))
    jax.clear_caches()  # or what was traced before, in other blocks, is what runs
    return cut


def derivatives(args, options):
    """Gradients, a tangent, and a Hessian-vector product of a loss of all outputs, with respect to everything."""

    def loss(args):
        y, last = jax_lstm.lstm(*args, **options)
        return jnp.sum(jnp.sin(y)) + jnp.sum(last.h**2) + jnp.sum(last.c**3)

    direction = jax.tree.map(jnp.cos, args)
    gradient = jax.grad(loss)
    return gradient(args), jax.jvp(loss, (args,), (direction,)), jax.jvp(gradient, (args,), (direction,))[1]


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("both ways", "plain"),
        pytest.param("both ways", "lengths", marks=pytest.mark.slow),
        ("both ways", "chunks"),
        pytest.param("projection", "plain", marks=pytest.mark.slow),
        ("projection", "lean"),
        ("projection", "reset and cuts"),
    ],
)
def test_blocks_do_not_show(network, name, monkeypatch):
    """Seven steps in blocks of 3, 3 and 1, and weight gradients in blocks of two, against one block."""
    args = problem(network)
    run = lambda: jax.jit(lambda args: derivatives(args, OPTIONS[name]))(args)
    expected = run()
    cut = in_small_blocks(monkeypatch)
    close(run(), expected)
    assert cut, "no gradient of weights was computed in blocks"


@pytest.mark.parametrize("mapped", ["x", "params", "both"])
def test_gradients_of_a_mapped_run(mapped, monkeypatch):
    """grad of vmap, where the transposes are mapped, against vmap of grad, where they are not."""
    monkeypatch.setattr(products, "one_device", lambda *trees: True)
    jax.clear_caches()
    params, x, _ = problem("projection")
    many = {
        "x": (params, jnp.stack([x, 2 * x])),
        "params": (jax.tree.map(lambda a: jnp.stack([a, 2 * a]), params), x),
    }
    many["both"] = (many["params"][0], many["x"][1])
    axes = (None if mapped == "x" else 0, None if mapped == "params" else 0)
    loss = lambda params, x: jnp.sum(jnp.sin(jax_lstm.lstm(params, x)[0]))
    got = jax.jit(jax.grad(lambda p, x: jnp.sum(jax.vmap(loss, axes)(p, x)), (0, 1)))(*many[mapped])
    single = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), axes))(*many[mapped])
    expected = tuple(
        each if axis == 0 else jax.tree.map(lambda a: jnp.sum(a, 0), each)
        for each, axis in zip(single, axes, strict=True)
    )
    close(got, expected)


def test_cotangents_are_written_where_the_gates_were():
    """No second array as large as the gates, which are 4 of these floats; the rest is h, c, x, dy and copies."""
    steps, batch, hidden = 512, 4, 64
    params = drawn_weights(hidden, hidden, dtype=np.float32)
    x = jnp.zeros((steps, batch, hidden), jnp.float32)
    loss = lambda params, x: jnp.sum(jax_lstm.lstm(params, x, time_major=True)[0] ** 2)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile()
    floats = compiled.memory_analysis().temp_size_in_bytes / (4 * steps * batch * hidden)
    assert floats < 4 + 6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weight_gradients_in_blocks(dtype, monkeypatch):
    """One rounding at the end: as near to one product over all steps as that rounding allows."""
    params, x, _ = problem("both ways")
    params, x = jax.tree.map(lambda a: a.astype(dtype), (params, x))
    gradient = lambda: jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(jax_lstm.lstm(p, x)[0].astype(jnp.float32)))))(params)
    expected = gradient()
    cut = in_small_blocks(monkeypatch)
    for name, got in gradient().items():
        assert got.dtype == dtype
        scale = jnp.max(jnp.abs(expected[name].astype(jnp.float64)))
        difference = jnp.max(jnp.abs(got.astype(jnp.float64) - expected[name].astype(jnp.float64)))
        assert difference <= 2 * jnp.finfo(dtype).eps * scale, name
    assert cut


def test_batch_axes_of_one_element():
    """[2, 1, T, D] and [1, 1, T, D] are [2, T, D] and [T, D], whatever comes with them."""
    params, x, state = problem("both ways")
    lengths, reset = np.array([7, 4, 2]), OPTIONS["reset and cuts"]["reset"]

    def run(rows, batch):
        first = lambda a, axis=0: np.take(a, range(rows), axis).reshape(*a.shape[:axis], *batch, *a.shape[axis + 1 :])
        given = {"lengths": first(lengths, 0) if batch else lengths[0], "reset": first(reset)}
        args = params, first(x), jax.tree.map(lambda a: first(a, 1), state)
        got = jax.jit(lambda *args: (jax_lstm.lstm(*args, **given), jax_lstm.lstm_states(*args, **given)))(*args)
        assert [a.shape for a in jax.tree.leaves(got)] == [
            (*batch, 7, 2 * H),
            *[(2, *batch, H)] * 2,
            *[(2, *batch, 7, H)] * 2,
        ]
        return jax.tree.map(np.ravel, got)

    close(run(2, (2, 1)), run(2, (2,)))
    alone = run(1, ())
    close(run(1, (1,)), alone)
    close(run(1, (1, 1)), alone)


def test_a_batch_of_one_needs_no_copies():
    """Two copies of the gates, 4 of these floats each, and some of h, where the axis of one element is in the way."""
    steps, hidden = 1000, 64
    params = drawn_weights(hidden, hidden, dtype=np.float32)
    x = jnp.zeros((1, steps, hidden), jnp.float32)
    loss = lambda params, x: jnp.sum(jax_lstm.lstm(params, x)[0] ** 2)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes / (4 * steps * hidden) < 4 + 5


def test_a_training_step_over_100000_steps_fits_in_200_mb():
    """In chunks of about √T; the projected inputs of the whole sequence alone would be 205 MB."""
    steps, inputs, hidden = 100_000, 32, 128
    params = drawn_weights(inputs, hidden, dtype=np.float32)
    x = jax.ShapeDtypeStruct((1, steps, inputs), jnp.float32)
    loss = lambda params, x: jnp.sum(jax_lstm.lstm(params, x, checkpoint_every=320)[0] ** 2)
    compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(params, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 200e6


def test_a_block_is_a_divisor_where_one_is_near():
    assert blocks.near_divisor(1000, 60) == 50
    assert blocks.near_divisor(997, 60) == 60
    assert blocks.near_divisor(10, 60) == 10
    assert blocks.block_steps(10_000, (1, 512)) == 500
    assert blocks.block_steps(5, (1, 512)) == 5
