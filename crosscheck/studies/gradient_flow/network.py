"""The networks of the study, as NumPy: weights, one input sequence, and the cotangent of the last h."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

import jax_lstm
from crosscheck.core.jax_runner import jax_precision
from jax_lstm._src.elman import Nonlinearity

CellKind: TypeAlias = Literal["rnn", "lstm"]
FEATURES = 8
SMALL_NORM, LARGE_SCALE = 0.9, 2.5  # ‖W_hh‖ of one RNN, and a factor on the W_hh of another
FORGET_BIASES = ("0", "1", "3", "chrono")


@dataclass(frozen=True)
class FlowNetwork:
    """One layer and what it is measured on.

    Attributes:
      name: the name in tables.
      label: the name in a legend beside others of its kind.
      kind: the cell.
      params: weights by torch's names.
      x: the input, `[T, D]`.
      dh: the cotangent of h_T, `[H]`.
      nonlinearity: the nonlinearity of an RNN.
    """

    name: str
    label: str
    kind: CellKind
    params: dict[str, np.ndarray]
    x: np.ndarray
    dh: np.ndarray
    nonlinearity: Nonlinearity = "tanh"

    @property
    def steps(self) -> int:
        """T."""
        return len(self.x)


def study_networks(length: int, hidden: int, seed: int) -> list[FlowNetwork]:
    """Return four RNNs and an LSTM per forget bias, on one input sequence with one cotangent, in float64.

    All weights are torch's U(±1/√H). The RNNs share theirs, except for the scale of W_hh. A forget bias replaces the
    sum of the forget gate's two biases. "chrono" draws it from log U(1, T - 1), and the input gate's is its negative.
    """
    rng = np.random.default_rng([seed, 0xF10])
    common: dict[str, Any] = {"x": rng.normal(size=(length, FEATURES)), "dh": rng.normal(size=hidden)}
    plain = initial_params("rnn", FEATURES, hidden, seed)
    w_hh = plain["weight_hh_l0"]
    norm = float(np.linalg.norm(w_hh, 2))
    rnns: tuple[tuple[str, Nonlinearity, float], ...] = (
        ("tanh", "tanh", 1.0),
        (f"tanh, ‖W_hh‖ = {SMALL_NORM}", "tanh", SMALL_NORM / norm),
        ("relu", "relu", 1.0),
        (f"relu, {LARGE_SCALE} W_hh", "relu", LARGE_SCALE),
    )
    networks = [
        FlowNetwork(f"RNN {label}", label, "rnn", plain | {"weight_hh_l0": factor * w_hh}, nonlinearity=phi, **common)
        for label, phi, factor in rnns
    ]
    for bias in FORGET_BIASES:
        params = initial_params("lstm", FEATURES, hidden, seed, f"chrono:{length}" if bias == "chrono" else float(bias))
        networks.append(FlowNetwork(f"LSTM, forget bias {bias}", f"bias {bias}", "lstm", params, **common))
    return networks


def initial_params(
    kind: CellKind, features: int, hidden: int, seed: int, forget_bias: float | str | None = None
) -> dict[str, np.ndarray]:
    """Return weights by jax_lstm's initialisation in float64, as NumPy."""
    with jax_precision("float64"):
        key = jax.random.key(seed)
        if kind == "rnn":
            params = jax_lstm.init_rnn(key, features, hidden, dtype="float64")
        else:
            params = jax_lstm.init_lstm(key, features, hidden, forget_bias=forget_bias, dtype="float64")
        return {name: np.asarray(a) for name, a in params.items()}
