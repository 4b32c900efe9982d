"""Traces a JAX function forward only, before anything runs: what it returns, and whether it closes over arrays."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.inside.jaxpr import constants
from crosscheck.core.jax_arguments import cast_to
from crosscheck.core.jax_program import NEEDS_VALUES
from crosscheck.core.jax_runner import is_fixed_carry, jax_precision
from crosscheck.core.problem import Arrays, Problem, is_differentiable, is_static


def output_shapes(fn: Callable[..., Any], problem: Problem) -> Any:
    """Return the shapes and dtypes that ``fn`` returns, in its own structure, without running it."""

    def in_dtype(dtype: str) -> Any:
        with jax_precision(dtype):
            return _trace(jax.eval_shape, fn, problem, dtype)

    try:
        return in_dtype("float64")
    except CouldNotRun as error:
        if not is_fixed_carry(error.__cause__):
            raise
        return in_dtype("float32")


def forget_arrays(fn: Callable[..., Any], problem: Problem) -> None:
    """Empty JAX's caches if ``fn`` closes over NumPy arrays.

    JAX (0.10 to 0.12) keeps a copy of such an array, as long as a program that holds it is alive. The copy has the
    dtype of the x64 setting under which JAX first met the array. If the user ran the function in float32 before, it
    would fail in float64, and JAX would never free the copy.
    """
    dtype = str(jax.dtypes.canonicalize_dtype(np.float64))  # in the x64 setting of the user, it does not fail
    try:
        closed = _trace(lambda call, *arguments: jax.make_jaxpr(call)(*arguments), fn, problem, dtype)
    except Exception:  # the check will raise it, with a note
        return
    closes_over = any(isinstance(a, np.ndarray) and a.ndim > 0 for a in constants(closed))
    del closed
    if closes_over:
        jax.clear_caches()
        gc.collect()  # programs in circles of references hold copies too


def _trace(transform: Callable[..., Any], fn: Callable[..., Any], problem: Problem, dtype: str) -> Any:
    """Return what ``transform`` makes of ``fn``. If the function needs the values of integers, it gets them."""
    leaves = list(problem.input_leaves.values())
    arrays = {n: leaf for n, leaf in enumerate(leaves) if not is_static(leaf)}
    params = {name: cast_to(a, dtype) for name, a in problem.params.items()}

    def trace(traced: dict[int, Any], concrete: dict[int, Any]) -> Any:
        def call(params: Arrays, arrays: dict[int, Any]) -> Any:
            known = {**concrete, **arrays}
            return fn(params, *problem.with_leaves([known.get(n, leaf) for n, leaf in enumerate(leaves)]))

        return transform(call, params, {n: cast_to(a, dtype) for n, a in traced.items()})

    try:
        return trace(arrays, {})
    except NEEDS_VALUES:
        floats = {n: a for n, a in arrays.items() if is_differentiable(a)}
        return trace(floats, {n: np.asarray(a) for n, a in arrays.items() if n not in floats})
