"""A computation that runs a kernel on one platform and a loop on every other, as one JAX primitive.

Why a primitive: JAX's transformations see the loop only. Derivatives and sharding types are therefore those of the
loop, and a kernel needs none of them. vmap makes the mapped axis one more batch axis if the kernel says how. The
backward loop is a call of its own, with its own kernel.

A kernel enters when a program is lowered for its platform, if each device computes the whole call: the program is for
one device, or the call is inside a shard_map over all mesh axes. XLA cannot divide a kernel over devices. Otherwise the
loop is lowered, so that every call runs on every platform. An exported program runs without this package. It therefore
has the loop in the place of a kernel that only this package provides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from jax.core import AbstractValue
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jax_lstm._src.arrays import Array
from jax_lstm._src.mapped_axes import Places, as_batch_axis, places_of_leaves

KERNEL_PLATFORMS = ("cpu", "tpu")


class Kernel(NamedTuple):
    """A kernel, and the programs that it can enter.

    platform: the platform of these programs.
    run: it takes the arguments of the loop, and returns a tree of the structure, shapes and dtypes that the loop
      returns. It is traced when a program is lowered.
    places: the places of the first batch axis in each argument and in each field of the result, see `mapped_axes`. If
      it is None, a mapped call runs the loop.
    """

    platform: Literal["cpu", "tpu"]
    run: Callable[..., Any]
    places: tuple[Places, Places] | None = None


def call_with_kernel(kernel: Kernel, loop: Callable[..., Any], *args: Any) -> Any:
    """Return ``loop(*args)``, which a program for the kernel's platform may compute by ``kernel.run(*args)``.

    Args:
      kernel: the kernel.
      loop: the function. Neither it nor ``kernel.run`` may close over traced values.
      *args: trees of arrays; None stands for an absent array.
    """
    tree: Any  # JAX exports no type of a PyTreeDef
    out_tree: Any = None
    flat, tree = jax.tree.flatten(args)

    def flat_loop(*flat: Array) -> list[Array]:
        nonlocal out_tree
        leaves, out_tree = jax.tree.flatten(loop(*tree.unflatten(flat)))
        return leaves

    def flat_kernel(*flat: Array, **options: Any) -> list[Array]:
        leaves: list[Array] = jax.tree.leaves(kernel.run(*tree.unflatten(flat), **options))
        return leaves

    body = jax.make_jaxpr(flat_loop)(*flat)
    places = kernel.places
    if places is not None:
        out: Any = out_tree.unflatten(body.out_avals)
        places = (places_of_leaves(places[0], args), places_of_leaves(places[1], out))
    flat_call = _FlatCall(flat_loop, kernel._replace(run=flat_kernel, places=places))
    return out_tree.unflatten(call_p.bind(*flat, body=body, call=flat_call))


class _FlatCall(NamedTuple):
    """A call with lists of arrays in the place of trees."""

    loop: Callable[..., list[Array]]
    kernel: Kernel


call_p: Any = Primitive("loop_or_kernel")
call_p.multiple_results = True


@call_p.def_impl  # type: ignore[untyped-decorator]
def run_loop(*args: Array, body: ClosedJaxpr, **_: Any) -> Any:
    """Run the loop: the primitive without jit, and its lowering if no kernel enters."""
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


def _batch(args: Any, axes: Any, *, body: ClosedJaxpr, call: _FlatCall) -> tuple[list[Array], Sequence[int]]:
    """Map a call: as one more batch axis if no array without a batch is mapped, and otherwise as a loop."""
    places = call.kernel.places
    moved = None if places is None else as_batch_axis(args, axes, places[0])
    if places is None or moved is None:
        out = jax.vmap(jaxpr_as_fun(body), tuple(axes))(*args)
        return out, [0] * len(out)
    out = call_p.bind(*moved, body=jax.make_jaxpr(call.loop)(*moved), call=call)
    return out, [place or 0 for place in places[1]]


def lower_call(platform: str, ctx: Any, *args: Any, options: dict[str, Any] | None = None, **params: Any) -> Any:
    """Lower a call for a platform: its kernel, called with ``options``, or else the loop."""
    kernel: Kernel = params["call"].kernel
    module = ctx.module_context
    # A kernel for a CPU is a function of this package. One for a TPU is written into the program.
    exported = module.lowering_parameters.for_export and platform == "cpu"
    if kernel.platform != platform or exported or not _is_whole(module.axis_context):
        return mlir.lower_fun(run_loop, multiple_results=True)(ctx, *args, **params)
    # Each device has whole arrays here. A kernel takes only types that say nothing about a mesh.
    plain = ctx.replace(avals_in=_without_mesh(ctx.avals_in), avals_out=_without_mesh(ctx.avals_out))
    run = partial(_run_kernel, kernel, options or {})
    return mlir.lower_fun(run, multiple_results=True)(plain, *args, **params)


def _without_mesh(types: Sequence[Any]) -> list[AbstractValue]:
    return [jax.core.ShapedArray(a.shape, a.dtype) for a in types]


def _run_kernel(kernel: Kernel, options: dict[str, Any], *args: Array, **_: Any) -> Any:
    # The program may be lowered under another setting than it was traced. TPU's compiler takes no 64-bit index.
    with jax.enable_x64(kernel.platform != "tpu" and any(a.dtype.itemsize == 8 for a in args)):
        return kernel.run(*args, **options)


def _is_whole(context: Any) -> bool:
    """Return whether each device of a lowered program computes the whole call."""
    if hasattr(context, "manual_axes"):  # the program, or this part of it, is a shard_map
        return bool(frozenset(context.manual_axes) == frozenset(context.mesh.axis_names))
    return getattr(context, "num_devices", None) == 1


ad.primitive_jvps[call_p] = _jvp
ad.primitive_transposes[call_p] = _transpose
batching.primitive_batchers[call_p] = _batch
mlir.register_lowering(call_p, mlir.lower_fun(run_loop, multiple_results=True))
for _platform in KERNEL_PLATFORMS:
    mlir.register_lowering(call_p, partial(lower_call, _platform), platform=_platform)
