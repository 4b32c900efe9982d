"""The state of a training as named arrays, with the same names in both frameworks."""

from __future__ import annotations

import numpy as np

from crosscheck.core.norms import row_norms

State = dict[str, np.ndarray]  # parameters by name, slots as "exp_avg fc.bias", "step", and the last step's numbers
LOSS, GRADIENT_NORM, VALIDATION = "loss", "gradient norm", "validation loss"


def carried(state: State) -> State:
    """Return what the next step starts from: all but the numbers that the last step reported."""
    return {name: value for name, value in state.items() if name not in (LOSS, GRADIENT_NORM, VALIDATION)}


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the norms of a − b in float64, `[2]`."""
    return size(np.asarray(a, np.float64) - np.asarray(b, np.float64))


def size(a: np.ndarray) -> np.ndarray:
    """Return both norms, `[2]`."""
    return row_norms(np.asarray(a, np.float64).reshape(1, -1))[:, 0]


def nudged(state: State, rng: np.random.Generator, factor: float) -> State:
    """Return the state with every number times 1 ± ``factor``, except the number of steps."""

    def nudge(a: np.ndarray) -> np.ndarray:
        return a * (1 + factor * (2.0 * rng.integers(0, 2, a.shape, dtype=np.int8) - 1))

    return {name: a if name == "step" else nudge(a) for name, a in carried(state).items()}
