"""Calls outside jax.jit: a second call compiles nothing.

JAX compiles a loop for each new step function. A call that creates a new step function would compile its loop again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import linen, nnx
from tests.support.arrays import drawn_weights, normal, state_of

B, T, D, H = 2, 5, 3, 4
PARAMS, X = drawn_weights(D, H, num_layers=2), normal((B, T, D))
ONE, RNN = drawn_weights(D, H), drawn_weights(D, H, kind="rnn")


def total(tree):
    return sum(jnp.sum(a) for a in jax.tree.leaves(tree))


def linen_module():
    module = linen.LSTM(H)
    variables = jax.jit(module.init)(jax.random.key(0), X)
    return lambda x: module.apply(variables, x)


CALLS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "lstm": lambda: lambda x: jax_lstm.lstm(PARAMS, x),
    "lstm with all options": lambda: (
        lambda x: jax_lstm.lstm(
            PARAMS,
            x,
            state_of(PARAMS, B),
            lengths=[5, 2],
            mask=np.ones((B, T), bool),
            reset=np.eye(B, T, dtype=bool),
            reset_state=state_of(PARAMS, B),
            dropout=0.5,
            dropout_key=jax.random.key(0),
            checkpoint_every=2,
            precision=["highest", "highest"],
        )
    ),
    "lstm_states": lambda: lambda x: jax_lstm.lstm_states(PARAMS, x),
    "rnn": lambda: lambda x: jax_lstm.rnn(RNN, x),
    "lstm_stream": lambda: lambda x: jax_lstm.lstm_stream(PARAMS, x),
    "lstm_step": lambda: lambda x: jax_lstm.lstm_step(PARAMS, x[:, 0]),
    "gradient_flow": lambda: lambda x: jax_lstm.gradient_flow(ONE, x, products=False),
    "linen.LSTM": linen_module,
    "nnx.LSTM": lambda: nnx.LSTM(D, H, rngs=flax_nnx.Rngs(0)),
}


def compiled_by(run: Callable[[], Any]) -> list[str]:
    """Return the names of the programs that XLA compiles while ``run`` runs."""
    names: list[str] = []

    def listen(event, duration, **details):
        if event.endswith("backend_compile_duration"):
            names.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return names


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(name):
    call = CALLS[name]()
    jax.clear_caches()
    assert compiled_by(lambda: call(X)), "the first call must compile, otherwise the listener does not work"
    assert compiled_by(lambda: call(X + 1)) == []


@pytest.mark.parametrize("name", ["lstm", "lstm with all options", "rnn", "lstm_step", "nnx.LSTM"])
def test_a_second_gradient_compiles_nothing(name):
    call = CALLS[name]()
    gradient = jax.grad(lambda x: total(call(x)))
    jax.clear_caches()
    assert compiled_by(lambda: gradient(X))
    assert compiled_by(lambda: gradient(X + 1)) == []


def test_a_call_with_other_settings_is_another_program():
    """The x64 setting, JAX's precision and the options take effect even after a call that differs only in them."""
    jax_lstm.lstm(PARAMS, X)
    with jax.enable_x64(False):
        assert jax_lstm.lstm(PARAMS, X)[0].dtype == jnp.float32
    assert jax_lstm.lstm(PARAMS, X, carry_dtype=jnp.float32)[1].h.dtype == jnp.float32
    lowered = lambda: jax.jit(lambda x: jax_lstm.lstm(PARAMS, x, backend="scan")[0]).lower(X).as_text()
    assert "HIGHEST" not in lowered()
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" in lowered()
