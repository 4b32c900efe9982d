"""torch state dicts. The layout is that of this package: names are split at dots, arrays are copied, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jax_lstm._src.checks import refuse_torch
from jax_lstm._src.recognize import elsewhere, listed, refuse_tree, stored_form
from jax_lstm.convert.arrays import AnyArray, read_array

EXPECTED = "a torch.nn.LSTM state dict, or any module's: names to tensors, none within another"


def from_torch(
    state_dict: Mapping[str, AnyArray], prefix: str = "", *, dtype: DTypeLike | None = None
) -> dict[str, Any]:
    """Read a torch state dict as a parameter tree of this package.

    The conversion is lossless unless `dtype` is narrower.

    Args:
      state_dict: a mapping of names to torch tensors on any device, or to arrays.
      prefix: take only the entries under this prefix, such as "encoder.lstm.", and strip it.
      dtype: the dtype to cast floating-point entries to. None keeps each entry's own.

    Returns:
      A dict of jax arrays, which are copies and never share torch's memory. Dotted names become nested dicts:
      "lstm.weight_ih_l0" is `tree["lstm"]["weight_ih_l0"]`.

    Raises:
      TypeError: `state_dict` is no mapping of names to arrays; or NumPy has no form for an entry, which the error
        names: a tensor that is quantized, float8, sparse or without values (on torch's meta device).
      ValueError: `state_dict` is nested, as the trees of other libraries are; nothing is under `prefix`, or `prefix`
        lacks its dot; or a 64-bit entry would lose bits because x64 is off.

    Examples:
      The mapping has the names of a `model.state_dict()`.

      >>> import numpy as np
      >>> import jax_lstm
      >>> shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,)}
      >>> state_dict = {f"encoder.lstm.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
      >>> params = jax_lstm.convert.from_torch(state_dict, prefix="encoder.lstm.")
      >>> y, state = jax_lstm.lstm(params, np.zeros((2, 7, 3), np.float32))
      >>> y.shape
      (2, 7, 5)
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict must map names to tensors; got {type(state_dict).__name__}. Pass module.state_dict()."
        )
    taken = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    if not taken:
        advice = elsewhere("state_dict", state_dict, "lstm")
        names = listed(list(state_dict))
        raise ValueError(f"prefix {prefix!r} matches no entry of state_dict; it has {names}.{advice}")
    if any(not name or name.startswith(".") for name in taken):
        raise ValueError(
            f"prefix {prefix!r} ends within a name; write it with its dot, such as {prefix.rstrip('.') + '.'!r}."
        )
    if any(isinstance(value, (Mapping, list, tuple)) for value in taken.values()):
        refuse_tree("state_dict", EXPECTED, taken, elsewhere("state_dict", state_dict, "lstm"))
    if any(not hasattr(value, "shape") for value in taken.values()) and (advice := stored_form(taken)):
        raise TypeError(f"state_dict must map names to tensors; got other values too.{advice}")
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
    """Write a parameter tree as NumPy arrays by torch's names; the inverse of `jax_lstm.convert.from_torch`.

    The conversion is lossless. A `bfloat16` array becomes `float32`, which is exact, because NumPy and torch do not
    share `bfloat16`.

    Args:
      params: arrays by name, or nested dicts of arrays, whose names are joined by dots.

    Returns:
      A dict with a writable copy of every array.

    Raises:
      TypeError: `params` is no mapping, or a leaf is no array of JAX or NumPy.
      ValueError: two leaves have one name.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> tree = {"lstm": jax_lstm.init_lstm(jax.random.key(0), 3, 5)}
      >>> arrays = jax_lstm.convert.to_torch(tree)
      >>> arrays["lstm.weight_ih_l0"].shape
      (20, 3)

      `module.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})` puts them into a module.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a dict of arrays by torch's names; got {type(params).__name__}.")
    return {name: _to_numpy(value) for name, value in flatten(params).items()}


def flatten(params: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the arrays of a tree by dotted name, in order.

    Raises:
      TypeError: a leaf is no array.
      ValueError: two leaves have one name.
    """
    flat: dict[str, Any] = {}
    for name, value in params.items():
        full = f"{above}{name}"
        if isinstance(value, Mapping):
            entries = flatten(value, f"{full}.")
        elif hasattr(value, "shape") and hasattr(value, "dtype"):
            entries = {full: value}
        else:
            raise TypeError(f"params[{full!r}] must be an array or a dict of arrays; got {type(value).__name__}.")
        if twice := flat.keys() & entries.keys():
            raise ValueError(f"params has two entries {sorted(twice)[0]!r}: names are joined by dots.")
        flat |= entries
    return flat


def _to_numpy(value: Any) -> np.ndarray:
    refuse_torch(value)
    wide = jnp.float32 if value.dtype == jnp.bfloat16 else value.dtype
    return np.array(value if isinstance(value, np.ndarray) else jnp.asarray(value), dtype=wide)
