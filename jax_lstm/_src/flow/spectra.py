"""Largest and smallest singular values of every one-step Jacobian J_t and of every product P_t = J_T ... J_{t+1}.

The smallest singular value of a map is 1 over the largest of its inverse. This keeps its digits also if the two are
far apart. The products and their inverses are carried as matrices, row by row through J^T and column by column through
J^-1. Their outer singular vectors, at step T, change little from one step to the next. Therefore each search starts
from the result of the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, DType, Gates, Precision, Tree
from jax_lstm._src.cell import Cell
from jax_lstm._src.flow.jacobian import Recurrent, backward, forward, inverse, inverse_backward, is_invertible
from jax_lstm._src.flow.scaled import Scaled, scaled
from jax_lstm._src.flow.singular import largest_singular_value

CHUNK = 128  # steps that are searched at once, at most; their Krylov bases then stay in the cache


def step_spectra(
    cell: Cell, weights: Recurrent, coefficients: Gates, precision: Precision = None
) -> tuple[Array, Array]:
    """Return log2 of the largest and the smallest singular value of each J_t, ``[T]`` each.

    ``coefficients`` are ``[T, H]`` each.
    """
    size = coefficients[0].shape[-1] * (2 if cell.has_cell_state else 1)
    start = _start(size, coefficients[0].dtype)

    def one_step(coefficients: Gates) -> tuple[Array, Array]:
        jacobian = (cell, weights, coefficients)
        largest, _ = largest_singular_value(
            partial(forward, *jacobian, precision=precision), partial(backward, *jacobian, precision=precision), start
        )
        usable, safe = _usable(*jacobian)
        of_inverse, _ = largest_singular_value(
            partial(inverse, cell, weights, safe, precision=precision),
            partial(inverse_backward, cell, weights, safe, precision=precision),
            start,
        )
        return jnp.log2(largest), jnp.where(usable, -jnp.log2(of_inverse), -jnp.inf)

    largest, smallest = _map_in_chunks(one_step, coefficients)
    return largest, smallest


def _map_in_chunks(function: Callable[[Any], Tree], steps: Tree) -> Tree:
    """Return ``function`` of every step ``[T, ...]``, mapped over equal chunks.

    The last chunk is filled up by repeating the last step.
    """
    total = jax.tree.leaves(steps)[0].shape[0]
    chunks = -(-total // CHUNK)
    size = -(-total // chunks)

    def cut(a: Array) -> Array:
        filled = jnp.concatenate((a, jnp.repeat(a[-1:], chunks * size - total, axis=0)))
        return filled.reshape(chunks, size, *a.shape[1:])

    results = jax.lax.map(jax.vmap(function), jax.tree.map(cut, steps))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:total], results)


class _Product(NamedTuple):
    """A running product ``[n, n]``, the vector at step T that its search starts from, and whether it is invertible."""

    matrix: Scaled
    vector: Array
    usable: Array


def product_spectra(
    cell: Cell, weights: Recurrent, coefficients: Gates, precision: Precision = None
) -> tuple[Array, Array]:
    """Return log2 of the largest and the smallest singular value of P_0 ... P_T, ``[T + 1]`` each."""
    size = coefficients[0].shape[-1] * (2 if cell.has_cell_state else 1)
    dtype = coefficients[0].dtype
    unit = _Product(scaled(jnp.eye(size, dtype=dtype)), _start(size, dtype), jnp.array(True))

    def step(carry: tuple[_Product, _Product], coefficients: Gates) -> tuple[Any, tuple[Array, Array]]:
        product, inverted = carry
        rows = jax.vmap(partial(backward, cell, weights, coefficients, precision=precision))(product.matrix.value)
        matrix = scaled(rows, product.matrix.power)
        norm, vector = _norm(matrix.value.T, matrix.power, product.vector)
        product = _Product(matrix, vector, product.usable)

        usable, safe = _usable(cell, weights, coefficients)
        usable &= inverted.usable
        columns = jax.vmap(partial(inverse, cell, weights, safe, precision=precision), 1, 1)(inverted.matrix.value)
        matrix = scaled(columns, inverted.matrix.power)
        of_inverse, vector = _norm(matrix.value, matrix.power, inverted.vector)
        inverted = _Product(matrix, vector, usable)
        return (product, inverted), (norm, jnp.where(usable, -of_inverse, -jnp.inf))

    _, (largest, smallest) = jax.lax.scan(step, (unit, unit), coefficients, reverse=True)
    at_last = lambda a: jnp.append(a, jnp.zeros_like(a[:1]))  # P_T is the identity
    return at_last(largest), at_last(smallest)


def _norm(value: Array, power: Array, start: Array) -> tuple[Array, Array]:
    """Return log2 of the largest singular value of ``value * 2**power``, and its right vector."""
    sigma, vector = largest_singular_value(lambda v: value @ v, lambda u: u @ value, start)
    return jnp.log2(sigma) + power.astype(value.dtype), vector


def _usable(cell: Cell, weights: Recurrent, coefficients: Gates) -> tuple[Array, Gates]:
    """Return whether J has an inverse, and the coefficients, replaced by ones if it has none."""
    usable = is_invertible(cell, weights, coefficients)
    return usable, tuple(jnp.where(usable, a, jnp.ones_like(a)) for a in coefficients)


def _start(size: int, dtype: DType) -> Array:
    return jax.random.normal(jax.random.key(size), (size,), dtype)
