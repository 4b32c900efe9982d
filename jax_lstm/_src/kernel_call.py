"""A computation that a TPU does by a kernel and every other device by a loop, as one JAX primitive.

Why a primitive: JAX's transformations see the loop only. Derivatives, vmap and sharding types are therefore those of
the loop, and a kernel needs none of them. The backward loop is a call of its own, with its own kernel.

A kernel enters when a program is lowered for a TPU, if each of its devices computes the whole call: the program is for
one device, or the call is inside a shard_map over all mesh axes. XLA cannot divide a kernel over devices. Otherwise the
loop is lowered, so that every call gives its numbers on every platform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.core import AbstractValue
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jax_lstm._src.arrays import Array


def call_with_kernel(kernel: Callable[..., Any], loop: Callable[..., Any], *args: Any) -> Any:
    """Return ``loop(*args)``, which a program for a TPU may compute by ``kernel(*args, interpret=False)``.

    Args:
      kernel: returns a tree of the structure, shapes and dtypes that ``loop`` returns. It is traced when a program is
        lowered, without 64-bit types. With ``interpret``, Pallas interprets the kernel, which works on every platform.
      loop: the function. Neither it nor ``kernel`` may close over traced values.
      *args: trees of arrays; None stands for an absent array.
    """
    tree: Any  # JAX exports no type of a PyTreeDef
    out_tree: Any = None
    flat, tree = jax.tree.flatten(args)

    def flat_loop(*flat: Array) -> list[Array]:
        nonlocal out_tree
        leaves, out_tree = jax.tree.flatten(loop(*tree.unflatten(flat)))
        return leaves

    def flat_kernel(*flat: Array, interpret: bool) -> list[Array]:
        leaves: list[Array] = jax.tree.leaves(kernel(*tree.unflatten(flat), interpret=interpret))
        return leaves

    body = jax.make_jaxpr(flat_loop)(*flat)
    return out_tree.unflatten(call_p.bind(*flat, body=body, kernel=flat_kernel))


call_p: Any = Primitive("loop_or_kernel")
call_p.multiple_results = True


@call_p.def_impl  # type: ignore[untyped-decorator]
def run_loop(*args: Array, body: ClosedJaxpr, **_: Any) -> Any:
    """Run the loop: the primitive without jit, and its lowering for every device but a TPU."""
    return jaxpr_as_fun(body)(*args)


@call_p.def_abstract_eval  # type: ignore[untyped-decorator]
def _types(*args: AbstractValue, body: ClosedJaxpr, **_: Any) -> Any:
    return body.out_avals


def _jvp(primals: Any, tangents: Any, *, body: ClosedJaxpr, **_: Any) -> Any:
    moved = tuple(map(ad.instantiate_zeros, tangents))
    return jax.jvp(jaxpr_as_fun(body), tuple(primals), moved)


def _transpose(cotangents: Any, *args: Any, body: ClosedJaxpr, **_: Any) -> list[Any]:
    """Transpose the loop as JAX does. A pullback is a linear call, which a user may transpose again."""
    linear = [ad.is_undefined_primal(a) for a in args]

    def of_linear(*values: Array) -> Any:
        given = iter(values)
        return jaxpr_as_fun(body)(*(next(given) if moves else a for a, moves in zip(args, linear, strict=True)))

    like = [a.aval for a, moves in zip(args, linear, strict=True) if moves]
    transposed = jax.linear_transpose(of_linear, *like)(list(map(ad.instantiate_zeros, cotangents)))
    remaining = iter(transposed)
    return [next(remaining) if moves else None for moves in linear]


def _batch(args: Any, axes: Any, *, body: ClosedJaxpr, **_: Any) -> tuple[list[Array], list[int]]:
    out = jax.vmap(jaxpr_as_fun(body), tuple(axes))(*args)
    return out, [0] * len(out)


def lower_kernel(ctx: Any, *args: Any, interpret: bool = False, **params: Any) -> Any:
    """Lower the kernel, or the loop if the compiler would have to divide the kernel over devices."""
    if not _is_whole(ctx.module_context.axis_context):
        return mlir.lower_fun(run_loop, multiple_results=True)(ctx, *args, **params)
    # Each device has whole arrays here. Pallas takes only types that say nothing about a mesh.
    plain = ctx.replace(avals_in=_without_mesh(ctx.avals_in), avals_out=_without_mesh(ctx.avals_out))
    return mlir.lower_fun(partial(_run_kernel, interpret), multiple_results=True)(plain, *args, **params)


def _without_mesh(types: Sequence[Any]) -> list[AbstractValue]:
    return [jax.core.ShapedArray(a.shape, a.dtype) for a in types]


def _run_kernel(interpret: bool, *args: Array, kernel: Callable[..., list[Array]], **_: Any) -> list[Array]:
    with jax.enable_x64(False):  # TPU's compiler takes no 64-bit index
        return kernel(*args, interpret=interpret)


def _is_whole(context: Any) -> bool:
    """Return whether each device of a lowered program computes the whole call."""
    if hasattr(context, "manual_axes"):  # the program, or this part of it, is a shard_map
        return bool(frozenset(context.manual_axes) == frozenset(context.mesh.axis_names))
    return getattr(context, "num_devices", None) == 1


ad.primitive_jvps[call_p] = _jvp
ad.primitive_transposes[call_p] = _transpose
batching.primitive_batchers[call_p] = _batch
mlir.register_lowering(call_p, mlir.lower_fun(run_loop, multiple_results=True))
mlir.register_lowering(call_p, lower_kernel, platform="tpu")
