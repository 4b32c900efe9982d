"""Which backend runs a call, and why. It is decided before the call itself is traced.

"scan" runs every call on every device. "cudnn" is NVIDIA's kernel behind jax.experimental.rnn. It runs the calls for
which :func:`obstacles_to_cudnn` returns no obstacle.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Abstract, DType, Precision
from jax_lstm._src.cell import LSTM, Cell
from jax_lstm._src.dtypes import carry_dtype_of
from jax_lstm._src.network import Network
from jax_lstm._src.options import Options

PRESETS_WITH_TF32 = {"DEFAULT": True, "TF32_TF32_F32": True, "F32_F32_F32": False}


class BackendChoice(NamedTuple):
    """The backend of a call, "scan" or "cudnn", and the reason in words."""

    backend: Literal["scan", "cudnn"]
    reason: str


def select_backend(
    cell: Cell, network: Network, x: Abstract, dtype: DType, options: Options, keep: str
) -> BackendChoice:
    """Return the backend of a call that computes in ``dtype``.

    Raise ValueError if ``options.backend`` cannot run it. ``keep`` is "states" if the states of all steps are wanted.
    """
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
    # A measured rule belongs here, as one line. It must be worth its price: cudnn has no forward mode and no second
    # derivatives, and whether these follow cannot be seen here.
    return BackendChoice("scan", "cudnn could run this call, but no measurement says that it is faster")


def obstacles_to_cudnn(
    cell: Cell, network: Network, x: Abstract, dtype: DType, options: Options, keep: str
) -> list[str]:
    """Return the reasons why cudnn cannot run a call, as far as they are known while tracing."""
    carry_dtype = carry_dtype_of(options.carry_dtype, dtype)
    obstacles = []
    if cell is not LSTM:
        obstacles.append(f"the cell is {cell.name}, and JAX reaches cuDNN's LSTM only")
    if dtype != jnp.float32:
        obstacles.append(f"x and the weights compute in {jnp.dtype(dtype).name}, and it takes float32 only")
    elif carry_dtype != jnp.float32:
        obstacles.append(f"carry_dtype is {jnp.dtype(carry_dtype).name}, and its state is float32")
    if network.proj_size:
        obstacles.append(f"the weights have a projection to {network.proj_size}")
    if keep != "h":
        obstacles.append("the c of every step is asked for (lstm_states), and it returns only the h of every step")
    for name in ("mask", "reset", "truncate_every", "checkpoint_every"):
        if getattr(options, name) is not None:
            obstacles.append(f"it has no {name}")
    if allows_tf32(options.precision) is None:
        obstacles.append(f"it knows float32 and TF32, and no precision {options.precision or _default_precision()!r}")
    if not all(isinstance(size, int) for size in x.shape):
        obstacles.append(f"its sizes must be known, and x has shape {x.shape}")
    elif 0 in x.shape[:-1]:
        obstacles.append(f"it refuses an empty batch, and x has shape {x.shape}")
    return obstacles + _obstacles_of_the_device(x)


def allows_tf32(precision: Precision) -> bool | None:
    """Return whether a precision lets float32 products use TF32 on a GPU, or None if it is neither float32 nor TF32.

    A precision of None stands for jax_default_matmul_precision. If that is None too, XLA uses TF32.
    """
    resolved = _default_precision() if precision is None else precision
    each = resolved if isinstance(resolved, (tuple, list)) else (resolved,)
    answers = [_allows_tf32(one) for one in each]
    return None if None in answers else all(answers)


def _allows_tf32(precision: Any) -> bool | None:
    if precision is None:
        return True
    if isinstance(precision, jax.lax.DotAlgorithmPreset):
        return PRESETS_WITH_TF32.get(precision.name)
    try:
        return jax.lax.Precision(precision) is not jax.lax.Precision.HIGHEST
    except ValueError:  # not the name of a Precision
        return PRESETS_WITH_TF32.get(precision) if isinstance(precision, str) else None


def _default_precision() -> Any:
    return jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]


def _obstacles_of_the_device(x: Abstract) -> list[str]:
    if not has_cuda():
        return ["JAX has no CUDA device here"]
    elsewhere = platforms_of(x) - {"gpu"}
    return [f"x lies on {', '.join(sorted(elsewhere))}"] if elsewhere else []


def platforms_of(x: Abstract) -> set[str]:
    """Return the platforms that x lies on, as JAX names them; empty if they are unknown, as under jit."""
    if not isinstance(x, jax.Array) or isinstance(x, jax.core.Tracer):
        return set()
    return {device.platform for device in x.devices()}


def has_cuda() -> bool:
    """Return whether JAX sees a CUDA device and the cuDNN calls of jaxlib are installed.

    Without these calls, tracing jax.experimental.rnn raises AttributeError. ROCm does not count: it is another library
    with another gate order.
    """
    try:
        jax.devices("cuda")
        from jax.experimental import rnn
    except (RuntimeError, ImportError):
        return False
    return hasattr(rnn.gpu_rnn, "compute_rnn_workspace_reserve_space_sizes")  # type: ignore[attr-defined]
