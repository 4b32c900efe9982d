"""How an nnx module draws and holds its parameters, and how it reads Flax's metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from jax_lstm._src.arrays import Array, DTypeLike
from jax_lstm._src.checks import require_same_shapes
from jax_lstm._src.init import Draw
from jax_lstm._src.module_init import OPTION_OF, Initializer, Rebox, as_drawn, reversed_names
from jax_lstm._src.module_params import is_ours, state_dict_entries

_ARRAYS = (nnx.Variable, jax.Array, np.ndarray)


def inits_of(*given: Initializer) -> dict[str, Initializer]:
    """Return the initialisers of kernels, recurrent kernels and biases by the names of their options."""
    return dict(zip(OPTION_OF.values(), given, strict=True))


def metadata_of(*given: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return the metadata of kernels, recurrent kernels and biases by the names of the parameters, without a layer."""
    kernel, recurrent, bias = (dict(metadata or {}) for metadata in given)
    by_name = {"weight_ih": _transposed(kernel), "weight_hh": _transposed(recurrent)}
    return by_name | {"bias_ih": bias, "bias_hh": bias}


def draw(
    module: nnx.Module,
    inits: Mapping[str, Draw],
    metadata: Mapping[str, Mapping[str, Any]],
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> None:
    """Draw every parameter, each from its own key."""
    for name, init in inits.items():
        own_metadata = metadata.get(name.partition("_l")[0], {})
        setattr(module, name, nnx.Param(init(rngs.params(), param_dtype), **own_metadata))


def params_of(module: nnx.Module, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Return the parameters of a module by name. A subclass may have other Variables, under other names.

    Raises:
      ValueError: a parameter is missing, misshapen or surplus.
    """
    held = {name: value for name, value in vars(module).items() if isinstance(value, _ARRAYS)}
    given = state_dict_entries(held)
    if is_ours(module):
        given |= {name: value for name, value in held.items() if isinstance(value, nnx.Param)}
    require_same_shapes(given, shapes, f"nnx.{type(module).__name__}")
    return {name: given[name][...] for name in shapes}


def open_box(drawn: Any) -> tuple[Any, Rebox]:
    """Separate an array from nnx's metadata, see `jax_lstm._src.module_init.as_drawn`."""
    if isinstance(drawn, nnx.VariableMetadata):
        metadata = drawn.metadata
        return drawn.raw_value, lambda array, transposed: dataclasses.replace(
            drawn, raw_value=array, metadata=_transposed(metadata) if transposed else metadata
        )
    return as_drawn(drawn)


def _transposed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a kernel for its transpose: the names of axes are reversed, in each of nnx's entries."""
    names = {key: metadata[key] for key in ("out_sharding", "sharding", "sharding_names") if metadata.get(key)}
    return {**metadata, **{key: reversed_names(value) for key, value in names.items()}}
