"""How a linen module declares its parameters, and what metadata of Flax's they may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from jax_lstm._src.checks import require_same_shapes
from jax_lstm._src.layers import is_ours, state_dict_entries
from jax_lstm._src.module_init import Rebox, as_drawn, reversed_names


def given_inits(module: Any) -> dict[str, Any]:
    return {name: getattr(module, name) for name in ("kernel_init", "recurrent_kernel_init", "bias_init")}


def declare(
    module: Any, inits: Mapping[str, Callable[..., Any]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Declare the parameters, unboxed.

    Flax hands a module the parameters that it declares and keeps quiet about others: so they are compared here. A
    subclass may have others, if their names are none of a torch state dict's.
    """
    given = module.variables.get("params", {})
    if given and not module.is_initializing():
        ours = given if is_ours(module) else state_dict_entries(given)
        require_same_shapes(opened(ours), shapes, f"linen.{type(module).__name__}")
    return {name: module.param(name, init, module.param_dtype) for name, init in inits.items()}


def open_box(drawn: Any) -> tuple[Any, Rebox]:
    """Take Flax's metadata off an array, see :func:`jax_lstm._src.module_init.as_drawn`."""
    if isinstance(drawn, nn.Partitioned):
        names = drawn.names
        return drawn.value, lambda array, transposed: drawn.replace(
            value=array, names=reversed_names(names) if transposed else names
        )
    if isinstance(drawn, nn.meta.AxisMetadata):  # names no axes
        return drawn.unbox(), lambda array, transposed: drawn.replace_boxed(array)
    return as_drawn(drawn)


def bound_weights(module: Any) -> list[Any]:
    """The weights that a module is bound to; none if it is not bound."""
    if module.scope is None:
        return []
    return list(opened(state_dict_entries(module.variables.get("params", {}))).values())


def opened(params: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays without metadata, and without the sharding constraints that nn.unbox would put on them."""
    return {name: open_box(value)[0] for name, value in params.items()}
