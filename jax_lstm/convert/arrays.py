"""Foreign arrays: read without losing a bit in silence, and computed on in the namespace that they came from."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DLPACK_ONLY = "torch.bfloat16"  # numpy has no such dtype; JAX reads it from torch's memory
# torch tensors that cannot be read, by "dtype layout device", and what to pass instead: the first that fits.
_UNREADABLE = (
    (r" meta", "the tensor is on the meta device and has no values yet: load the checkpoint into the module first"),
    (r"torch\.q", "it is quantized: pass tensor.dequantize()"),
    (r"torch\.(float[468]|u?int[1-7]\b|bits)", "pass tensor.to(torch.float32), times its scale if that is kept apart"),
    (r"torch\.complex32", "pass tensor.to(torch.complex64)"),
    (r" torch\.(?!strided)", "pass tensor.to_dense()"),
    (r"", "pass tensor.to(torch.float32), or an array"),
)


def read_array(name: str, value: Any, dtype: Any = None) -> jax.Array:
    """A jax array, copied, of any framework's array or tensor; ``name`` says in errors which one it is.

    Args:
      value: a jax, NumPy, torch, Keras or Flax nnx array, or a tracer.
      dtype: dtype to cast to where it is floating point; None keeps its own.

    Raises:
      TypeError: it is no array, or a tensor in a form that neither NumPy nor JAX has, such as a quantized one.
      ValueError: JAX would round it, because it has 64 bits (a complex one 128) and x64 is off.
    """
    value = unwrapped(value, name)
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise TypeError(f"{name} must be a tensor or array; got {type(value).__name__}.")
    floating = jnp.issubdtype(value.dtype, jnp.floating)
    wanted = jnp.dtype(dtype) if dtype is not None and floating else value.dtype
    if wanted in (np.float64, np.complex128) and not jax.config.jax_enable_x64:
        accept = "Pass dtype=jnp.float32 to accept that" if floating else "Pass it as complex64 to accept that"
        raise ValueError(
            f"{name} is to be {wanted}, which JAX would round to {'float32' if floating else 'complex64'}. {accept}, "
            "or enable x64: jax.config.update('jax_enable_x64', True)."
        )
    if (
        jnp.issubdtype(wanted, jnp.integer)
        and not jax.config.jax_enable_x64
        and np.any(np.asarray(value) != np.asarray(value, np.int32))
    ):
        raise ValueError(f"{name} has integers over 32 bits; enable x64 to keep them.")
    return jnp.array(value, dtype=wanted if floating else None, copy=True)


def unwrapped(value: Any, name: str = "the value") -> Any:
    """The array inside a torch tensor, a Keras variable or a Flax nnx variable, known by their methods."""
    if hasattr(value, "detach"):
        return _from_tensor(value, name)
    if hasattr(value, "get_value"):  # flax.nnx.Variable
        return value.get_value()
    if hasattr(value, "numpy") and hasattr(value, "assign"):  # keras.Variable
        return value.value if isinstance(value.value, jax.Array) else value.numpy()
    return value


def _from_tensor(tensor: Any, name: str) -> Any:
    """TypeError with advice if NumPy has no such thing as this tensor."""
    try:
        here = tensor.detach().cpu()
        return jnp.from_dlpack(here.contiguous()) if str(here.dtype) == DLPACK_ONLY else here.numpy()
    except (TypeError, NotImplementedError, RuntimeError) as error:
        described = f"{tensor.dtype} {tensor.layout} {tensor.device}"
        told = next(told for pattern, told in _UNREADABLE if re.search(pattern, described))
        raise TypeError(f"{name} must be a tensor that NumPy can read; got {described}: {told}.") from error


def namespace(*arrays: Any) -> ModuleType:
    """numpy where all arrays are NumPy's, so that no bit depends on x64; else jax.numpy, which also traces."""
    return np if all(isinstance(a, np.ndarray) for a in arrays) else jnp  # type: ignore[return-value]
