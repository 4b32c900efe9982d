"""How an nnx module draws and holds its parameters, and what metadata of Flax's they may have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from jax_lstm._src.checks import require_same_shapes
from jax_lstm._src.layers import is_ours, state_dict_entries
from jax_lstm._src.module_init import OPTION_OF, Rebox, as_drawn, reversed_names

_ARRAYS = (nnx.Variable, jax.Array, np.ndarray)


def inits_of(*given: Any) -> dict[str, Any]:
    return dict(zip(OPTION_OF.values(), given, strict=True))


def metadata_of(*given: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Metadata by the name of a parameter, without its layer."""
    kernel, recurrent, bias = (dict(metadata or {}) for metadata in given)
    by_name = {"weight_ih": _transposed(kernel), "weight_hh": _transposed(recurrent)}
    return by_name | {"bias_ih": bias, "bias_hh": bias}


def draw(
    module: nnx.Module,
    inits: Mapping[str, Callable[..., Any]],
    metadata: Mapping[str, Mapping[str, Any]],
    param_dtype: Any,
    rngs: nnx.Rngs,
) -> None:
    """Make every parameter, each from a key of its own."""
    for name, init in inits.items():
        of_this = metadata.get(name.partition("_l")[0], {})
        setattr(module, name, nnx.Param(init(rngs.params(), param_dtype), **of_this))


def params_of(module: nnx.Module, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    """The arrays of a module, by name. A subclass may have Variables of its own, under other names."""
    held = {name: value for name, value in vars(module).items() if isinstance(value, _ARRAYS)}
    given = state_dict_entries(held)
    if is_ours(module):
        given |= {name: value for name, value in held.items() if isinstance(value, nnx.Param)}
    require_same_shapes(given, shapes, f"nnx.{type(module).__name__}")
    return {name: given[name][...] for name in shapes}


def open_box(drawn: Any) -> tuple[Any, Rebox]:
    """Take nnx's metadata off an array, see :func:`jax_lstm._src.module_init.as_drawn`."""
    if isinstance(drawn, nnx.VariableMetadata):
        metadata = drawn.metadata
        return drawn.raw_value, lambda array, transposed: dataclasses.replace(
            drawn, raw_value=array, metadata=_transposed(metadata) if transposed else metadata
        )
    return as_drawn(drawn)


def _transposed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A kernel's metadata for its transpose: whatever names its axes, by any of nnx's names for that, is reversed."""
    names = {key: metadata[key] for key in ("out_sharding", "sharding", "sharding_names") if metadata.get(key)}
    return {**metadata, **{key: reversed_names(value) for key, value in names.items()}}
