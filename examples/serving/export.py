"""A trained model as files that JAX alone can read.

    whole.jax       (weights, tokens [b, t]) -> logits [b, t, V]
    step.jax        (weights, token [b], h, c) -> logits [b, V], h, c;  h and c [layers, b, H], zeros at the start
    weights.npz     the weights of both, under the names of the torch model's state dict
    alphabet.json   the character of every token

b and t stand for any number. The functions take and give arrays alone, so a reader needs no class of this package;
the weights lie beside them, so that a model trained further needs no new export.
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

from jax_lstm import LSTMState, linen
from jax_lstm._src.files import whole, write_whole

PLATFORMS = ("cpu", "cuda", "tpu")


def whole_of(model: linen.SequenceModel) -> Callable[..., Any]:
    return lambda variables, tokens: model.apply(variables, tokens)[0]


def step_of(model: linen.SequenceModel) -> Callable[..., Any]:
    return lambda variables, token, state: model.apply(variables, token, state, method="step")


def write(folder: Path, model: linen.SequenceModel, params: Any, alphabet: str) -> None:
    """Writes the four files, each whole or not at all. OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: np.asarray(a) for name, a in flatten_dict(params, sep=".").items()}
    for name, exported in zip(("whole", "step"), functions(model, weights), strict=True):
        with whole(folder / f"{name}.jax") as file:
            file.write_bytes(exported.serialize())
    with whole(folder / "weights.npz") as file, file.open("wb") as handle:
        np.savez(handle, **weights)
    write_whole(folder / "alphabet.json", json.dumps(alphabet))


def functions(model: linen.SequenceModel, weights: dict[str, Any]) -> tuple[export.Exported, export.Exported]:
    """The model on a whole sequence and by one step, for weights by names that join the model's own with "."."""
    variables = lambda weights: {"params": unflatten_dict(weights, sep=".")}

    def read(weights, tokens):
        return whole_of(model)(variables(weights), tokens)

    def step(weights, token, h, c):
        logits, state = step_of(model)(variables(weights), token, LSTMState(h=h, c=c))
        return logits, state.h, state.c

    scope = export.SymbolicScope()
    any_size = lambda text, dtype: jax.ShapeDtypeStruct(export.symbolic_shape(text, scope=scope), dtype)
    row = any_size(f"{model.num_layers}, b, {model.hidden_size}", model.param_dtype)
    return (
        export.export(jax.jit(read), platforms=PLATFORMS)(weights, any_size("b, t", jnp.int32)),
        export.export(jax.jit(step), platforms=PLATFORMS)(weights, any_size("b", jnp.int32), row, row),
    )
