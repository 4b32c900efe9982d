"""A trained model as files that JAX can read without this package.

    whole.jax       (weights, tokens [b, t]) -> logits [b, t, V]
    step.jax        (weights, token [b], h, c) -> logits [b, V], h, c;  h and c [layers, b, H], initially zeros
    weights.npz     the weights of both, by the names of the torch model's state dict
    alphabet.json   the character of every token

b and t may be any number. The arguments and results of the functions are arrays, so a reader needs no class of this
package. The weights are in a separate file. So a model that is trained further needs no new export.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from examples.files import whole
from jax_lstm import LSTMState, linen

PLATFORMS = ("cpu", "cuda", "tpu")


def sequence_function(model: linen.SequenceModel) -> Callable[[Any, Any], jax.Array]:
    """Return ``(variables, tokens [b, t]) -> logits [b, t, V]``."""
    return lambda variables, tokens: model.apply(variables, tokens)[0]


def step_function(model: linen.SequenceModel) -> Callable[[Any, Any, LSTMState], tuple[jax.Array, LSTMState]]:
    """Return ``(variables, token [b], state) -> logits [b, V], state``."""
    return lambda variables, token, state: model.apply(variables, token, state, method="step")


def write(folder: Path, model: linen.SequenceModel, params: Any, alphabet: str) -> None:
    """Write the four files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: np.asarray(a) for name, a in flatten_dict(params, sep=".").items()}
    for name, exported in zip(("whole", "step"), export_functions(model, weights), strict=True):
        with whole(folder / f"{name}.jax") as file:
            file.write_bytes(exported.serialize())
    with whole(folder / "weights.npz") as file, file.open("wb") as handle:
        np.savez(handle, **weights)
    with whole(folder / "alphabet.json") as file:
        file.write_text(json.dumps(alphabet), encoding="utf-8")


def export_functions(
    model: linen.SequenceModel, weights: dict[str, np.ndarray]
) -> tuple[export.Exported, export.Exported]:
    """Export the model on a whole sequence, and its step. ``weights`` have dotted names, such as "lstm.bias_ih_l0"."""
    variables = lambda weights: {"params": unflatten_dict(weights, sep=".")}

    def read(weights: dict[str, jax.Array], tokens: jax.Array) -> jax.Array:
        return sequence_function(model)(variables(weights), tokens)

    def step(
        weights: dict[str, jax.Array], token: jax.Array, h: jax.Array, c: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits, state = step_function(model)(variables(weights), token, LSTMState(h=h, c=c))
        return logits, state.h, state.c

    scope = export.SymbolicScope()
    any_size = lambda text, dtype: jax.ShapeDtypeStruct(export.symbolic_shape(text, scope=scope), dtype)
    state = any_size(f"{model.num_layers}, b, {model.hidden_size}", model.param_dtype)
    return (
        export.export(jax.jit(read), platforms=PLATFORMS)(weights, any_size("b, t", jnp.int32)),
        export.export(jax.jit(step), platforms=PLATFORMS)(weights, any_size("b", jnp.int32), state, state),
    )
