"""Which backend runs a call: decided while tracing, before anything of it is traced, and with the reason.

`scan` runs everything everywhere. `cudnn` is NVIDIA's kernel behind jax.experimental.rnn, and runs what
:func:`obstacles_to_cudnn` finds nothing against.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.cell import LSTM, Cell
from jax_lstm._src.dtypes import carry_dtype_of
from jax_lstm._src.network import Network
from jax_lstm._src.options import Options

PRESETS_WITH_TF32 = {"DEFAULT": True, "TF32_TF32_F32": True, "F32_F32_F32": False}


class BackendChoice(NamedTuple):
    """backend: "scan" or "cudnn"; reason: why, in words."""

    backend: Literal["scan", "cudnn"]
    reason: str


def choose(cell: Cell, network: Network, x: Any, dtype: Any, options: Options, keep: str) -> BackendChoice:
    """The backend of a call that computes in ``dtype``; ValueError where ``options`` ask for one that cannot run it."""
    if options.backend == "scan":
        return BackendChoice("scan", "asked for")
    obstacles = obstacles_to_cudnn(cell, network, x, dtype, options, keep)
    if options.backend == "cudnn":
        if obstacles:
            raise ValueError(
                f"backend='cudnn' cannot run this call: {'; '.join(obstacles)}. "
                "Write backend='scan', which runs every call on every device."
            )
        return BackendChoice("cudnn", "asked for")
    if obstacles:
        return BackendChoice("scan", f"cudnn cannot run this call: {'; '.join(obstacles)}")
    # A measured rule goes here, as one line. It must outweigh that forward mode and second derivatives, which cudnn
    # does not have, cannot be seen from here.
    return BackendChoice("scan", "cudnn could run this call, but no measurement says that it is faster")


def obstacles_to_cudnn(cell: Cell, network: Network, x: Any, dtype: Any, options: Options, keep: str) -> list[str]:
    """What keeps cudnn from running a call, as far as it is known while tracing; empty if nothing does."""
    carry_dtype = carry_dtype_of(options.carry_dtype, dtype)
    found = []
    if cell is not LSTM:
        found.append(f"the cell is {cell.name}, and JAX reaches cuDNN's LSTM alone")
    if dtype != jnp.float32:
        found.append(f"x and the weights compute in {jnp.dtype(dtype).name}, and it takes float32 alone")
    elif carry_dtype != jnp.float32:
        found.append(f"carry_dtype is {jnp.dtype(carry_dtype).name}, and its state is float32")
    if network.proj_size:
        found.append(f"the weights have a projection to {network.proj_size}")
    if keep != "h":
        found.append("every step's c is asked for (lstm_states), and it gives every step's h alone")
    for name in ("mask", "reset", "truncate_every", "checkpoint_every"):
        if getattr(options, name) is not None:
            found.append(f"it has no {name}")
    if options.residuals != "fast":
        found.append(f"it decides itself what the backward pass keeps, and residuals is {options.residuals!r}")
    if allows_tf32(options.precision) is None:
        found.append(f"it knows float32 and TF32, and no precision {options.precision or _default_precision()!r}")
    if not all(isinstance(size, int) for size in x.shape):
        found.append(f"its sizes must be known, and x has shape {x.shape}")
    elif 0 in x.shape[:-1]:
        found.append(f"it refuses an empty batch, and x has shape {x.shape}")
    return found + _obstacles_of_the_device(x)


def allows_tf32(precision: Any) -> bool | None:
    """Whether a precision lets float32 products use TF32 on a GPU; None where it asks for something else again.

    None stands for jax_default_matmul_precision, and where that is None too, TF32 is what XLA uses.
    """
    precision = _default_precision() if precision is None else precision
    each = precision if isinstance(precision, (tuple, list)) else (precision,)
    answers = [_allows_tf32(one) for one in each]
    return None if None in answers else all(answers)


def _allows_tf32(precision):
    if precision is None:
        return True
    if isinstance(precision, jax.lax.DotAlgorithmPreset):
        return PRESETS_WITH_TF32.get(precision.name)
    try:
        return jax.lax.Precision(precision) is not jax.lax.Precision.HIGHEST
    except ValueError:  # no name of a Precision
        return PRESETS_WITH_TF32.get(precision) if isinstance(precision, str) else None


def _default_precision():
    return jax.config.jax_default_matmul_precision


def _obstacles_of_the_device(x):
    if not has_cuda():
        return ["JAX has no CUDA device here"]
    elsewhere = platforms_of(x) - {"gpu"}
    return [f"x lies on {', '.join(sorted(elsewhere))}"] if elsewhere else []


def platforms_of(x: Any) -> set[str]:
    """The platforms that x lies on, as JAX names them; empty where that is not known, as under jit."""
    known = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
    return {device.platform for device in x.devices()} if known else set()


def has_cuda() -> bool:
    """Whether JAX sees a CUDA device, and jaxlib's cuDNN calls were installed with it.

    Without the latter, tracing jax.experimental.rnn raises AttributeError. ROCm is another library with another gate
    order, and does not count.
    """
    try:
        jax.devices("cuda")
        from jax.experimental import rnn
    except (RuntimeError, ImportError):
        return False
    return hasattr(rnn.gpu_rnn, "compute_rnn_workspace_reserve_space_sizes")
