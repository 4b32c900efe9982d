"""Small operations on a step's arrays, shared by the recurrence and its derivative. None stands for what is absent."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def gatewise(cell, z):
    """[..., G] -> one [..., H] array a gate."""
    return tuple(jnp.split(z, cell.num_gates, axis=-1))


def every_step(bias, x):
    """A bias [G] at every step of x, to be added to [T, *batch, G]; laid out over devices as x is.

    A plain broadcast would lie whole on every device of an explicit mesh, and its transpose gather all of dz, only to
    sum it.
    """
    if bias is None:
        return None
    return jnp.zeros_like(x[..., :1], dtype=bias.dtype) + bias.reshape(*(1,) * (x.ndim - 1), -1)


def add(*terms):
    """The sum of the terms that are not None; None if all are."""
    terms = [term for term in terms if term is not None]
    return sum(terms[1:], terms[0]) if terms else None


def cast(plan, state):
    return jax.tree.map(lambda a: a.astype(plan.carry_dtype), state)


def choose(condition, chosen, otherwise, *, default=False):
    """jnp.where over trees; a condition of None is ``default`` everywhere."""
    if condition is None:
        return chosen if default else otherwise
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, otherwise)
