"""Blocks of time steps and hand-written transposes change no result, and they save memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm._src import blocks, platforms, products
from tests.support.arrays import assert_close, drawn_weights, normal, state_of

B, D, H = 3, 2, 4
OPTIONS = {
    "plain": {},
    "lengths": {"lengths": np.array([7, 0, 4])},
    "reset and truncation": {"reset": np.arange(3 * 7).reshape(3, 7) % 5 == 3, "truncate_every": 3},
    "chunks": {"checkpoint_every": 5},
}
NETWORKS = {"both directions": {"bidirectional": True}, "projection": {"proj_size": 2}}


CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def problem(network):
    params = drawn_weights(D, H, **NETWORKS[network])
    return params, normal((B, 7, D)), state_of(params, B)


def in_small_blocks(monkeypatch):
    """Use blocks of three steps, and of two for weight gradients. Return a list that gets the lengths of the latter."""
    lengths = []
    monkeypatch.setattr(platforms, "block_steps", lambda rule, length, sums: min(3, length))
    monkeypatch.setattr(products, "near_divisor", lambda length, wanted: lengths.append(length) or min(2, length))
    jax.clear_caches()  # else programs with other blocks, which were traced before, would run
    return lengths


def derivatives(args, options):
    """Return the gradient, a tangent and a Hessian-vector product of a loss of all outputs."""

    def loss(args):
        y, last = jax_lstm.lstm(*args, **options)
        return jnp.sum(jnp.sin(y)) + jnp.sum(last.h**2) + jnp.sum(last.c**3)

    direction = jax.tree.map(jnp.cos, args)
    gradient = jax.grad(loss)
    return gradient(args), jax.jvp(loss, (args,), (direction,)), jax.jvp(gradient, (args,), (direction,))[1]


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("both directions", "plain"),
        pytest.param("both directions", "lengths", marks=pytest.mark.slow),
        ("both directions", "chunks"),
        ("projection", "plain"),
        ("projection", "reset and truncation"),
    ],
)
def test_blocks_change_no_derivative(network, name, monkeypatch):
    """Compare seven steps in blocks of 3, 3 and 1, with weight gradients in blocks of two, with one block."""
    args = problem(network)
    run = lambda: jax.jit(lambda args: derivatives(args, OPTIONS[name]))(args)
    expected = run()
    lengths = in_small_blocks(monkeypatch)
    assert_close(run(), expected, **CLOSE)
    assert lengths, "no gradient of weights was computed in blocks"


@pytest.mark.parametrize("mapped", ["x", "params", "both"])
def test_gradients_of_a_mapped_run(mapped):
    """Compare grad of vmap, which maps the transposes, with vmap of grad, which does not."""
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
    assert_close(got, expected, **CLOSE)


def test_cotangents_reuse_the_memory_of_the_gates():
    """No second array is as large as the gates, which have 4 floats per unit. The rest is h, c, x, dy and copies."""
    steps, batch, hidden = 512, 4, 64
    params = drawn_weights(hidden, hidden, dtype=np.float32)
    x = jnp.zeros((steps, batch, hidden), jnp.float32)
    loss = lambda params, x: jnp.sum(jax_lstm.lstm(params, x, time_major=True)[0] ** 2)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile()
    floats = compiled.memory_analysis().temp_size_in_bytes / (4 * steps * batch * hidden)
    assert floats < 4 + 6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_weight_gradients_in_blocks(dtype, monkeypatch):
    """The sum of the blocks is rounded once, so it differs from one product over all steps only by this rounding."""
    params, x, _ = problem("both directions")
    params, x = jax.tree.map(lambda a: a.astype(dtype), (params, x))
    gradient = lambda: jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(jax_lstm.lstm(p, x)[0].astype(jnp.float32)))))(params)
    expected = gradient()
    lengths = in_small_blocks(monkeypatch)
    for name, got in gradient().items():
        assert got.dtype == dtype
        scale = jnp.max(jnp.abs(expected[name].astype(jnp.float64)))
        difference = jnp.max(jnp.abs(got.astype(jnp.float64) - expected[name].astype(jnp.float64)))
        assert difference <= 2 * jnp.finfo(dtype).eps * scale, name
    assert lengths


def test_batch_axes_of_one_element():
    """`[2, 1, T, D]` and `[1, 1, T, D]` give the results of `[2, T, D]` and `[T, D]`, with every option."""
    params, x, state = problem("both directions")
    lengths, reset = np.array([7, 4, 2]), OPTIONS["reset and truncation"]["reset"]

    def run(rows, batch):
        first = lambda a, axis=0: np.take(a, range(rows), axis).reshape(*a.shape[:axis], *batch, *a.shape[axis + 1 :])
        options = {"lengths": first(lengths, 0) if batch else lengths[0], "reset": first(reset)}
        args = params, first(x), jax.tree.map(lambda a: first(a, 1), state)
        got = jax.jit(lambda *args: (jax_lstm.lstm(*args, **options), jax_lstm.lstm_states(*args, **options)))(*args)
        assert [a.shape for a in jax.tree.leaves(got)] == [
            (*batch, 7, 2 * H),
            *[(2, *batch, H)] * 2,
            *[(2, *batch, 7, H)] * 2,
        ]
        return jax.tree.map(np.ravel, got)

    assert_close(run(2, (2, 1)), run(2, (2,)), **CLOSE)
    single = run(1, ())
    assert_close(run(1, (1,)), single, **CLOSE)
    assert_close(run(1, (1, 1)), single, **CLOSE)


def test_a_batch_of_one_needs_no_copies():
    """If the axis of one element is not removed, XLA copies h, and the gates (4 floats per unit) twice."""
    steps, hidden = 1000, 64
    params = drawn_weights(hidden, hidden, dtype=np.float32)
    x = jnp.zeros((1, steps, hidden), jnp.float32)
    loss = lambda params, x: jnp.sum(jax_lstm.lstm(params, x, backend="scan")[0] ** 2)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes / (4 * steps * hidden) < 4 + 5


def test_a_training_step_over_100000_steps_fits_in_200_mb():
    """The chunks have about √T steps. The projected inputs of the whole sequence would take 205 MB."""
    steps, inputs, hidden = 100_000, 32, 128
    params = drawn_weights(inputs, hidden, dtype=np.float32)
    x = jax.ShapeDtypeStruct((1, steps, inputs), jnp.float32)
    loss = lambda params, x: jnp.sum(jax_lstm.lstm(params, x, checkpoint_every=320)[0] ** 2)
    compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(params, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 200e6


def test_a_block_size_is_a_divisor_of_the_length_if_one_is_near():
    assert blocks.near_divisor(1000, 60) == 50
    assert blocks.near_divisor(997, 60) == 60
    assert blocks.near_divisor(10, 60) == 10
    on_cpu = platforms.RULES["cpu"]
    assert platforms.block_steps(on_cpu, 10_000, (1, 512)) == 500
    assert platforms.block_steps(on_cpu, 5, (1, 512)) == 5
