"""The largest singular value of a linear map that is only applied, to rounding, by restarted bidiagonalisation.

Golub & Kahan (1965): from a start v_1, A and A^T build orthonormal U and V with A V = U B and
A^T U = V B^T + β v' e_m^T, B upper bidiagonal, m x m. The largest singular value σ of B stands for A's, and what it is
off by is known: with r = β |x_m|, x the left vector of B, by at most r, and by about r² / (σ - the next one). Both
bases are orthogonalised anew at every step, twice. Until the smaller bound is within a few roundings of σ the process
starts again from the best right vector; what has not come that far after all restarts is returned as NaN.
No square of A is taken, so that nothing under- or overflows that A itself does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = Any
STEPS = 16  # of one bidiagonalisation
RESTARTS = 100
ROUNDINGS = 8.0  # σ is good to so many eps
NOISE = 16.0  # eps of σ, below which a new direction is none


class _Search(NamedTuple):
    sigma: Array  # []
    right: Array  # [n]
    done: Array  # bool []
    count: Array  # int32 []


def largest_singular_value(
    apply: Callable[[Array], Array], transposed: Callable[[Array], Array], start: Array
) -> tuple[Array, Array]:
    """σ [] of the square map ``apply`` on vectors like ``start [n]``, and its right singular vector [n].

    ``start`` need not have length 1; it must not be orthogonal to the wanted vector. Batches by jax.vmap.
    """
    steps = min(STEPS, start.shape[0])
    eps = jnp.finfo(start.dtype).eps

    def again(search: _Search) -> _Search:
        right, values, rest = _bidiagonalise(apply, transposed, search.right, steps)
        x, sigmas, y = jnp.linalg.svd(values)
        residual = rest * jnp.abs(x[-1, 0])
        gap = sigmas[0] - (sigmas[1] if steps > 1 else 0.0)
        allowed = ROUNDINGS * eps * sigmas[0]
        done = (residual <= allowed) | (residual * residual <= allowed * gap / 4)
        return _Search(sigmas[0], y[0] @ right, done | ~jnp.isfinite(sigmas[0]), search.count + 1)

    first = _Search(jnp.zeros((), start.dtype), start, jnp.array(False), jnp.array(0, jnp.int32))
    found = jax.lax.while_loop(lambda s: ~s.done & (s.count < RESTARTS), again, first)
    return jnp.where(found.done, found.sigma, jnp.nan), found.right


def _bidiagonalise(apply, transposed, start, steps):
    """V [m, n] as rows, B [m, m] and β []. Where the space is exhausted, rows of zeros follow."""
    none = jnp.zeros((steps, start.shape[0]), start.dtype)
    zero = jnp.zeros((), start.dtype)

    def step(carry, k):
        left, right, v, beta, scale = carry
        right = right.at[k].set(v)
        u, alpha, scale = _new_direction(apply(v), left, scale)
        left = left.at[k].set(u)
        v, after, scale = _new_direction(transposed(u), right, scale)
        return (left, right, v, after, scale), (alpha, beta)

    first = (none, none, _unit(start)[0], zero, zero)
    (_, right, _, rest, _), (alphas, betas) = jax.lax.scan(step, first, jnp.arange(steps))
    return right, jnp.diag(alphas) + jnp.diag(betas[1:], 1), rest


def _new_direction(a, rows, scale):
    """What of ``a`` is new beside orthonormal rows, as a unit vector and its length; and the largest length so far.

    What rounding leaves of the old the first time goes the second. Of a map of low rank nothing new comes at some
    step: what is left is the rounding of larger numbers, has no direction, and counts as zero.
    """
    a, size = _unit(a)  # or what is left of tiny numbers would have too few bits for a direction
    scale = jnp.maximum(scale, size)
    for _ in range(2):
        a = a - (rows @ a) @ rows
    unit, length = _unit(a)
    length = length * size
    new = length > NOISE * jnp.finfo(a.dtype).eps * scale
    return jnp.where(new, unit, 0.0), jnp.where(new | jnp.isnan(length), length, 0.0), scale


def _unit(a):
    """a / ‖a‖ and ‖a‖, with the largest entry scaled out; zeros stay zeros."""
    largest = jnp.max(jnp.abs(a))
    safe = jnp.where(largest > 0, largest, 1.0)
    scaled = a / safe
    length = jnp.sqrt(jnp.sum(scaled * scaled))
    return scaled / jnp.where(length > 0, length, 1.0), length * safe
