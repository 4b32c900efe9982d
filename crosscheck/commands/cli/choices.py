"""The names that options take, for --help and shell completion, which must not wait for two frameworks.

The tables of these names import JAX and torch. A test holds the names equal to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

CASES = (
    "notebook",
    "one-step",
    "stacked",
    "bidirectional",
    "projection",
    "no-bias",
    "lengths",
    "time-major",
    "unbatched",
    "rnn-tanh",
    "rnn-relu",
    "long-1000",
    "long-10000",
    "long-alive",
    "long-vanished",
    "text",
)
MATRIX_CASES = (*CASES[:7], "lengths-above-0", *CASES[7:])
IMPLEMENTATIONS = (
    "jax_lstm",
    "torch_ref",
    "torch.nn.LSTM",
    "jax_lstm[native]",
    "jax_lstm[scan]",
    "torch.nn.LSTM/native",
    "flax.linen",
    "flax.linen.LSTMCell",
    "flax.nnx",
    "flax.nnx.LSTMCell",
    "haiku",
    "equinox",
    "keras",
    "onnxruntime",
)
Loss = Literal["last", "all"]
Optimizer = Literal["sgd", "momentum", "adam", "adamw", "rmsprop"]
Dtype = Literal["float64", "float32", "both"]


def complete_from(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Return the completion of a list of names. It completes the last one, and keeps those before it."""

    def complete(incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names if f"{before}{comma}{name}".startswith(incomplete)]

    return complete
