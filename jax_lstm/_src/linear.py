"""A linear function that brings its own transpose, as one JAX primitive.

JAX transposes a scan by itself, but into buffers of its own choice: the cotangent of a sum over gates gets a new
array, while the gates, as large and dead by then, stay alive. With a transpose of our own the one overwrites the
other. Everything else stays JAX's: forward mode, second derivatives, vmap, sharding types, export.

jax.custom_derivatives.linear_call is the same idea, without vmap and without derivatives of the residuals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir


def linear(push: Callable, pull: Callable, residuals: Any, operands: Any, *, fold: bool = False) -> Any:
    """``push(residuals, operands)``, which is linear in ``operands``; trees of arrays, None where there is none.

    ``pull(residuals, cotangents)`` gives the cotangents of ``operands``; a cotangent that comes as None is zero.
    Every operand must have the sharding type (under shard_map: vary over the same axes) that its cotangent will have.
    Neither function may close over traced values. Under vmap ``pull`` is mapped too, and an operand that is not mapped
    gets the sum over all instances; with ``fold`` JAX transposes the mapped ``push`` instead, and holds no instances.
    """
    flat_residuals, residual_tree = jax.tree.flatten(residuals)
    flat_operands, operand_tree = jax.tree.flatten(operands)
    out_tree: Any = None

    def flat_push(*args):
        nonlocal out_tree
        split = len(flat_residuals)
        out = push(residual_tree.unflatten(args[:split]), operand_tree.unflatten(args[split:]))
        leaves, out_tree = jax.tree.flatten(out)
        return leaves

    def flat_pull(residuals, cotangents):
        pulled = pull(residual_tree.unflatten(residuals), out_tree.unflatten(cotangents))
        return operand_tree.flatten_up_to(pulled)

    args = (*flat_residuals, *flat_operands)
    body = jax.make_jaxpr(flat_push)(*args)
    leaves = linear_p.bind(*args, body=body, pull=flat_pull, count=len(flat_residuals), fold=fold)
    return out_tree.unflatten(leaves)


linear_p = Primitive("linear_with_transpose")
linear_p.multiple_results = True


@linear_p.def_impl
def _run(*args, body, **_):
    return jaxpr_as_fun(body)(*args)


@linear_p.def_abstract_eval
def _types(*args, body, **_):
    return body.out_avals


def _jvp(primals, tangents, **params):
    """Linear in the operands, so their tangents take their place; the residuals' go through the body as it is."""
    body, count = params["body"], params["count"]
    out = linear_p.bind(*primals, **params)
    terms = []
    if not all(isinstance(t, ad.Zero) for t in tangents[count:]):
        moved = map(ad.instantiate_zeros, tangents[count:])
        terms.append(linear_p.bind(*primals[:count], *moved, **params))
    moving = [n for n, t in enumerate(tangents[:count]) if not isinstance(t, ad.Zero)]
    if moving:

        def of_moving(*values):
            args = list(primals)
            for n, value in zip(moving, values, strict=True):
                args[n] = value
            return jaxpr_as_fun(body)(*args)

        at = [primals[n] for n in moving]
        terms.append(jax.jvp(of_moving, at, [tangents[n] for n in moving])[1])
    return out, [sum(each[1:], each[0]) for each in zip(*terms, strict=True)]


def _transpose(cotangents, *args, pull, count, **_):
    residuals = args[:count]
    given = [None if isinstance(ct, ad.Zero) else ct for ct in cotangents]
    if all(ct is None for ct in given):
        return [None] * len(args)
    return [None] * count + list(pull(residuals, given))


def _batch(args, axes, *, body, pull, count, fold):
    """vmap of both functions; an operand that all instances share gets the sum of their cotangents."""
    args = [a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True)]
    mapped = tuple(None if axis is None else 0 for axis in axes)
    batched_body = jax.make_jaxpr(jax.vmap(jaxpr_as_fun(body), mapped))(*args)

    def batched_pull(residuals, cotangents):
        there = [n for n, ct in enumerate(cotangents) if ct is not None]

        def one(residuals, values):
            given = [None] * len(cotangents)
            for n, value in zip(there, values, strict=True):
                given[n] = value
            return pull(residuals, given)

        pulled = jax.vmap(one, (list(mapped[:count]), 0))(list(residuals), [cotangents[n] for n in there])
        return [a if axis == 0 else jnp.sum(a, axis=0) for a, axis in zip(pulled, mapped[count:], strict=True)]

    if fold:
        out = jaxpr_as_fun(batched_body)(*args)
    else:
        out = linear_p.bind(*args, body=batched_body, pull=batched_pull, count=count, fold=fold)
    return out, [0] * len(out)


ad.primitive_jvps[linear_p] = _jvp
ad.primitive_transposes[linear_p] = _transpose
batching.primitive_batchers[linear_p] = _batch
mlir.register_lowering(linear_p, mlir.lower_fun(_run, multiple_results=True))
