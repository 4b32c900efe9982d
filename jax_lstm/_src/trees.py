"""Small operations on a step's arrays, shared by the recurrence and its derivative. None stands for what is absent."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from jax_lstm._src.dtypes import accumulation_dtype


def zeros_like(a, dtype=None):
    """Zeros of the shape and the sharding type of ``a``, whatever its values.

    They are a constant, so that a loop around the call does not take them, or a weight that they are added to, for
    something that changes from step to step and has to be kept for the backward pass.

    On an explicit mesh they are made from ``a``. From JAX 0.11 on, jnp.zeros_like loses the sharding there, unless that
    mesh is set. A comparison keeps it, and compilers fold the comparison away. Delete this function when jnp.zeros_like
    keeps the type of its argument under jax.jit without jax.set_mesh.
    """
    if AxisType.Explicit not in jax.typeof(a).sharding.mesh.axis_types:
        return jnp.zeros_like(a, dtype)
    return ((a != a) & False).astype(dtype or a.dtype)


def gatewise(cell, z):
    """[..., G] -> one [..., H] array a gate."""
    return tuple(jnp.split(z, cell.num_gates, axis=-1))


def vary_alike(tree):
    """Return the tree as JAX arrays, all varying over the mesh axes that any of them varies over, and on its mesh.

    Under shard_map, JAX does this for each pair of operands that differ, and the transpose of each such place is a sum
    over devices. In a loop over chunks that is one sum per chunk. Here it happens once, outside the loops. On a mesh
    with explicit axes, the transpose of a product needs the mesh in the types of both factors. What is added is a zero
    of every operand's type, which a compiler drops. No value changes but the sign of a zero.
    """
    tree = jax.tree.map(jnp.asarray, tree)
    zero = sum(zeros_like(jnp.sum(a), jnp.float32) for a in jax.tree.leaves(tree))
    return jax.tree.map(lambda a: a + zero.astype(a.dtype), tree)


def every_step(bias, x):
    """A bias [G] at every step of x, to be added to [T, *batch, G]; laid out over devices as x is.

    A plain broadcast would lie whole on every device of an explicit mesh, and its transpose gather all of dz, only to
    sum it.
    """
    if bias is None:
        return None
    return zeros_like(x[..., :1], bias.dtype) + bias.reshape(*(1,) * (x.ndim - 1), -1)


def add(*terms):
    """The sum of the terms that are not None; None if all are."""
    terms = [term for term in terms if term is not None]
    return sum(terms[1:], terms[0]) if terms else None


def cast(plan, state):
    return jax.tree.map(lambda a: a.astype(plan.carry_dtype), state)


def in_one_dtype(*trees):
    """Return the trees with all arrays in the widest of their dtypes, at least float32; linear in each array."""
    dtype = accumulation_dtype(*(a.dtype for a in jax.tree.leaves(trees)))
    return jax.tree.map(lambda a: a.astype(dtype), trees)


def choose(condition, chosen, otherwise, *, default=False):
    """jnp.where over trees; a condition of None is ``default`` everywhere."""
    if condition is None:
        return chosen if default else otherwise
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, otherwise)


def zero_where(condition, tree):
    """The tree with zeros where the condition holds; linear in the tree. A condition of None holds nowhere."""
    return tree if condition is None else jax.tree.map(lambda a: jnp.where(condition, 0, a), tree)
