"""What is computed, before any framework: weights, inputs and cotangents as float64 NumPy, and the names of quantities.

Each run casts from here to the dtype of its precision check. Integer and bool leaves are never cast, perturbed or
differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import numpy as np

from crosscheck.core.slices import Slicing


@dataclass(frozen=True)
class Gradient:
    """The gradient with respect to the parameter or input named ``of``, as a quantity beside the outputs."""

    of: str

    def __str__(self) -> str:
        return f"grad {self.of}"


Quantity: TypeAlias = str | Gradient  # an output by its name, or a gradient
Arrays: TypeAlias = dict[str, np.ndarray]
Results: TypeAlias = dict[Quantity, np.ndarray]  # what an implementation computes


def is_gradient(quantity: Quantity) -> bool:
    """Return whether a quantity is a gradient."""
    return isinstance(quantity, Gradient)


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
      params: weights by name.
      inputs: a tuple of pytrees of arrays.
      input_names: names of the leaves of ``inputs``, in order.
      output_names: names of the outputs, in order.
      cotangents: one array per output, in the same order.
      wrt: names of the params and inputs to differentiate with respect to.
      steps: T, over which rounding accumulates.
      slicings: how quantities fall into slices.
    """

    params: Mapping[str, np.ndarray]
    inputs: tuple[Any, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    cotangents: tuple[np.ndarray, ...]
    wrt: tuple[str, ...]
    steps: int = 1
    slicings: Mapping[Quantity, Slicing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [*self.output_names, *(str(Gradient(name)) for name in self.wrt)]  # readers must tell them apart
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"output_names must differ from one another and from the gradients' names; got {twice}.")

    @property
    def input_leaves(self) -> dict[str, np.ndarray]:
        """The arrays of ``inputs`` by name."""
        return dict(zip(self.input_names, jax.tree.leaves(self.inputs), strict=True))

    def with_leaves(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """Return the structure of ``inputs`` around other leaves, such as tensors."""
        unflattened: tuple[Any, ...] = jax.tree.unflatten(jax.tree.structure(self.inputs), list(leaves))
        return unflattened

    def perturbed(self, rng: np.random.Generator, size: float) -> Problem:
        """Return the problem with every floating-point number times 1 ± ``size``, signs at random."""

        def perturb(a: Any) -> Any:
            return a * (1 + size * rng.choice((-1.0, 1.0), np.shape(a))) if is_floating(a) else a

        return replace(
            self,
            params={name: perturb(a) for name, a in self.params.items()},
            inputs=jax.tree.map(perturb, self.inputs),
            cotangents=tuple(map(perturb, self.cotangents)),
        )

    def scaled(self, factor: float) -> Problem:
        """Return the problem with cotangents times ``factor``. This is exact for a power of two."""
        return replace(self, cotangents=tuple(factor * a for a in self.cotangents))


def is_floating(a: Any) -> bool:
    """Return whether ``a`` holds floating-point numbers."""
    return np.issubdtype(np.asarray(a).dtype, np.floating)


def canonical(a: Any) -> np.ndarray:
    """Return a float64 NumPy copy. Integers and bools keep their dtype.

    Raises:
      TypeError: ``a`` holds complex numbers, or no numbers.
    """
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
