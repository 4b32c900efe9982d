"""One problem: weights, inputs and cotangents as canonical float64 NumPy, each quantity with a name.

Every side casts from here to the dtype of its lane. Integer and bool leaves are never cast, perturbed or
differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from crosscheck.core.slices import Cut

Arrays = dict[str, np.ndarray]
_GRADIENT = "grad "


@dataclass(frozen=True)
class Problem:
    """What is computed, before any framework.

    params: weights by name. inputs: a tuple of pytrees of arrays; input_names name their leaves in order.
    cotangents: one array an output leaf, in the order of output_names. wrt: the params and inputs to differentiate by.
    steps: T, over which rounding accumulates. cuts: how quantities fall into slices, by their names.
    """

    params: Mapping[str, np.ndarray]
    inputs: tuple[Any, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    cotangents: tuple[np.ndarray, ...]
    wrt: tuple[str, ...]
    steps: int = 1
    cuts: Mapping[str, Cut] = field(default_factory=dict)

    def __post_init__(self):
        names = [*self.output_names, *map(gradient_name, self.wrt)]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"output_names must differ from one another and from the gradients' names; got {twice}.")

    @property
    def input_leaves(self) -> dict[str, np.ndarray]:
        return dict(zip(self.input_names, jax.tree.leaves(self.inputs), strict=True))

    def with_leaves(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """The inputs' structure around other leaves, such as tensors."""
        return jax.tree.unflatten(jax.tree.structure(self.inputs), list(leaves))

    def perturbed(self, rng: np.random.Generator, size: float) -> Problem:
        """Every floating-point number off by a factor 1 ± ``size``, signs at random."""

        def off(a):
            return a * (1 + size * rng.choice((-1.0, 1.0), np.shape(a))) if is_floating(a) else a

        return replace(
            self,
            params={name: off(a) for name, a in self.params.items()},
            inputs=jax.tree.map(off, self.inputs),
            cotangents=tuple(map(off, self.cotangents)),
        )

    def scaled(self, factor: float) -> Problem:
        """The same with cotangents times ``factor``; exact for a power of two."""
        return replace(self, cotangents=tuple(factor * a for a in self.cotangents))


def is_floating(a: Any) -> bool:
    return np.issubdtype(np.asarray(a).dtype, np.floating)


def canonical(a: Any) -> np.ndarray:
    """A float64 NumPy copy; integers and bools keep their dtype."""
    if hasattr(a, "detach"):
        a = a.detach().cpu()
        a = a.double().numpy() if a.is_floating_point() else a.numpy()
    a = np.asarray(a)
    kind = a.dtype.kind
    if kind in "biu":
        return np.array(a)
    if kind == "c" or kind in "OSU":
        raise TypeError(f"arrays must be real numbers, integers or bools; got dtype {a.dtype}.")
    return np.array(a, dtype=np.float64)  # bfloat16 and float16 included


def gradient_name(name: str) -> str:
    return f"{_GRADIENT}{name}"


def is_gradient(quantity: str) -> bool:
    return quantity.startswith(_GRADIENT)


def differentiated(quantity: str) -> str:
    """Return the name of what a gradient is the gradient of; an output's name stays as it is."""
    return quantity.removeprefix(_GRADIENT)
