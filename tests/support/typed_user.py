"""A user's script, which `make lint` checks with mypy --strict and pyright.

A line that ends in an "ignore" is wrong on purpose. Both checkers report an unneeded ignore. So they fail if a type
becomes wider. tests/jax_lstm/test_types.py runs the script.
"""

from __future__ import annotations

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jax_lstm
from jax_lstm import LSTMState, convert, init_lstm, init_rnn, linen, lstm, lstm_cell, lstm_states, rnn


def functions(key: jax.Array, x: jax.Array) -> jax.Array:
    params = init_lstm(key, 4, 5, num_layers=2, style="keras", forget_bias="chrono:9")
    init_lstm(key, 4, 5, style="tf") if x.ndim < 0 else None  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    y, state = lstm(params, x, unroll=2, backend="scan")
    lstm(params, x, backend="cuda") if x.ndim < 0 else None  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(y, jax.Array)
    assert_type(state, LSTMState)
    assert_type(state.h, jax.Array)
    assert_type(state.c.shape, tuple[int, ...])
    y, state = lstm(params, x, LSTMState(h=np.zeros((2, 3, 5), np.float32), c=state.c), lengths=[1, 2, 3])
    states = lstm_states(params, x, time_major=False, checkpoint_every=2)
    lstm_states(params, x, length=3) if x.ndim < 0 else None  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(states.h, jax.Array)
    choice = jax_lstm.choose_backend(params, x, backend="auto")
    print(choice.backend, choice.reason)
    h, c = state.h[0], state.c[0]
    next_state = lstm_cell(convert.cell(params), LSTMState(h, c), x[:, 0])
    plain = init_rnn(key, 4, 5)
    z, last = rnn(plain, x, nonlinearity="relu", unroll=2)
    rnn(plain, x, nonlinearity="gelu") if x.ndim < 0 else None  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    flow = jax_lstm.gradient_flow(plain, x, nonlinearity="tanh", products=False)
    print(flow.log2_dh)
    return y.sum() + next_state.h.sum() + z.sum() + last.sum()


def in_flax(key: jax.Array, x: jax.Array) -> jax.Array:
    model = linen.LSTM(hidden_size=5, bidirectional=True, unroll=2, style="flax")
    variables = model.init(key, x)
    linen.LSTM(hidden_size=5, backend="cuda") if x.ndim < 0 else None  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    applied: Any = model.apply(variables, x)  # Flax does not know what a module returns
    y, state = applied
    layer = jax_lstm.linen.LSTM(hidden_size=5)
    again = layer.init_with_output(key, x)[0]
    return jnp.sum(y) + jnp.sum(state.h) + jnp.sum(again[0])


def in_nnx(x: jax.Array) -> jax.Array:
    model = jax_lstm.nnx.LSTM(4, 5, num_layers=2, rngs=nnx.Rngs(0))
    assert_type(model.weight_ih_l0, nnx.Param[jax.Array])
    print(model.weight_hh_l1.shape, model.bias_ih_l0[...].dtype)
    y, state = model(x)
    assert_type(y, jax.Array)
    assert_type(state.c, jax.Array)
    cell = jax_lstm.nnx.LSTMCell(input_size=4, hidden_size=5, rngs=nnx.Rngs(0))
    assert_type(cell.weight_ih, nnx.Param[jax.Array])
    print(cell.weight_xx) if x.ndim < 0 else None  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    return y.sum() + state.c.sum() + cell.bias_hh[...].sum()


def between_libraries(params: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    tree = convert.to_flax(params)
    convert.to_nnx(params, "LSTMCell")
    back = convert.from_flax(tree)
    return convert.to_torch(back)


def main() -> None:
    key, x = jax.random.key(0), jnp.ones((3, 4, 4), jnp.float32)
    print(jax_lstm.__version__, jax.jit(functions)(key, x), jax.jit(in_flax)(key, x), jax.jit(in_nnx)(x))
    print(sorted(between_libraries(init_lstm(key, 4, 5))))


if __name__ == "__main__":
    main()
