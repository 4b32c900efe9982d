"""Runs a JAX function on a problem: outputs, and gradients by jax.vjp of the jitted function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.problem import Arrays, Problem, gradient_name


def run_jax(fn: Callable[..., Any], problem: Problem, dtype: str) -> Arrays:
    """``fn(params, *inputs)`` with everything floating in ``dtype``; named outputs, then named gradients, as NumPy.

    Products run at the highest precision, and x64 mode is on for float64 alone. Results leave as NumPy inside the
    x64 context: outside of it an eager operation would round them.
    """
    with jax_lane(dtype):
        return _run(fn, problem, dtype)


def output_structure(fn: Callable[..., Any], problem: Problem) -> Any:
    """The tree structure of what ``fn`` returns, without running it."""
    with jax_lane("float64"):
        return jax.tree.structure(jax.eval_shape(fn, dict(problem.params), *problem.inputs))


@contextmanager
def jax_lane(dtype: str) -> Iterator[None]:
    """The settings of a lane; what cannot run in it says so."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        try:
            yield
        except (TypeError, ValueError) as error:
            raise CouldNotRun(f"the JAX function could not run in {dtype}: {_advice(str(error))}") from error


def _advice(message):
    first = message.splitlines()[0]
    if "carry" in message and "float32" in message and "float64" in message:
        return f"the dtype of its loop's carry is fixed. Make the initial carry from the inputs' dtype. ({first})"
    if "same dtypes" in message or "verifier errors" in message:
        return (
            "it mixes dtypes. Does it close over an array? JAX remembers it in the dtype of the x64 setting under "
            f"which it first met it: pass the array as an input instead. ({first})"
        )
    return first


def _run(fn, problem, dtype):
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
    result = {name: np.asarray(o) for name, o in zip(problem.output_names, outputs, strict=True)}
    for name in problem.wrt:
        key = name if name in problem.params else _input(name)
        result[gradient_name(name)] = np.asarray(gradients[key])
    return result


@dataclass(frozen=True)
class _Layout:
    """What a compiled program depends on beside its arguments.

    The dtype is in it for what stays concrete: JAX remembers an array in the dtype of the setting that it first met.
    """

    dtype: str
    params: tuple[str, ...]
    input_names: tuple[str, ...]
    inputs: Any
    output_names: tuple[str, ...]
    rest: tuple[tuple[str, _Frozen], ...]


class _Frozen:
    """An array that stays concrete inside jit, so that a function may branch on it; equal by content."""

    def __init__(self, value: np.ndarray):
        self.value = value
        self._key = (value.dtype.str, value.shape, value.tobytes())

    def __eq__(self, other):
        return isinstance(other, _Frozen) and self._key == other._key

    def __hash__(self):
        return hash(self._key)


@lru_cache(maxsize=16)
def _program(fn, layout: _Layout):
    """(floats, cotangents) -> (outputs, gradients by name), jitted."""
    rest = {name: frozen.value for name, frozen in layout.rest}

    def call(floats):
        values = {**floats, **rest}
        params = {name: values[name] for name in layout.params}
        inputs = jax.tree.unflatten(layout.inputs, [values[_input(name)] for name in layout.input_names])
        return jax.tree.leaves(fn(params, *inputs))

    def value_and_pullback(floats, cotangents):
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


def _cotangent(cotangent, output):
    if jnp.issubdtype(output.dtype, jnp.floating):
        return cotangent.astype(output.dtype)
    return np.zeros(output.shape, jax.dtypes.float0)


def _is_hashable(fn):
    try:
        hash(fn)
    except TypeError:
        return False
    return True


def _input(name):
    """Keys of inputs, apart from those of params that may have the same name."""
    return "input:" + name


def _split(problem, dtype):
    values = dict(problem.params) | {_input(name): a for name, a in problem.input_leaves.items()}
    wrt = {name if name in problem.params else _input(name) for name in problem.wrt}
    wide = [name for name, a in values.items() if dtype == "float32" and _is_wide(np.asarray(a))]
    if wide:
        raise CouldNotRun(
            f"{wide[0].removeprefix('input:')!r} holds integers over 32 bits, which JAX has in x64 alone."
        )
    cast = {
        name: np.asarray(a, dtype=dtype) if np.asarray(a).dtype.kind == "f" else np.asarray(a)
        for name, a in values.items()
    }
    return {n: a for n, a in cast.items() if n in wrt}, {n: a for n, a in cast.items() if n not in wrt}


def _is_wide(a):
    return a.dtype.kind in "iu" and a.size > 0 and not -(2**31) <= int(a.min()) <= int(a.max()) < 2**31
