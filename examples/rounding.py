"""What rounding alone may do to a training, measured: a second run whose weights are moved by a rounding at each step.

Programs that compute the same function in another order differ by rounding, and training carries that on, more or
less: how much is a matter of the problem. So it is measured on the problem itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def moved(params: Any, key: jax.Array) -> Any:
    """Every number of a tree moved up or down by its last place: one unit of it, or two."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(
        structure, [a * (1 + jnp.finfo(a.dtype).eps * s) for a, s in zip(leaves, signs, strict=True)]
    )


def apart(losses: Sequence[float], others: Sequence[float]) -> float:
    """The largest relative difference of two curves."""
    return float(np.max(np.abs(np.subtract(losses, others)) / np.abs(others)))
