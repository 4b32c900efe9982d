"""What is computed, before any framework: weights, inputs and cotangents as float64 NumPy, and the names of quantities.

Each run casts from here to the dtype of its precision check. Complex numbers are complex128 here, and complex64 in
float32. Integers and bools are never cast, perturbed or differentiated. Leaves of the inputs that are no arrays, such
as an axis or the name of a mode, are static: both sides receive them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import numpy as np

from crosscheck.core.signs import has_ties, signs_of
from crosscheck.core.slices import Slicing


@dataclass(frozen=True)
class Gradient:
    """The gradient with respect to the parameter or input named `of`, as a quantity beside the outputs.

    Attributes:
      of: the name of the parameter or input.
      order: 1 for the gradient, 2 for the Hessian-vector product along the problem's tangents.

    Examples:
      >>> import crosscheck
      >>> str(crosscheck.Gradient("weight")), str(crosscheck.Gradient("weight", order=2))
      ('grad weight', 'hessian-vector product weight')
    """

    of: str
    order: int = 1

    def __str__(self) -> str:
        return f"grad {self.of}" if self.order == 1 else f"hessian-vector product {self.of}"


Quantity: TypeAlias = str | Gradient  # an output by its name, or a gradient
Arrays: TypeAlias = dict[str, np.ndarray]
Results: TypeAlias = dict[Quantity, np.ndarray]  # what an implementation computes


def is_gradient(quantity: Quantity) -> bool:
    """Return whether a quantity is a gradient, or a Hessian-vector product."""
    return isinstance(quantity, Gradient)


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
      params: weights by name.
      inputs: a tuple of pytrees of arrays and of static leaves.
      input_names: names of the leaves of ``inputs``, in order.
      output_names: names of the outputs, in order.
      cotangents: one array per output, in the same order.
      wrt: names of the params and inputs to differentiate with respect to.
      steps: T, over which rounding accumulates.
      slicings: how quantities fall into slices.
      tangents: one array per name in ``wrt``, along which Hessian-vector products are taken; empty if none are asked
        for.
    """

    params: Mapping[str, np.ndarray]
    inputs: tuple[Any, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    cotangents: tuple[np.ndarray, ...]
    wrt: tuple[str, ...]
    steps: int = 1
    slicings: Mapping[Quantity, Slicing] = field(default_factory=dict)
    tangents: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [*self.output_names, *map(str, self.gradients)]  # readers must tell them apart
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"output_names must differ from one another and from the gradients' names; got {twice}.")

    @property
    def gradients(self) -> tuple[Gradient, ...]:
        """The gradients, then the Hessian-vector products if they are asked for."""
        orders = (1, 2) if self.tangents else (1,)
        return tuple(Gradient(name, order) for order in orders for name in self.wrt)

    @property
    def input_leaves(self) -> dict[str, Any]:
        """The leaves of ``inputs`` by name: arrays, and static ones."""
        return dict(zip(self.input_names, jax.tree.leaves(self.inputs), strict=True))

    def with_leaves(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """Return the structure of ``inputs`` around other leaves, such as tensors."""
        unflattened: tuple[Any, ...] = jax.tree.unflatten(jax.tree.structure(self.inputs), list(leaves))
        return unflattened

    def perturbed(self, rng: np.random.Generator, size: float) -> Problem:
        """Return the problem with every floating-point number times 1 ± ``size``, signs at random.

        The real and the imaginary part of a complex number move independently. Equal numbers move equally in an array
        that has ties, so that a maximum keeps its winner.
        """
        seed = int(rng.spawn(1)[0].integers(2**62))

        def perturb(a: Any) -> Any:
            if not is_differentiable(a):
                return a
            if np.iscomplexobj(a):
                return complex_from_pairs(perturb(real_pairs(a)))
            signs = signs_of(a, seed) if has_ties(a) else rng.choice((-1.0, 1.0), np.shape(a))
            return a * (1 + size * signs)

        return replace(
            self,
            params={name: perturb(a) for name, a in self.params.items()},
            inputs=jax.tree.map(perturb, self.inputs),
            cotangents=tuple(map(perturb, self.cotangents)),
            tangents={name: perturb(a) for name, a in self.tangents.items()},
        )

    def scaled(self, factor: float) -> Problem:
        """Return the problem with cotangents times ``factor``. This is exact for a power of two."""
        return replace(self, cotangents=tuple(factor * a for a in self.cotangents))


def is_static(leaf: Any) -> bool:
    """Return whether a leaf of the inputs is no array: an int, a bool, a string, or an object of another kind.

    Python floats and complex numbers are arrays. They are cast, perturbed and differentiated.
    """
    return not isinstance(leaf, np.ndarray | np.generic | jax.Array | float | complex) and not hasattr(leaf, "detach")


def is_differentiable(a: Any) -> bool:
    """Return whether ``a`` holds real or complex floating-point numbers."""
    return not is_static(a) and np.issubdtype(np.asarray(a).dtype, np.inexact)


def real_pairs(a: np.ndarray) -> np.ndarray:
    """Return complex numbers as real ones, with a last axis of two: real, imaginary. Others stay as they are."""
    return np.stack([a.real, a.imag], -1) if np.iscomplexobj(a) else a


def complex_from_pairs(pairs: np.ndarray) -> np.ndarray:
    """Return complex numbers from pairs of real ones; the inverse of `real_pairs`."""
    real, imaginary = np.moveaxis(pairs, -1, 0)
    numbers: np.ndarray = real + 1j * imaginary
    return numbers


def canonical(a: Any) -> np.ndarray:
    """Return a float64 NumPy copy, or a complex128 one of complex numbers. Integers and bools keep their dtype.

    Raises:
      TypeError: ``a`` holds no numbers.
    """
    if hasattr(a, "detach"):
        a = a.detach().cpu().resolve_conj().resolve_neg()
        a = a.double().numpy() if a.is_floating_point() else a.numpy()
    if isinstance(a, jax.Array) and jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
        raise TypeError(
            "arrays must hold numbers or bools; got a PRNG key. Make the key inside jax_fn, or pass "
            "jax.random.key_data(key)."
        )
    a = np.asarray(a)
    kind = a.dtype.kind
    if kind in "biu":
        return np.array(a, dtype=a.dtype.newbyteorder("="))
    if kind in "OSU":
        raise TypeError(f"arrays must hold numbers or bools; got dtype {a.dtype}.")
    return np.array(a, dtype=np.complex128 if kind == "c" else np.float64)  # bfloat16 and float16 included
