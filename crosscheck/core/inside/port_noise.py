"""Rounding inside a port: every equation of its program gets a relative error of a chosen size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from crosscheck.core.inside.jax_signs import signs_in_jax
from crosscheck.core.inside.jaxpr import as_array, bind, equations, location
from crosscheck.core.inside.operations import ABSOLUTE, EXACT_IN_JAX, IN_FLOAT64, JAX_ERRORS, KNOWN, contraction

Place = tuple[str, str]  # the operation and its location


class Noise:
    """A rule for `evaluate`: every result that may be rounded is multiplied by 1 ± the size of its place.

    Attributes:
      places: the operations of the program by location, in order. ``sizes`` has one number for each.
    """

    def __init__(self, places: Sequence[Place], sizes: Any, seed: Any) -> None:
        self.places, self._sizes, self._seed = {place: n for n, place in enumerate(places)}, sizes, seed

    def constant(self, value: Any) -> Any:
        """Return a constant unchanged."""
        return as_array(value)

    def equation(self, eqn: JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
        """Return the results of an equation with a relative error."""
        results = bind(eqn, values)
        if not rounds(eqn):
            return results
        size = self._sizes[self.places[place_of(eqn)]]
        extra = size * ABSOLUTE.get(eqn.primitive.name, 0.0)
        return [self._moved(result, size * _factor(eqn, size), extra) for result in results]

    def call(self, name: str, results: list[Any]) -> list[Any]:
        """Return the results of a call with the error of the function as a whole, if it is inexact."""
        if name not in JAX_ERRORS:
            return results
        size = jnp.max(self._sizes, initial=0.0)
        return [self._moved(result, size * _in_float64(JAX_ERRORS[name], size), 0.0) for result in results]

    def _moved(self, result: Any, size: Any, extra: Any) -> Any:
        if result.dtype == jnp.complex128:
            return jax.lax.complex(self._moved(result.real, size, extra), self._moved(result.imag, size, extra))
        if result.dtype != jnp.float64:
            return result
        return result + (size * result + extra) * signs_in_jax(result, self._seed)


def rounds(eqn: JaxprEqn) -> bool:
    """Return whether an equation may round its results."""
    floating = any(jnp.issubdtype(getattr(v.aval, "dtype", bool), jnp.inexact) for v in eqn.outvars)
    return floating and eqn.primitive.name not in EXACT_IN_JAX


def place_of(eqn: JaxprEqn) -> Place:
    """Return the operation of an equation and its location."""
    return eqn.primitive.name, location(eqn)


def places_of(closed: ClosedJaxpr) -> list[Place]:
    """Return every place of a program that may round, each once."""
    return list(dict.fromkeys(place_of(eqn) for eqn in equations(closed.jaxpr) if rounds(eqn)))


def _factor(eqn: JaxprEqn, size: Any) -> Any:
    """Return how many roundings an equation is worth: more for long sums of products and for inexact functions."""
    name = eqn.primitive.name
    if name == "dot_general":
        (left, _), _ = eqn.params["dimension_numbers"]
        return contraction(int(np.prod([_shape(eqn.invars[0])[n] for n in left])))
    if name == "conv_general_dilated":
        kernel = _shape(eqn.invars[1])
        out = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return contraction(int(np.prod(kernel)) // max(out, 1))
    if name.startswith("scatter"):
        return contraction(int(np.prod(_shape(eqn.invars[2]))) // max(int(np.prod(_shape(eqn.invars[0]))), 1))
    return _in_float64(JAX_ERRORS[name], size) if name in JAX_ERRORS else 1.0


def _in_float64(error: float, size: Any) -> Any:
    """Return what an entry of the table counts as. It holds for float64; for errors of float32's size it is 1."""
    return jnp.where(size < IN_FLOAT64, max(1.0, KNOWN * error), 1.0)


def _shape(atom: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = atom.aval.shape
    return shape
