"""Foreign arrays: read without losing a bit in silence, and computed on in the namespace that they came from."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DLPACK_ONLY = "torch.bfloat16"  # numpy has no such dtype; JAX reads it from torch's memory


def read_array(name: str, value: Any, dtype: Any = None) -> jax.Array:
    """A jax array, copied, of any framework's array or tensor; ``name`` says in errors which one it is.

    Args:
      value: a jax, NumPy, torch, Keras or Flax nnx array, or a tracer.
      dtype: dtype to cast to where it is floating point; None keeps its own.

    Raises:
      TypeError: it is no array.
      ValueError: JAX would round it, because it has 64 bits and x64 is off.
    """
    value = unwrapped(value)
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise TypeError(f"{name} must be a tensor or array; got {type(value).__name__}.")
    floating = jnp.issubdtype(value.dtype, jnp.floating)
    wanted = jnp.dtype(dtype) if dtype is not None and floating else value.dtype
    if wanted == np.float64 and not jax.config.jax_enable_x64:
        raise ValueError(
            f"{name} is to be float64, which JAX would round to float32. Pass dtype=jnp.float32 to "
            "accept that, or enable x64: jax.config.update('jax_enable_x64', True)."
        )
    if not floating and not jax.config.jax_enable_x64 and np.any(np.asarray(value) != np.asarray(value, np.int32)):
        raise ValueError(f"{name} has integers over 32 bits; enable x64 to keep them.")
    return jnp.array(value, dtype=wanted if floating else None, copy=True)


def unwrapped(value: Any) -> Any:
    """The array inside a torch tensor, a Keras variable or a Flax nnx variable, known by their methods."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return jnp.from_dlpack(value.contiguous()) if str(value.dtype) == DLPACK_ONLY else value.numpy()
    if hasattr(value, "get_value"):  # flax.nnx.Variable
        return value.get_value()
    if hasattr(value, "numpy") and hasattr(value, "assign"):  # keras.Variable
        return value.value if isinstance(value.value, jax.Array) else value.numpy()
    return value


def namespace(*arrays: Any) -> ModuleType:
    """numpy where all arrays are NumPy's, so that no bit depends on x64; else jax.numpy, which also traces."""
    return np if all(isinstance(a, np.ndarray) for a in arrays) else jnp  # type: ignore[return-value]
