"""Implementations with one deliberate mistake each, to verify that the cross-check can fail."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from crosscheck.core.jax_runner import run_jax
from crosscheck.core.problem import Gradient
from crosscheck.libraries import Implementation
from crosscheck.libraries.jax_lstm import function
from jax_lstm import LSTMState, lstm_cell


def with_params(change):
    def runner(case):
        right = function(case)
        return partial(run_jax, lambda params, *inputs: right(change(params), *inputs))

    return runner


def igof(params):
    """Read the gates in the order i, g, f, o."""

    def reorder(a):
        i, f, g, o = jnp.split(a, 4)
        return jnp.concatenate((i, g, f, o))

    return {name: reorder(a) for name, a in params.items()}


def without_bias_hh(params):
    return {name: 0 * a if name.startswith("bias_hh") else a for name, a in params.items()}


@cache
def scanned(step):
    """Return a one-layer batch-first port: a plain scan over ``step(params, state, x)``."""

    def port(params, x, states):
        cell = {name.removesuffix("_l0"): a for name, a in params.items()}
        body = lambda state, x_t: (lambda new: (new, new.h))(step(cell, state, x_t))
        last, h = jax.lax.scan(body, LSTMState(*(a[0] for a in states)), x.swapaxes(0, 1))
        return h.swapaxes(0, 1), (last.h[None], last.c[None])

    return lambda case: partial(run_jax, port)


def stop_gradient_on_h(cell, state, x):
    return lstm_cell(cell, LSTMState(jax.lax.stop_gradient(state.h), state.c), x)


def float32_inside(cell, state, x):
    narrow, wide = jax.tree.map(lambda a: a.astype(jnp.float32), (cell, state, x)), x.dtype
    return jax.tree.map(lambda a: a.astype(wide), lstm_cell(*narrow))


def bfloat16_product(cell, state, x):
    if x.dtype == jnp.float64:
        return lstm_cell(cell, state, x)
    narrow = lambda a: a.astype(jnp.bfloat16).astype(a.dtype)
    return lstm_cell(cell | {"weight_hh": narrow(cell["weight_hh"])}, LSTMState(narrow(state.h), state.c), x)


def wrong_from_step_five(case):
    right = function(case)

    def port(params, x, states):
        y, rest = right(params, x, states)
        return y.at[1, 5:, 2].add(0.25), rest

    return partial(run_jax, port)


def one_nan(case):
    right = partial(run_jax, function(case))

    def run(problem, dtype):
        result = dict(right(problem, dtype))
        y = np.array(result["y"])
        y[0, 1, 2] = np.nan
        return result | {"y": y}

    return run


def a_gradient_missing(case):
    right = partial(run_jax, function(case))
    return lambda problem, dtype: {n: a for n, a in right(problem, dtype).items() if n != Gradient("x")}


WRONG = {
    "gate order": (with_params(igof), "y"),
    "dropped bias": (with_params(without_bias_hh), "y"),
    "stop_gradient on h": (scanned(stop_gradient_on_h), Gradient("weight_ih_l0")),
}
NAMES = {
    "gate order": "gates read in the order i g f o",
    "dropped bias": "bias_hh left out",
    "stop_gradient on h": "a stop_gradient on h between steps",
}
STANDARD = {name: Implementation(name, runner) for name, (runner, _) in WRONG.items()}
RIGHT_SCAN = Implementation("plain scan", scanned(lstm_cell))
