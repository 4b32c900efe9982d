"""What a program of a JAX function takes: the arrays of a problem in one dtype, and the values that stay concrete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Problem, is_differentiable, is_static


class Frozen:
    """A value that stays concrete inside jit, so that a function may branch on it. Equality is by content."""

    def __init__(self, value: Any) -> None:
        self.value = value
        is_array = isinstance(value, np.ndarray)
        self._key: Any = (value.dtype.str, value.shape, value.tobytes()) if is_array else (type(value), value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._key == other._key

    def __hash__(self) -> int:
        try:
            return hash(self._key)
        except TypeError:  # a static leaf of a kind that has no hash
            return hash(type(self.value))


@dataclass(frozen=True)
class Layout:
    """What a traced program depends on.

    Attributes:
      dtype: the dtype of all floating-point numbers.
      params: names of the parameters.
      input_names: names of the input leaves, in order.
      inputs: the tree structure of the inputs.
      wrt: the keys to differentiate with respect to. An input's key is "input:" and its name.
      output_names: names of the outputs.
      shapes: shape and dtype of every array by key, and of the cotangents.
      static: values that the function may use as Python values, by key: leaves that are no arrays, and integers if
        it needs their values.
      second_order: Hessian-vector products are asked for.
    """

    dtype: str
    params: tuple[str, ...]
    input_names: tuple[str, ...]
    inputs: Any
    wrt: tuple[str, ...]
    output_names: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], str], ...]
    static: tuple[tuple[str, Frozen], ...]
    second_order: bool


@dataclass(frozen=True)
class Arguments:
    """The arrays of a problem, cast, as a program takes them."""

    floats: dict[str, Any]
    rest: dict[str, Any]
    cotangents: list[Any]
    tangents: dict[str, Any]

    @property
    def parts(self) -> tuple[Any, ...]:
        """The arrays as a program takes them."""
        return self.floats, self.rest, self.cotangents, self.tangents

    @property
    def flat(self) -> list[Any]:
        """All arrays in the order of a jaxpr's parameters."""
        leaves: list[Any] = jax.tree.leaves(self.parts)
        return leaves


def layout_of(problem: Problem, dtype: str, values_are_static: bool = False) -> Layout:
    """Return the layout of a problem in ``dtype``.

    Args:
      problem: the problem.
      dtype: the dtype of all floating-point numbers.
      values_are_static: arrays that are not differentiated are static too.
    """
    wrt = {key_of(name, problem) for name in problem.wrt}
    values = _values(problem)
    static = {key: a for key, a in values.items() if is_static(a) or (values_are_static and key not in wrt)}
    arrays = {key: np.asarray(a) for key, a in values.items() if key not in static}
    return Layout(
        dtype,
        tuple(problem.params),
        problem.input_names,
        jax.tree.structure(problem.inputs),
        tuple(key for key in values if key in wrt),
        problem.output_names,
        tuple((key, a.shape, a.dtype.str) for key, a in arrays.items()),
        tuple((key, Frozen(a if is_static(a) else _concrete(a, dtype))) for key, a in static.items()),
        bool(problem.tangents),
    )


def _concrete(a: Any, dtype: str) -> np.ndarray:
    """Return an array that stays concrete, as JAX has it in a run: without x64, integers have 32 bits."""
    array = np.array(cast_to(a, dtype))  # a copy, since JAX remembers an array in the dtype of a run
    return array if dtype == "float64" else array.astype({"i8": "i4", "u8": "u4"}.get(array.dtype.str[1:], array.dtype))


def arguments_of(problem: Problem, layout: Layout) -> Arguments:
    """Return the arrays of a problem in the layout's dtype.

    Raises:
      CouldNotRun: an integer is too large for JAX without x64 mode.
    """
    static = dict(layout.static)
    values = {key: a for key, a in _values(problem).items() if not is_static(a)}
    wide = [key for key, a in values.items() if layout.dtype != "float64" and _is_wide(np.asarray(a))]
    if wide:
        raise CouldNotRun(
            f"{wide[0].removeprefix('input:')!r} holds integers over 32 bits, which JAX has only in x64 mode."
        )
    cast = {key: cast_to(a, layout.dtype) for key, a in values.items() if key not in static}
    return Arguments(
        {key: a for key, a in cast.items() if key in layout.wrt},
        {key: a for key, a in cast.items() if key not in layout.wrt},
        [cast_to(np.conj(c), layout.dtype) for c in problem.cotangents],
        {key_of(name, problem): cast_to(a, layout.dtype) for name, a in problem.tangents.items()},
    )


def cast_to(a: Any, dtype: str) -> np.ndarray:
    """Return an array with its floating-point numbers in ``dtype``, or in the complex dtype of the same precision."""
    array = np.asarray(a)
    if not is_differentiable(array):
        return array
    if np.iscomplexobj(array):
        return array.astype(np.complex128 if dtype == "float64" else np.complex64)
    return array.astype(jnp.dtype(dtype))


def _values(problem: Problem) -> dict[str, Any]:
    return dict(problem.params) | {input_key(name): a for name, a in problem.input_leaves.items()}


def key_of(name: str, problem: Problem) -> str:
    """Return the key of a parameter or an input."""
    return name if name in problem.params else input_key(name)


def input_key(name: str) -> str:
    """Return the key of an input. A parameter may have the same name."""
    return "input:" + name


def _is_wide(a: np.ndarray) -> bool:
    return a.dtype.kind in "iu" and a.size > 0 and not -(2**31) <= int(a.min()) <= int(a.max()) < 2**31
