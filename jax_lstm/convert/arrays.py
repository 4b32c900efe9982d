"""Arrays of any framework as jax arrays, without a silent loss of bits, and the names of types in this package."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

Array: TypeAlias = jax.Array | np.ndarray
Params: TypeAlias = dict[str, Array]
"""A torch.nn.LSTM state dict: ``weight_ih_l0 [4H, D]``, ``weight_hh_l0 [4H, H]``, ``bias_ih_l0 [4H]``, ..."""
AnyArray: TypeAlias = Any
"""An array, tensor or variable of JAX, NumPy, torch, Keras or Flax, or a tracer. ``read_array`` checks it."""
AnyTree: TypeAlias = Any
"""A library's own structure of `AnyArray`: a mapping, a sequence, a module or a single array."""

DLPACK_ONLY = "torch.bfloat16"  # NumPy has no such dtype; JAX reads it from torch's memory
# torch tensors that cannot be read, by "dtype layout device", and what to pass instead: the first that fits.
_UNREADABLE = (
    (r" meta", "the tensor is on the meta device and has no values yet: load the checkpoint into the module first"),
    (r"torch\.q", "it is quantized: pass tensor.dequantize()"),
    (r"torch\.(float[468]|u?int[1-7]\b|bits)", "pass tensor.to(torch.float32), times its scale if that is kept apart"),
    (r"torch\.complex32", "pass tensor.to(torch.complex64)"),
    (r" torch\.(?!strided)", "pass tensor.to_dense()"),
    (r"", "pass tensor.to(torch.float32), or an array"),
)


def read_array(name: str, value: AnyArray, dtype: DTypeLike | None = None) -> jax.Array:
    """Return a copy of an array of any framework as a jax array.

    Args:
      name: what the array is called in errors.
      value: a jax, NumPy, torch, Keras or Flax nnx array, or a tracer.
      dtype: the dtype to cast a floating-point array to. None keeps its own.

    Raises:
      TypeError: it is no array, or a tensor in a form that neither NumPy nor JAX has, such as a quantized one.
      ValueError: JAX would round it, because it has 64 bits (a complex one 128) and x64 is off.
    """
    value = unwrap(value, name)
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


def unwrap(value: AnyArray, name: str = "the value") -> Any:
    """Return the array in a torch tensor, a Keras variable or a Flax nnx variable; their methods tell which it is."""
    if hasattr(value, "detach"):
        return _from_tensor(value, name)
    if hasattr(value, "get_value"):  # flax.nnx.Variable
        return value.get_value()
    if hasattr(value, "numpy") and hasattr(value, "assign"):  # keras.Variable
        return value.value if isinstance(value.value, jax.Array) else value.numpy()
    return value


def _from_tensor(tensor: Any, name: str) -> Array:
    """Return a torch tensor's values. TypeError with advice if NumPy has no such array."""
    try:
        on_cpu = tensor.detach().cpu()
        return jnp.from_dlpack(on_cpu.contiguous()) if str(on_cpu.dtype) == DLPACK_ONLY else on_cpu.numpy()
    except (TypeError, NotImplementedError, RuntimeError) as error:
        description = f"{tensor.dtype} {tensor.layout} {tensor.device}"
        advice = next(advice for pattern, advice in _UNREADABLE if re.search(pattern, description))
        raise TypeError(f"{name} must be a tensor that NumPy can read; got {description}: {advice}.") from error


def namespace(*arrays: Array) -> ModuleType:
    """Return numpy if all arrays are NumPy's, so that no bit depends on x64; else jax.numpy, which also traces."""
    return np if all(isinstance(a, np.ndarray) for a in arrays) else jnp  # type: ignore[return-value]


def concrete(value: Array, purpose: str) -> np.ndarray:
    """Return an array's values. ValueError in a transformation, which does not know them yet."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{purpose} looks at values, which are not known inside jax.jit, grad or vmap: call it outside."
        )
    return np.asarray(value)
