"""A linear function with a given transpose, as one JAX primitive.

Why: JAX can transpose a scan by itself, but it allocates new buffers. The cotangents of the gate sums are as large as
the gates, and the gates are not needed any more when these cotangents are computed. With a transpose of our own, the
cotangents are written over the gates. Measured on CPU with JAX 0.10, the temporary memory of a training step with
T = 512, B = 16, H = 256 in float32: 52 MiB with this primitive, 130 MiB with JAX's transpose. Everything else
remains JAX's: forward mode, second derivatives, vmap, sharding types, export.

jax.custom_derivatives.linear_call is the same idea, but it has no vmap and no derivatives of the residuals. Delete this
module when it has both, or when JAX's transpose of a scan reuses the buffers of its residuals:
test_cotangents_are_written_where_the_gates_were then passes without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import AbstractValue
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jax_lstm._src.arrays import Array, Tree
from jax_lstm._src.mapped_axes import Places, as_batch_axis, places_of_leaves

Cotangents = Sequence[Array | None]  # None is a zero


def call_with_transpose(
    push: Callable[[Any, Any], Tree],
    pull: Callable[[Any, Any], Tree],
    residuals: Tree,
    operands: Tree,
    *,
    fold: bool = False,
    places: tuple[Places, Places, Places] | None = None,
) -> Any:
    """Return ``push(residuals, operands)``, which must be linear in ``operands``, with ``pull`` as its transpose.

    Args:
      push: the function. Neither it nor ``pull`` may close over traced values.
      pull: ``pull(residuals, cotangents)`` returns the cotangents of ``operands``. A cotangent of None is zero.
      residuals: a tree of arrays; None stands for an absent array.
      operands: a tree of arrays. Each must have the sharding type that its cotangent will have: under shard_map, it
        must vary over the same mesh axes.
      fold: what happens under vmap. If False, ``pull`` is mapped, and an operand that is not mapped gets the sum of
        the cotangents of all instances. If True, JAX transposes the mapped ``push``, and stores no instances.
      places: the places of the first batch axis in each of ``residuals``, of ``operands`` and of the result, see
        `mapped_axes`. If they are given, ``push`` and ``pull`` take any number of batch axes, and vmap adds one if it
        can.
    """
    residual_tree: Any  # JAX exports no type of a PyTreeDef
    operand_tree: Any
    out_tree: Any = None
    flat_residuals, residual_tree = jax.tree.flatten(residuals)
    flat_operands, operand_tree = jax.tree.flatten(operands)

    def flat_push(*args: Array) -> list[Array]:
        nonlocal out_tree
        split = len(flat_residuals)
        out = push(residual_tree.unflatten(args[:split]), operand_tree.unflatten(args[split:]))
        leaves, out_tree = jax.tree.flatten(out)
        return leaves

    def flat_pull(residuals: Sequence[Array], cotangents: Cotangents) -> list[Array | None]:
        pulled = pull(residual_tree.unflatten(residuals), out_tree.unflatten(cotangents))
        cotangents_of_operands: list[Array | None] = operand_tree.flatten_up_to(pulled)
        return cotangents_of_operands

    args = (*flat_residuals, *flat_operands)
    body = jax.make_jaxpr(flat_push)(*args)
    if places is not None:
        out: Any = out_tree.unflatten(body.out_avals)
        of_args = (places_of_leaves(places[0], residuals), places_of_leaves(places[1], operands))
        flat_places = (sum(of_args, ()), places_of_leaves(places[2], out))
    remap = None if places is None else _Remap(flat_push, *flat_places)
    leaves = call_p.bind(*args, body=body, pull=flat_pull, count=len(flat_residuals), fold=fold, remap=remap)
    return out_tree.unflatten(leaves)


class _Remap(NamedTuple):
    """How a mapped call becomes the call on one more batch axis.

    push: makes the body for new shapes.
    places, out_places: the places of the first batch axis in each argument and in each result.
    """

    push: Callable[..., list[Array]]
    places: Places
    out_places: Places


call_p: Any = Primitive("linear_with_transpose")
call_p.multiple_results = True


@call_p.def_impl  # type: ignore[untyped-decorator]
def _run(*args: Array, body: ClosedJaxpr, **_: Any) -> Any:
    return jaxpr_as_fun(body)(*args)


@call_p.def_abstract_eval  # type: ignore[untyped-decorator]
def _types(*args: AbstractValue, body: ClosedJaxpr, **_: Any) -> Any:
    return body.out_avals


def _jvp(primals: Sequence[Array], tangents: Sequence[Any], **params: Any) -> tuple[list[Array], list[Array]]:
    """Bind the primitive again to the tangents of the operands; differentiate the body by the residuals as JAX does."""
    body, count = params["body"], params["count"]
    out = call_p.bind(*primals, **params)
    terms = []
    if not all(isinstance(t, ad.Zero) for t in tangents[count:]):
        moved = map(ad.instantiate_zeros, tangents[count:])
        terms.append(call_p.bind(*primals[:count], *moved, **params))
    moving = [n for n, t in enumerate(tangents[:count]) if not isinstance(t, ad.Zero)]
    if moving:

        def of_moving(*values: Array) -> Any:
            args = list(primals)
            for n, value in zip(moving, values, strict=True):
                args[n] = value
            return jaxpr_as_fun(body)(*args)

        at = [primals[n] for n in moving]
        terms.append(jax.jvp(of_moving, at, [tangents[n] for n in moving])[1])
    return out, [sum(each[1:], each[0]) for each in zip(*terms, strict=True)]


def _transpose(
    cotangents: Sequence[Any], *args: Any, pull: Callable[..., Cotangents], count: int, **_: Any
) -> Cotangents:
    residuals = args[:count]
    known = [None if isinstance(ct, ad.Zero) else ct for ct in cotangents]
    if all(ct is None for ct in known):
        return [None] * len(args)
    return [None] * count + list(pull(residuals, known))


def _batch(
    args: Sequence[Array],
    axes: Sequence[int | None],
    *,
    body: ClosedJaxpr,
    pull: Callable[..., Cotangents],
    count: int,
    fold: bool,
    remap: _Remap | None,
) -> tuple[list[Array], list[int]]:
    """Map both functions. An operand that all instances share gets the sum of their cotangents."""
    moved = None if remap is None else as_batch_axis(args, axes, remap.places)
    if remap is not None and moved is not None:
        new_body = jax.make_jaxpr(remap.push)(*moved)
        out = call_p.bind(*moved, body=new_body, pull=pull, count=count, fold=fold, remap=remap)
        return out, [place or 0 for place in remap.out_places]
    front = [a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True)]
    mapped = tuple(None if axis is None else 0 for axis in axes)
    batched_body = jax.make_jaxpr(jax.vmap(jaxpr_as_fun(body), mapped))(*front)

    def batched_pull(residuals: Sequence[Array], cotangents: Cotangents) -> list[Any]:
        nonzero = [n for n, ct in enumerate(cotangents) if ct is not None]

        def pull_one(residuals: Sequence[Array], values: Sequence[Array]) -> Any:
            all_cotangents: list[Array | None] = [None] * len(cotangents)
            for n, value in zip(nonzero, values, strict=True):
                all_cotangents[n] = value
            return pull(residuals, all_cotangents)

        values: list[Any] = [cotangents[n] for n in nonzero]
        pulled: Any = jax.vmap(pull_one, (list(mapped[:count]), 0))(list(residuals), values)
        return [a if axis == 0 else jnp.sum(a, axis=0) for a, axis in zip(pulled, mapped[count:], strict=True)]

    if fold:
        out = jaxpr_as_fun(batched_body)(*front)
    else:
        out = call_p.bind(*front, body=batched_body, pull=batched_pull, count=count, fold=fold, remap=None)
    return out, [0] * len(out)


ad.primitive_jvps[call_p] = _jvp
ad.primitive_transposes[call_p] = _transpose
batching.primitive_batchers[call_p] = _batch
mlir.register_lowering(call_p, mlir.lower_fun(_run, multiple_results=True))
