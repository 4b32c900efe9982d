"""Largest and smallest singular values of every one-step Jacobian J_t and of every product P_t = J_T ... J_{t+1}.

The smallest of a map is 1 over the largest of its inverse, which keeps its digits however far the two are apart. The
products and their inverses are carried as matrices, row by row through J^T and column by column through J^-1. From one
step to the next their outer singular vectors, at step T, hardly move: each search starts from the last one's result.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.cell import Cell
from jax_lstm._src.flow.jacobian import Recurrent, backward, forward, inverse, inverse_backward, is_invertible
from jax_lstm._src.flow.scaled import Scaled, scaled
from jax_lstm._src.flow.singular import largest_singular_value

Array = Any
CHUNK = 128  # at most so many steps are searched at once, so that their Krylov bases stay in the cache


def step_spectra(cell: Cell, weights: Recurrent, coefficients: tuple[Array, ...], precision=None):
    """log2 of the largest and the smallest singular value of each J_t, [T] each. coefficients: [T, H] each."""
    size = coefficients[0].shape[-1] * (2 if cell.has_cell_state else 1)
    start = _start(size, coefficients[0].dtype)

    def at(coefficients):
        ways = (cell, weights, coefficients)
        largest, _ = largest_singular_value(
            partial(forward, *ways, precision=precision), partial(backward, *ways, precision=precision), start
        )
        usable, safe = _usable(*ways)
        of_inverse, _ = largest_singular_value(
            partial(inverse, cell, weights, safe, precision=precision),
            partial(inverse_backward, cell, weights, safe, precision=precision),
            start,
        )
        return jnp.log2(largest), jnp.where(usable, -jnp.log2(of_inverse), -jnp.inf)

    return _map_in_chunks(at, coefficients)


def _map_in_chunks(function, steps):
    """``function`` of every step [T, ...], vmapped over equal chunks; the last is filled up with its last step."""
    total = jax.tree.leaves(steps)[0].shape[0]
    chunks = -(-total // CHUNK)
    size = -(-total // chunks)

    def cut(a):
        filled = jnp.concatenate((a, jnp.repeat(a[-1:], chunks * size - total, axis=0)))
        return filled.reshape(chunks, size, *a.shape[1:])

    found = jax.lax.map(jax.vmap(function), jax.tree.map(cut, steps))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:total], found)


class _Product(NamedTuple):
    """A running product [n, n], the vector at step T that its search starts from, and whether it has an inverse."""

    matrix: Scaled
    vector: Array
    usable: Array


def product_spectra(cell: Cell, weights: Recurrent, coefficients: tuple[Array, ...], precision=None):
    """log2 of the largest and the smallest singular value of P_0 ... P_T, [T + 1] each."""
    size = coefficients[0].shape[-1] * (2 if cell.has_cell_state else 1)
    dtype = coefficients[0].dtype
    unit = _Product(scaled(jnp.eye(size, dtype=dtype)), _start(size, dtype), jnp.array(True))

    def step(carry, coefficients):
        product, undone = carry
        rows = jax.vmap(partial(backward, cell, weights, coefficients, precision=precision))(product.matrix.value)
        matrix = scaled(rows, product.matrix.power)
        norm, vector = _norm(matrix.value.T, matrix.power, product.vector)
        product = _Product(matrix, vector, product.usable)

        usable, safe = _usable(cell, weights, coefficients)
        usable &= undone.usable
        columns = jax.vmap(partial(inverse, cell, weights, safe, precision=precision), 1, 1)(undone.matrix.value)
        matrix = scaled(columns, undone.matrix.power)
        of_inverse, vector = _norm(matrix.value, matrix.power, undone.vector)
        undone = _Product(matrix, vector, usable)
        return (product, undone), (norm, jnp.where(usable, -of_inverse, -jnp.inf))

    _, logs = jax.lax.scan(step, (unit, unit), coefficients, reverse=True)
    return jax.tree.map(lambda a: jnp.append(a, jnp.zeros_like(a[:1])), logs)


def _norm(value, power, start):
    """log2 of the largest singular value of ``value * 2**power``, and its right vector."""
    sigma, vector = largest_singular_value(lambda v: value @ v, lambda u: u @ value, start)
    return jnp.log2(sigma) + power.astype(value.dtype), vector


def _usable(cell, weights, coefficients):
    """Whether J has an inverse, and coefficients that divide nothing by zero where it has none."""
    usable = is_invertible(cell, weights, coefficients)
    return usable, jax.tree.map(lambda a: jnp.where(usable, a, jnp.ones_like(a)), coefficients)


def _start(size, dtype):
    return jax.random.normal(jax.random.key(size), (size,), dtype)
