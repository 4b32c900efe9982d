"""Checks of arguments. Each raises an error that names the argument, what is expected and what was given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lstm._src.arrays import DTypeLike
from jax_lstm._src.recognize import advice

# What to write instead of an array in a dtype that is not supported: the first pattern that fits the dtype's name.
_DTYPE_ADVICE = (
    (
        r"u?int[248]$",
        "Integers this short are usually quantized: dequantize them first, scale * (values - zero_point).",
    ),
    (r"float[468]", "Write {name}.astype(jnp.float32), times its scale if that is stored separately."),
    (r"complex", "Everything here computes with real numbers only."),
    (r"", "Write {name}.astype(...)."),
)


def require_floating(name: str, value: Any, layout: str) -> None:
    """Raise TypeError unless ``value`` is a real floating-point array that JAX can read."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{name} must be a floating-point array {layout}; got {type(value).__name__}.")
    if not is_floating(value):
        hint = next(hint for pattern, hint in _DTYPE_ADVICE if re.match(pattern, str(value.dtype)))
        narrow = jnp.issubdtype(value.dtype, jnp.floating)
        expected = "floating point of at least 16 bits" if narrow else "floating point"
        raise TypeError(f"{name} must be {expected}; got dtype {value.dtype}. {hint.format(name=name)}")


def is_floating(value: Any) -> bool:
    """Return whether an array has real numbers in a dtype that JAX promotes: one of more than 8 bits."""
    refuse_torch(value)
    return bool(jnp.issubdtype(value.dtype, jnp.floating)) and value.dtype.itemsize >= 2


def require_floating_dtype(name: str, dtype: DTypeLike) -> None:
    """Raise TypeError unless ``dtype`` is a floating-point dtype of at least 16 bits."""
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < 16:
        raise TypeError(f"{name} must be a floating-point dtype of at least 16 bits; got {jnp.dtype(dtype)}.")


def is_int(value: Any) -> bool:
    """Return whether ``value`` is a Python or NumPy integer, but not a bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def refuse_torch(value: Any) -> None:
    """Raise TypeError if ``value`` is a torch tensor. It has a shape and a dtype too, but JAX cannot read it."""
    if type(value).__module__.partition(".")[0] == "torch":
        raise TypeError(
            "a torch tensor came where a JAX or NumPy array is expected; jax_lstm.convert.from_torch reads a state "
            "dict, tensor.numpy() anything else."
        )


def require_state(name: str, value: Any, layout: str, wanted: tuple[int, ...], batch_axes: slice) -> None:
    """Raise TypeError or ValueError unless a state has shape ``wanted``; its ``batch_axes`` may also have size 1."""
    require_floating(name, value, layout)
    shape = tuple(value.shape)
    spread = list(shape)
    if len(shape) == len(wanted):
        spread[batch_axes] = [b if a == 1 else a for a, b in zip(shape[batch_axes], wanted[batch_axes], strict=True)]
    if tuple(spread) != tuple(wanted):
        raise ValueError(
            f"{name} must be {layout} = {wanted}; got shape {shape}. A batch axis may also be 1, for one state of all "
            "rows."
        )


def require_same_shapes(given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], owner: str) -> None:
    """Raise ValueError unless a module's parameters have the names and shapes that its options require."""
    for name, shape in shapes.items():
        if name not in given:
            hint = advice("params", given, "lstm", is_cell="weight_ih" in shapes)
            raise ValueError(f"params of {owner} lack {name!r} {shape}; got {', '.join(given)}.{hint}")
        if tuple(given[name].shape) != shape:
            raise ValueError(
                f"params[{name!r}] of {owner} must have shape {shape}; got {tuple(given[name].shape)}. "
                "Its options and the features of x require this shape: are they those of these weights?"
            )
    surplus = [name for name in given if name not in shapes]
    if surplus:
        raise ValueError(
            f"params of {owner} have {', '.join(map(repr, surplus))}, which its options do not call for. "
            "Set num_layers, bidirectional, bias and proj_size as the weights have them."
        )
