"""Runs a JAX function on a problem: outputs, and gradients by jax.vjp, in one jitted program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crosscheck.core.errors import first_line
from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Arrays, Gradient, Problem, Results


def run_jax(fn: Callable[..., Any], problem: Problem, dtype: str) -> Results:
    """Run ``fn(params, *inputs)``, jitted.

    Args:
      fn: the function.
      problem: the problem.
      dtype: of everything that is floating point.

    Returns:
      Outputs, then gradients, as NumPy. They leave the x64 context as NumPy: outside of it an eager operation would
      round them.

    Raises:
      CouldNotRun: the function cannot run so.
    """
    with jax_precision(dtype):
        return _run(fn, problem, dtype)


def output_structure(fn: Callable[..., Any], problem: Problem) -> Any:
    """Return the tree structure of what ``fn`` returns, without running it."""
    with jax_precision("float64"):
        return jax.tree.structure(jax.eval_shape(fn, dict(problem.params), *problem.inputs))


@contextmanager
def jax_precision(dtype: str) -> Iterator[None]:
    """Set what a run in ``dtype`` needs: products at the highest precision, and x64 mode only for float64.

    Raises:
      CouldNotRun: the function in the block cannot run so.
    """
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        try:
            yield
        except (TypeError, ValueError) as error:
            raise CouldNotRun(f"the JAX function could not run in {dtype}: {_advice(error)}") from error


def _advice(error: Exception) -> str:
    message, first = str(error), first_line(error)
    if "carry" in message and "float32" in message and "float64" in message:
        return f"the dtype of its loop's carry is fixed. Make the initial carry from the inputs' dtype. ({first})"
    if "same dtypes" in message or "verifier errors" in message:
        return (
            "it mixes dtypes. Does it close over an array? JAX remembers it in the dtype of the x64 setting under "
            f"which it first met it: pass the array as an input instead. ({first})"
        )
    return first


def _run(fn: Callable[..., Any], problem: Problem, dtype: str) -> Results:
    floats, rest = _split(problem, dtype)
    cotangents = [np.asarray(c, dtype) for c in problem.cotangents]
    layout = _Layout(
        dtype,
        tuple(problem.params),
        problem.input_names,
        jax.tree.structure(problem.inputs),
        problem.output_names,
        tuple((name, _Frozen(np.array(a))) for name, a in rest.items()),
    )
    make = _program if _is_hashable(fn) else _program.__wrapped__
    outputs, gradients = make(fn, layout)(floats, cotangents)
    result: Results = {name: np.asarray(o) for name, o in zip(problem.output_names, outputs, strict=True)}
    for name in problem.wrt:
        key = name if name in problem.params else _input(name)
        result[Gradient(name)] = np.asarray(gradients[key])
    return result


@dataclass(frozen=True)
class _Layout:
    """What a compiled program depends on, besides its arguments.

    The dtype is a part of it because of the arrays that stay concrete: JAX remembers an array in the dtype of the x64
    setting under which it first met the array.
    """

    dtype: str
    params: tuple[str, ...]
    input_names: tuple[str, ...]
    inputs: Any
    output_names: tuple[str, ...]
    rest: tuple[tuple[str, _Frozen], ...]


class _Frozen:
    """An array that stays concrete inside jit, so that a function may branch on it. Equality is by content."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value
        self._key = (value.dtype.str, value.shape, value.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=16)
def _program(fn: Callable[..., Any], layout: _Layout) -> Callable[..., Any]:
    """Return the jitted (floats, cotangents) -> (outputs, gradients by name)."""
    rest = {name: frozen.value for name, frozen in layout.rest}

    def call(floats: dict[str, Any]) -> list[Any]:
        values = {**floats, **rest}
        params = {name: values[name] for name in layout.params}
        inputs = jax.tree.unflatten(layout.inputs, [values[_input(name)] for name in layout.input_names])
        return jax.tree.leaves(fn(params, *inputs))

    def value_and_pullback(floats: dict[str, Any], cotangents: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        outputs, pullback = jax.vjp(call, floats)
        if len(outputs) != len(layout.output_names):
            raise CouldNotRun(f"the JAX function returned {len(outputs)} arrays, expected {layout.output_names}.")
        for name, output, cotangent in zip(layout.output_names, outputs, cotangents, strict=True):
            if output.shape != cotangent.shape:
                raise CouldNotRun(
                    f"{name!r} has shape {output.shape} from the JAX function "
                    f"and {cotangent.shape} from the torch module."
                )
        (gradients,) = pullback([_cotangent(c, o) for c, o in zip(cotangents, outputs, strict=True)])
        return outputs, gradients

    return jax.jit(value_and_pullback)


def _cotangent(cotangent: Any, output: Any) -> Any:
    if jnp.issubdtype(output.dtype, jnp.floating):
        return cotangent.astype(output.dtype)
    return np.zeros(output.shape, jax.dtypes.float0)


def _is_hashable(fn: Any) -> bool:
    try:
        hash(fn)
    except TypeError:
        return False
    return True


def _input(name: str) -> str:
    """Return the key of an input. A parameter may have the same name."""
    return "input:" + name


def _split(problem: Problem, dtype: str) -> tuple[Arrays, Arrays]:
    """Return the arrays to differentiate with respect to, and all others, cast."""
    values = dict(problem.params) | {_input(name): a for name, a in problem.input_leaves.items()}
    wrt = {name if name in problem.params else _input(name) for name in problem.wrt}
    wide = [name for name, a in values.items() if dtype == "float32" and _is_wide(np.asarray(a))]
    if wide:
        raise CouldNotRun(
            f"{wide[0].removeprefix('input:')!r} holds integers over 32 bits, which JAX has only in x64 mode."
        )
    cast = {
        name: np.asarray(a, dtype=dtype) if np.asarray(a).dtype.kind == "f" else np.asarray(a)
        for name, a in values.items()
    }
    return {n: a for n, a in cast.items() if n in wrt}, {n: a for n, a in cast.items() if n not in wrt}


def _is_wide(a: np.ndarray) -> bool:
    return a.dtype.kind in "iu" and a.size > 0 and not -(2**31) <= int(a.min()) <= int(a.max()) < 2**31
