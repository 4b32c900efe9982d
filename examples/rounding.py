"""How much rounding may change a training, measured by a second run whose weights are perturbed at every step.

Programs that compute the same function in another order differ by rounding, and training amplifies the difference. How
much depends on the problem, so each example measures it on its own problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Tree = TypeVar("Tree")  # of floating-point arrays


def perturbed(params: Tree, key: jax.Array) -> Tree:
    """Return the tree with every number moved up or down, at random, by one or two units in its last place."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(
        structure, [a * (1 + jnp.finfo(a.dtype).eps * s) for a, s in zip(leaves, signs, strict=True)]
    )


def largest_difference(losses: Sequence[float], reference: Sequence[float]) -> float:
    """Return the largest relative difference of two curves."""
    return float(np.max(np.abs(np.subtract(losses, reference)) / np.abs(reference)))
