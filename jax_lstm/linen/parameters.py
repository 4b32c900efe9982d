"""How a linen module declares its parameters, and how it reads Flax's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jax_lstm._src.arrays import Array
from jax_lstm._src.checks import require_same_shapes
from jax_lstm._src.init import Draw
from jax_lstm._src.module_init import OPTION_OF, Initializer, Rebox, as_drawn, reversed_names
from jax_lstm._src.module_params import is_ours, state_dict_entries


def given_inits(module: nn.Module) -> dict[str, Initializer]:
    """Return the initialisers that a module was constructed with, by the names of its options."""
    return {name: getattr(module, name) for name in OPTION_OF.values()}


def declare(module: Any, inits: Mapping[str, Draw], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Declare the parameters of a module, and return them without metadata.

    Flax gives a module the parameters that it declares, and ignores all others. Therefore all parameters are compared
    with ``shapes`` here. A subclass may have other parameters, if their names are not those of a torch state dict.

    Raises:
      ValueError: a parameter is missing, misshapen or surplus.
    """
    given = module.variables.get("params", {})
    if given and not module.is_initializing():
        ours = given if is_ours(module) else state_dict_entries(given)
        place = f" at {'/'.join(module.path)}" if module.path else ""
        require_same_shapes(opened(ours), shapes, f"linen.{type(module).__name__}{place}")
    return {name: module.param(name, init, module.param_dtype) for name, init in inits.items()}


def open_box(drawn: Any) -> tuple[Any, Rebox]:
    """Separate an array from Flax's metadata, see `jax_lstm._src.module_init.as_drawn`."""
    if isinstance(drawn, nn.Partitioned):
        names = drawn.names
        return drawn.value, lambda array, transposed: drawn.replace(
            value=array, names=reversed_names(names) if transposed else names
        )
    if isinstance(drawn, nn.meta.AxisMetadata):  # metadata that name no axes
        return drawn.unbox(), lambda array, transposed: drawn.replace_boxed(array)
    return as_drawn(drawn)


def bound_weights(module: nn.Module) -> list[Array]:
    """Return the weights that a module is bound to, or [] if it is not bound."""
    if module.scope is None:
        return []
    return list(opened(state_dict_entries(module.variables.get("params", {}))).values())


def opened(params: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays without metadata, and without the sharding constraints that nn.unbox would add."""
    return {name: open_box(value)[0] for name, value in params.items()}
