"""What the sides of other JAX libraries share: each runs one layer, and this stacks them and puts text around them.

Weights arrive by torch's names and go through `jax_lstm.convert` inside the differentiated function: so gradients
come back by torch's names too, and a wrong converter would show here as a wrong side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import optax

from crosscheck.core.jax_runner import run_jax
from crosscheck.libraries.implementation import require
from crosscheck.lstm.cases import Case, RecurrentCase, TextCase

# (params of one layer, x, h0, c0) -> (y, h_n, c_n); states [directions, *batch, H], all else as the case has it
Layer = Callable[[dict[str, Any], Any, Any, Any], tuple[Any, Any, Any]]


def layer_runner(case: Case, lacking: dict[str, str], layer_of: Callable[[RecurrentCase], Layer]):
    """The runner of a side from what runs one layer of a case. NotSupported where the library lacks a feature."""
    require(case, lacking)
    if isinstance(case, TextCase):
        network = RecurrentCase(
            "", "", 1, case.steps, case.embedding_size, case.hidden_size, num_layers=case.num_layers
        )
        return partial(run_jax, with_text(network, stacked(network, layer_of(network))))
    return partial(run_jax, stacked(case, layer_of(case)))


def stacked(case: RecurrentCase, layer: Layer):
    """fn(params, x, (h0, c0)) -> (y, (h_n, c_n)): layer after layer."""
    directions = 2 if case.bidirectional else 1

    def run(params, x, states):
        last = []
        for number in range(case.num_layers):
            rows = slice(number * directions, (number + 1) * directions)
            x, *state = layer(one_layer(params, number), x, *(a[rows] for a in states))
            last.append(state)
        return x, tuple(jnp.concatenate(a) for a in zip(*last, strict=True))

    return run


def one_layer(params, number: int) -> dict[str, Any]:
    """The entries of one layer, named as those of layer 0."""
    ends = (f"_l{number}", f"_l{number}_reverse")
    return {name.replace(f"_l{number}", "_l0"): value for name, value in params.items() if name.endswith(ends)}


def with_text(case: RecurrentCase, lstm):
    """fn(params, tokens, targets) -> (logits, loss): embedding, LSTM from zeros, dense layer, cross-entropy."""

    def model(params, tokens, targets):
        inner = {name.removeprefix("lstm."): a for name, a in params.items() if name.startswith("lstm.")}
        x = params["embedding.weight"][tokens]
        zeros = jnp.zeros((case.rows, x.shape[0], case.hidden_size), x.dtype)
        y, _ = lstm(inner, x, (zeros, zeros))
        logits = y @ params["fc.weight"].T + params["fc.bias"]
        return logits, optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    return model


def zero_padding(y: Any, case: RecurrentCase) -> Any:
    """Outputs past each row's end set to zero: for libraries that leave there what the padding gave."""
    if case.lengths is None:
        return y
    steps = jnp.arange(case.steps)[:, None] if case.time_major else jnp.arange(case.steps)
    lengths = jnp.asarray(case.lengths) if case.time_major else jnp.asarray(case.lengths)[:, None]
    return jnp.where((steps < lengths)[..., None], y, 0.0)


ALWAYS_A_BIAS = "its cell always has a bias"
ONE_DIRECTION = "it has no bidirectional network"
NO_RNN = "this side is for LSTMs"
NO_PROJECTION = "it has no projection"
