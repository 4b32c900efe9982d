"""Small operations on trees of arrays for the recurrence and its derivative. None stands for an absent array."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from jax_lstm._src.arrays import Array, DTypeLike, Gates, Tree
from jax_lstm._src.cell import Cell
from jax_lstm._src.dtypes import accumulation_dtype, cast_floating

T = TypeVar("T")


def zeros_like(a: Array, dtype: DTypeLike | None = None) -> Array:
    """Return zeros of the shape and the sharding type of ``a``, independent of its values.

    The zeros are a constant. If they depended on ``a``, a loop around the call would treat them, or a weight that they
    are added to, as something that changes from step to step, and would store it for the backward pass.

    Why this is not jnp.zeros_like: from JAX 0.11 on, jnp.zeros_like loses the sharding of an explicit mesh unless that
    mesh is set. On such a mesh the zeros come from a comparison, which keeps the sharding and which compilers remove.
    Delete this function when jnp.zeros_like keeps the type of its argument under jax.jit without jax.set_mesh: then
    tests/jax_lstm/test_default_mesh.py passes without it.
    """
    if AxisType.Explicit not in jax.typeof(a).sharding.mesh.axis_types:
        return jnp.zeros_like(a, dtype)
    return ((a != a) & False).astype(dtype or a.dtype)


def split_gates(cell: Cell, z: Array) -> Gates:
    """Split ``[..., G]`` into one array ``[..., H]`` per gate."""
    return tuple(jnp.split(z, cell.num_gates, axis=-1))


def join_gates(gates: Gates | Array) -> Array:
    """Return the gates as one array ``[..., G]``, also if they are one already."""
    return jnp.concatenate(gates, axis=-1) if isinstance(gates, tuple) else gates


def vary_alike(tree: T) -> T:
    """Return the tree as JAX arrays that all vary over the mesh axes that any of them varies over.

    Why: under shard_map, weights are replicated and x varies over the batch axis of the mesh. JAX converts such a pair
    at each place where they meet, and the transpose of each conversion is a psum of the gradient over the devices. In
    a loop over chunks that is one psum per chunk and weight. This function marks the weights as varying before all
    loops, so that the psum happens once, outside. On a mesh with explicit axes, the transpose of a product also needs
    the mesh in the types of both factors.

    How: it adds a zero that has the type of every operand. Compilers remove the addition. No value changes except the
    sign of a zero.

    Measured with JAX 0.10 on two CPU devices, gradient under shard_map with ``checkpoint_every``: the
    program that JAX traces has all 5 psums outside its loops. Without this function, 3 of 4 are inside the loop.

    Delete this function when JAX moves these psums out of loops by itself.
    """
    arrays = jax.tree.map(jnp.asarray, tree)
    zero: Any = sum(zeros_like(jnp.sum(a), jnp.float32) for a in jax.tree.leaves(arrays))
    varying: T = jax.tree.map(lambda a: a + zero.astype(a.dtype), arrays)
    return varying


@overload
def broadcast_bias(bias: Array, x: Array) -> Array: ...
@overload
def broadcast_bias(bias: Array | None, x: Array) -> Array | None: ...
def broadcast_bias(bias: Array | None, x: Array) -> Array | None:
    """Return a bias ``[G]`` as an array that can be added to ``[*batch, G]``, distributed over devices as x is.

    Why: with a plain broadcast, the bias would lie whole on every device of an explicit mesh, and the transpose would
    gather all of dz before summing it. Delete the zeros when JAX reduces such a gradient on each device first.
    """
    if bias is None:
        return None
    return zeros_like(x[..., :1], bias.dtype) + bias.reshape(*(1,) * (x.ndim - 1), -1)


def add(*terms: Array | None) -> Array | None:
    """Return the sum of the terms that are not None, or None if all are."""
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


def in_one_dtype(*trees: Tree) -> tuple[Tree, ...]:
    """Return the trees with all arrays in the widest of their dtypes, at least float32. It is linear in each array."""
    dtype = accumulation_dtype(*(a.dtype for a in jax.tree.leaves(trees)))
    return tuple(cast_floating(tree, dtype) for tree in trees)


def where_tree(condition: Array | None, chosen: T, otherwise: T, *, default: bool = False) -> T:
    """Apply jnp.where to each array of two trees. A condition of None is ``default`` everywhere."""
    if condition is None:
        return chosen if default else otherwise
    merged: T = jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, otherwise)
    return merged


def zero_where(condition: Array | None, tree: T) -> T:
    """Return the tree with zeros where the condition is True. It is linear in the tree. None is False everywhere."""
    if condition is None:
        return tree
    zeroed: T = jax.tree.map(lambda a: jnp.where(condition, 0, a), tree)
    return zeroed
