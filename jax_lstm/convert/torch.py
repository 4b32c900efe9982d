"""torch state dicts. The layout is ours, so nothing is permuted: only names are split at dots and arrays copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lstm._src.checks import refuse_torch
from jax_lstm._src.recognize import elsewhere, listed, refuse_tree, stored_form
from jax_lstm.convert.arrays import read_array

EXPECTED = "a torch.nn.LSTM state dict, or any module's: names to tensors, none within another"


def from_torch(state_dict: Mapping[str, Any], prefix: str = "", *, dtype: Any = None) -> dict[str, Any]:
    """Reads a torch state dict into a parameter tree of this package.

    Args:
      state_dict: names to torch tensors (any device) or arrays.
      prefix: take only the entries under this prefix, such as "encoder.lstm.", and strip it.
      dtype: dtype to cast floating-point entries to; None keeps each entry's own.

    Returns:
      A dict of jax arrays, copied and never sharing torch's memory. Dotted names become nested dicts:
      "lstm.weight_ih_l0" is ``tree["lstm"]["weight_ih_l0"]``. Lossless unless ``dtype`` is narrower.

    Raises:
      TypeError: ``state_dict`` is no mapping of names to arrays; or an entry, which is named, is a tensor that NumPy
        has no form for: quantized, float8, sparse or without values (on torch's meta device).
      ValueError: it is nested, as other libraries' trees are; nothing is under ``prefix``, or it lacks its dot; a
        64-bit entry would lose bits with x64 off.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict must map names to tensors; got {type(state_dict).__name__}. Pass module.state_dict()."
        )
    taken = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    if not taken:
        told = elsewhere("state_dict", state_dict, "lstm")
        raise ValueError(f"prefix {prefix!r} matches no entry of state_dict; it has {listed(list(state_dict))}.{told}")
    if any(not name or name.startswith(".") for name in taken):
        raise ValueError(
            f"prefix {prefix!r} ends within a name; write it with its dot, such as {prefix.rstrip('.') + '.'!r}."
        )
    if any(isinstance(value, (Mapping, list, tuple)) for value in taken.values()):
        refuse_tree("state_dict", EXPECTED, taken, elsewhere("state_dict", state_dict, "lstm"))
    if any(not hasattr(value, "shape") for value in taken.values()) and (told := stored_form(taken)):
        raise TypeError(f"state_dict must map names to tensors; got other values too.{told}")
    tree: dict[str, Any] = {}
    for name, value in taken.items():
        *path, leaf = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"state_dict has both an entry {part!r} and entries below it, such as {name!r}.")
        node[leaf] = read_array(f"state_dict[{prefix + name!r}]", value, dtype)
    return tree


def to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Writes a parameter tree as numpy arrays by torch's names, nested dicts joined by dots.

    ``{name: torch.from_numpy(a) for name, a in to_torch(params).items()}`` is a state dict. Every array is a writable
    copy. Lossless, except that bfloat16, which numpy and torch do not share, comes out as float32 (exact).

    Raises:
      TypeError: ``params`` are no mapping, or a leaf is no array of JAX or NumPy.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a dict of arrays by torch's names; got {type(params).__name__}.")
    flat: dict[str, np.ndarray] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{rest}": array for rest, array in to_torch(value).items()}
        elif hasattr(value, "shape") and hasattr(value, "dtype"):
            refuse_torch(value)
            wide = jnp.float32 if value.dtype == jnp.bfloat16 else value.dtype
            flat[name] = np.array(jnp.asarray(value) if not isinstance(value, np.ndarray) else value, dtype=wide)
        else:
            raise TypeError(f"params[{name!r}] must be an array or a dict of them; got {type(value).__name__}.")
    return flat
