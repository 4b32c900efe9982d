"""torch state dicts. The layout is ours, so nothing is permuted: only names are split at dots and arrays copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


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
      TypeError: ``state_dict`` is no mapping of names to arrays.
      ValueError: nothing is under ``prefix``, or it lacks its dot; a 64-bit entry would lose bits with x64 off.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict must map names to tensors; got {type(state_dict).__name__}. Pass module.state_dict()."
        )
    taken = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    if not taken:
        raise ValueError(f"prefix {prefix!r} matches no entry of state_dict; it has {', '.join(state_dict) or 'none'}.")
    if any(not name or name.startswith(".") for name in taken):
        raise ValueError(
            f"prefix {prefix!r} ends within a name; write it with its dot, such as {prefix.rstrip('.') + '.'!r}."
        )
    tree: dict[str, Any] = {}
    for name, value in taken.items():
        *path, leaf = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"state_dict has both an entry {part!r} and entries below it, such as {name!r}.")
        node[leaf] = _from_tensor(prefix + name, value, dtype)
    return tree


def to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Writes a parameter tree as numpy arrays by torch's names, nested dicts joined by dots.

    ``{name: torch.from_numpy(a) for name, a in to_torch(params).items()}`` is a state dict. Every array is a writable
    copy. Lossless, except that bfloat16, which numpy and torch do not share, comes out as float32 (exact).

    Raises:
      TypeError: a leaf is no array.
    """
    flat: dict[str, np.ndarray] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{rest}": array for rest, array in to_torch(value).items()}
        elif hasattr(value, "shape") and hasattr(value, "dtype"):
            wide = jnp.float32 if value.dtype == jnp.bfloat16 else value.dtype
            flat[name] = np.array(jnp.asarray(value) if not isinstance(value, np.ndarray) else value, dtype=wide)
        else:
            raise TypeError(f"params[{name!r}] must be an array or a dict of them; got {type(value).__name__}.")
    return flat


def _from_tensor(name: str, value: Any, dtype: Any) -> jax.Array:
    if hasattr(value, "detach"):  # a torch tensor, known by its methods so that torch is not needed here
        value = value.detach().cpu()
        value = jnp.from_dlpack(value.contiguous()) if str(value.dtype) == "torch.bfloat16" else value.numpy()
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise TypeError(f"state_dict[{name!r}] must be a tensor or array; got {type(value).__name__}.")
    floating = jnp.issubdtype(value.dtype, jnp.floating)
    wanted = jnp.dtype(dtype) if dtype is not None and floating else value.dtype
    if wanted == np.float64 and not jax.config.jax_enable_x64:
        raise ValueError(
            f"state_dict[{name!r}] is to be float64, which JAX would round to float32. Pass dtype=jnp.float32 to "
            "accept that, or enable x64: jax.config.update('jax_enable_x64', True)."
        )
    if not floating and not jax.config.jax_enable_x64 and np.any(np.asarray(value) != np.asarray(value, np.int32)):
        raise ValueError(f"state_dict[{name!r}] has integers over 32 bits; enable x64 to keep them.")
    return jnp.array(value, dtype=wanted if floating else None, copy=True)
