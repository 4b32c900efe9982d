"""Floating-point types inside a port that are narrower than float64: found in its jaxpr, and lifted to float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from crosscheck.core.inside.jax_signs import signs_in_jax
from crosscheck.core.inside.jaxpr import (
    as_array,
    bind,
    closed_over,
    constants,
    equations,
    evaluate,
    is_inside_jax,
    is_of_the_judge,
    location,
    with_dependence,
)
from crosscheck.core.inside.operations import EXACT_IN_JAX
from crosscheck.core.signs import is_short

JAX_FUNCTIONS = ("nn", "scipy", "image")  # folders of JAX whose functions choose a dtype themselves
BY_JAX, FROM_CLOSURE = "by a function of JAX", "from an array that the port closes over"
CONSTANT = "from a constant or an integer"
_OF_INTEGERS = ("convert_element_type", "iota")
_KEEPS_DTYPES = ("bitcast_convert_type",)
_CONTAINERS = frozenset({"jit", "pjit", "scan", "while", "cond", "custom_jvp_call", "custom_vjp_call", "checkpoint"})


@dataclass(frozen=True)
class NarrowType:
    """A place at which a program computes in a narrower type than float64.

    Attributes:
      dtype: the narrower dtype.
      where: the file and line.
      excuse: why the port is not to blame, in words; "" if it makes narrow numbers of wide ones itself.
    """

    dtype: str
    where: str
    excuse: str = ""

    def __str__(self) -> str:
        return f"{self.dtype} at {self.where}" + f" ({self.excuse})" * bool(self.excuse)


def narrow_types(closed: ClosedJaxpr) -> list[NarrowType]:
    """Return where a program that is traced in float64 computes in a narrower type, each place once.

    Such a place makes narrow numbers of wide ones or of integers. If there is none, it computes with narrow arrays that
    the function closes over: these keep their dtype, whatever the dtype of the inputs is.
    """
    casts = [
        NarrowType(dtype, location(eqn), _excuse(eqn, depends))
        for eqn, depends in with_dependence(closed)
        if (dtype := _narrows(eqn)) and not is_of_the_judge(eqn)
    ]
    if casts or not any(_is_narrow(v.aval) and np.prod(_shape(v.aval)) > 1 for v in closed_over(closed)):
        return list(dict.fromkeys(casts))
    closures = [
        NarrowType(str(_dtype(v.aval)), location(eqn), FROM_CLOSURE)
        for eqn in equations(closed.jaxpr)
        for v in eqn.outvars
        if _is_narrow(v.aval) and eqn.primitive.name not in EXACT_IN_JAX | _CONTAINERS
    ]
    return list(dict.fromkeys(closures))


def _excuse(eqn: JaxprEqn, depends: bool) -> str:
    return BY_JAX if is_inside_jax(eqn, *JAX_FUNCTIONS) else "" if depends else CONSTANT


def _narrows(eqn: JaxprEqn) -> str:
    """Return the narrow dtype that an equation makes of wide numbers or of integers; "" if it makes none."""
    narrow = [str(_dtype(v.aval)) for v in eqn.outvars if _is_narrow(v.aval)]
    wide = any(_is_wide(v.aval) for v in eqn.invars) and eqn.primitive.name != "jit"
    of_integers = eqn.primitive.name in _OF_INTEGERS and not any(_is_floating(v.aval) for v in eqn.invars)
    return narrow[0] if narrow and (wide or of_integers) else ""


def _dtype(aval: Any) -> Any:
    return getattr(aval, "dtype", None)


def _shape(aval: Any) -> tuple[int, ...]:
    return getattr(aval, "shape", ())


def _is_floating(aval: Any) -> bool:
    return _dtype(aval) is not None and jnp.issubdtype(_dtype(aval), jnp.inexact)


def _is_narrow(aval: Any) -> bool:
    return _is_floating(aval) and _wide(aval.dtype) != aval.dtype


def _is_wide(aval: Any) -> bool:
    return _is_floating(aval) and _wide(aval.dtype) == aval.dtype


def _wide(dtype: Any) -> np.dtype[Any]:
    return np.dtype(np.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else np.float64)


def rounded_constants(closed: ClosedJaxpr) -> bool:
    """Return whether a program has literals or closed-over arrays that were rounded to a narrower type than float64."""
    return any(_is_rounded(np.asarray(value)) for value in constants(closed))


def _is_rounded(value: np.ndarray) -> bool:
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return False
    wide = value.astype(np.float64)
    if value.dtype == np.float64:
        return value.ndim == 0 and _was_float32(wide)
    return not np.all(is_short(wide))


def _was_float32(scalar: np.ndarray) -> bool:
    """Return whether a float64 number is a rounded float32 one: JAX makes such a literal of np.float32(0.3)."""
    with np.errstate(over="ignore"):
        rounded = scalar.astype(np.float32)
    has_many_bits = bool(rounded.view(np.uint32) & 0xFFF)
    return bool(rounded == scalar) and has_many_bits and float(scalar) != round(float(scalar))


class Lift:
    """A rule for `evaluate`: every floating-point number is float64.

    With a size and a seed, constants that were rounded to a narrower type move by their rounding, in units of float32's
    rounding times the size.
    """

    def __init__(self, size: Any = None, seed: Any = None) -> None:
        self._size, self._seed = size, seed

    def constant(self, value: Any) -> Any:
        """Return a constant in float64. A narrow number becomes the shortest decimal that rounds to it, such as 0.1."""
        array = as_array(value)
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            return array
        wide = array.astype(_wide(array.dtype))
        if array.ndim == 0 and wide.dtype == np.float64 and array.dtype != np.float64:
            wide = np.asarray(np.float64(str(array[()])))
        if self._seed is None or not _is_rounded(array):
            return wide
        eps = float(jnp.finfo(np.float32 if array.dtype == np.float64 else array.dtype).eps)
        moves = self._size * eps / float(jnp.finfo(np.float32).eps)
        return wide * (1.0 + moves * signs_in_jax(jnp.asarray(wide), self._seed))

    def equation(self, eqn: JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
        """Return the results of an equation in float64."""
        name = eqn.primitive.name
        if name == "reduce_precision":
            return list(values)
        if name in _KEEPS_DTYPES:
            return [_lifted(result) for result in bind(eqn, _as_declared(eqn, values))]
        params = {key: _wide_param(value) for key, value in eqn.params.items()}
        if "precision" in params and "preferred_element_type" in params:
            params["precision"] = None  # a preset algorithm is for one dtype
        try:
            return bind(eqn, values, **params)
        except (TypeError, ValueError):  # a primitive for these dtypes only
            return [_lifted(result) for result in bind(eqn, _as_declared(eqn, values))]

    def call(self, name: str, results: list[Any]) -> list[Any]:
        """Return the results of a call unchanged."""
        return results


def _wide_param(value: Any) -> Any:
    """Return a parameter of an equation for float64, such as a dtype, or the program of a reduction."""
    if isinstance(value, np.dtype) and jnp.issubdtype(value, jnp.inexact):
        return _wide(value)
    if isinstance(value, ClosedJaxpr):
        return _wide_jaxpr(value)
    if isinstance(value, Jaxpr) and not value.constvars:
        return _wide_jaxpr(ClosedJaxpr(value, [])).jaxpr
    if isinstance(value, tuple):
        parts = map(_wide_param, value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _wide_jaxpr(closed: ClosedJaxpr) -> ClosedJaxpr:
    avals = [v.aval for v in closed.jaxpr.invars]
    wide = [jax.ShapeDtypeStruct(_shape(a), _wide(_dtype(a)) if _is_floating(a) else _dtype(a)) for a in avals]
    return jax.make_jaxpr(lambda *arguments: evaluate(closed, arguments, Lift()))(*wide)


def _as_declared(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    return [
        jnp.asarray(value, _dtype(atom.aval)) if _is_floating(atom.aval) else value
        for value, atom in zip(values, eqn.invars, strict=True)
    ]


def _lifted(value: Any) -> Any:
    return value.astype(_wide(value.dtype)) if jnp.issubdtype(value.dtype, jnp.inexact) else value
