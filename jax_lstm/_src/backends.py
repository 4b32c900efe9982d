"""The choice of the backend that runs a call. It is made before the call itself is traced.

"scan" runs every call on every device. "native" runs our compiled kernels on a CPU, and "pallas" our kernels on a TPU.
"cudnn" is NVIDIA's kernel behind jax.experimental.rnn. Each of these three runs the calls for which its function here
returns no obstacle.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Abstract, DType
from jax_lstm._src.blocks import are_known
from jax_lstm._src.cell import LSTM, Cell
from jax_lstm._src.cpu_library import load_library
from jax_lstm._src.dtypes import carry_dtype_of
from jax_lstm._src.network import Network
from jax_lstm._src.options import Options
from jax_lstm._src.precisions import allows_tf32, as_one_precision, has_algorithm, resolve_precision
from jax_lstm._src.tpu_memory import missing_memory

TPU_PRECISIONS = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST)  # JAX 0.10 lowers no other in a kernel
OTHERWISE_SCAN = (
    "scan runs instead in a program for another platform, for several devices without shard_map over every mesh axis, "
)


class BackendChoice(NamedTuple):
    """The backend of a call, and the reason in words. `jax_lstm.choose_backend` returns it.

    Attributes:
      backend: "scan", "native", "cudnn" or "pallas".
      reason: why this backend was chosen, and when its program runs the loops of "scan" instead.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16)
      >>> choice = jax_lstm.choose_backend(params, jnp.ones((4, 10, 8)), backend="scan")
      >>> choice.backend, choice.reason
      ('scan', 'asked for')
    """

    backend: Literal["scan", "native", "cudnn", "pallas"]
    reason: str


def select_backend(
    cell: Cell, network: Network, x: Abstract, dtype: DType, options: Options, keep: str
) -> BackendChoice:
    """Return the backend of a call that computes in ``dtype``.

    Raise ValueError if ``options.backend`` cannot run it. ``keep`` is "states" if the states of all steps are wanted.
    """
    if options.backend == "scan":
        return BackendChoice("scan", "asked for")
    if options.backend == "pallas":
        if dtype == jnp.float64:  # a TPU has no such hardware, and crosscheck judges every call in float64 too
            return BackendChoice("scan", "pallas was asked for, and float64 runs scan on every platform")
        refuse("pallas", obstacles_to_pallas(cell, network, x, dtype, options, keep))
        return BackendChoice("pallas", f"asked for; {OTHERWISE_SCAN}and under vmap")
    if options.backend == "cudnn":
        refuse("cudnn", obstacles_to_cudnn(cell, network, x, dtype, options, keep))
        return BackendChoice("cudnn", "asked for")
    otherwise = f"{OTHERWISE_SCAN}in an exported one, under vmap over the weights, and for gradients per example"
    obstacles = obstacles_to_native(cell, network, x, dtype, options)
    if options.backend == "native":
        refuse("native", obstacles)
        return BackendChoice("native", f"asked for; {otherwise}")
    beside = _word_on_cudnn(cell, network, x, dtype, options, keep)
    if not obstacles and _pays_for_packing(network, x, options):
        return BackendChoice("native", f"it is the fastest on a CPU; {otherwise}{beside}")
    if not obstacles:
        return BackendChoice("scan", f"native packs the weights, which may take longer than so few steps{beside}")
    # A measured rule belongs here, as one line. For cudnn it must be worth the price: cudnn has no forward mode and no
    # second derivatives, and nothing here says whether the caller takes them. For pallas there is no measurement yet:
    # nobody has timed it on a TPU.
    return BackendChoice("scan", f"native cannot run this call: {'; '.join(obstacles)}{beside}")


def _pays_for_packing(network: Network, x: Abstract, options: Options) -> bool:
    """Return whether the call has enough steps for native, which packs the weights, to be faster than scan.

    Measured with JAX 0.10 on two CPU cores, a training step in float32, native in units of scan, for D = 256, H = 1024
    and one row: 2.2 with 1 step, 1.3 with 8, 0.8 with 32, 0.65 with 64; for D = H = 64 and one row: 0.4 with 4 steps.
    With one step of 64 rows it is 1.5 for the first of these sizes, and 0.6 for the second.
    `python -m benchmarks --shape T,B,D,H --work training` times both.
    """
    axis = 0 if options.time_major else x.ndim - 2
    steps, rows = x.shape[axis], math.prod(x.shape[:axis] + x.shape[axis + 1 : -1])
    return bool(steps > 1 and (rows > 1 or 32 * steps >= network.hidden_size))


def _word_on_cudnn(cell: Cell, network: Network, x: Abstract, dtype: DType, options: Options, keep: str) -> str:
    """Return why "auto" does not choose cudnn, if there is a CUDA device."""
    if not has_cuda():
        return ""
    obstacles = obstacles_to_cudnn(cell, network, x, dtype, options, keep)
    if obstacles:
        return f"; cudnn cannot run this call: {'; '.join(obstacles)}"
    return "; cudnn could run this call, but no measurement says that it is faster"


def refuse(backend: str, obstacles: list[str]) -> None:
    """Raise ValueError if there are obstacles to the backend that a caller asks for."""
    if obstacles:
        raise ValueError(
            f"backend={backend!r} cannot run this call: {'; '.join(obstacles)}. "
            "Write backend='scan', which runs every call on every device."
        )


def obstacles_to_native(cell: Cell, network: Network, x: Abstract, dtype: DType, options: Options) -> list[str]:
    """Return the reasons why the compiled kernels for a CPU cannot run a call."""
    missing = load_library().missing
    obstacles = [] if missing is None else [missing]
    if cell is not LSTM:
        obstacles.append(f"the cell is {cell.name}, and it has an LSTM only")
    if jnp.dtype(dtype).name not in ("float32", "float64"):
        obstacles.append(f"x and the weights compute in {jnp.dtype(dtype).name}, and it takes float32 and float64 only")
    elif carry_dtype_of(options.carry_dtype, dtype) != dtype:
        obstacles.append(f"carry_dtype is {jnp.dtype(options.carry_dtype).name}, and its state is {dtype}")
    if network.proj_size:
        obstacles.append(f"the weights have a projection to {network.proj_size}")
    if has_algorithm(options.precision):
        obstacles.append(f"it computes in full {dtype}, and precision is {resolve_precision(options.precision)!r}")
    return obstacles + _obstacles_of_the_sizes(x, network)


def obstacles_to_cudnn(
    cell: Cell, network: Network, x: Abstract, dtype: DType, options: Options, keep: str
) -> list[str]:
    """Return the reasons why cudnn cannot run a call, as far as they are known while tracing."""
    obstacles = _obstacles_to_a_kernel(cell, network, dtype, options, keep, only=("float32",))
    obstacles += _without(options, "mask", "reset", "truncate_every", "checkpoint_every")
    if allows_tf32(options.precision) is None:
        obstacles.append(f"it knows float32 and TF32, and no precision {resolve_precision(options.precision)!r}")
    obstacles += _obstacles_of_the_sizes(x, network)
    return obstacles + _obstacles_of_the_device(x)


def obstacles_to_pallas(
    cell: Cell, network: Network, x: Abstract, dtype: DType, options: Options, keep: str
) -> list[str]:
    """Return the reasons why the kernels for a TPU cannot run a call."""
    obstacles = _obstacles_to_a_kernel(cell, network, dtype, options, keep, only=("float32", "bfloat16"))
    obstacles += _without(options, "lengths", "mask", "reset", "truncate_every")
    precision = as_one_precision(options.precision)
    if precision not in TPU_PRECISIONS:
        named = resolve_precision(options.precision)
        obstacles.append(f"it knows the precisions 'default' and 'highest', and no precision {named!r}")
    obstacles += _obstacles_of_the_sizes(x, network)
    if obstacles or precision is None:
        return obstacles
    batch = math.prod(x.shape[1:-1] if options.time_major else x.shape[:-2])
    if missing := missing_memory(network, batch, dtype, precision):
        needed, given = missing
        obstacles.append(
            f"a training step of a batch of {batch} with D = {network.input_size} and H = {network.hidden_size} needs "
            f"{needed} MiB of vector memory, and a TPU has {given} MiB (a smaller batch per device may fit)"
        )
    return obstacles


def _obstacles_to_a_kernel(
    cell: Cell, network: Network, dtype: DType, options: Options, keep: str, only: tuple[str, ...]
) -> list[str]:
    """Return what no kernel can run. ``only`` has the names of the dtypes that this kernel computes in."""
    carry_dtype = carry_dtype_of(options.carry_dtype, dtype)
    obstacles = []
    if cell is not LSTM:
        obstacles.append(f"the cell is {cell.name}, and it has an LSTM only")
    if jnp.dtype(dtype).name not in only:
        taken = " and ".join(only)
        obstacles.append(f"x and the weights compute in {jnp.dtype(dtype).name}, and it takes {taken} only")
    elif carry_dtype != jnp.float32:
        obstacles.append(f"carry_dtype is {jnp.dtype(carry_dtype).name}, and its state is float32")
    if network.proj_size:
        obstacles.append(f"the weights have a projection to {network.proj_size}")
    if keep != "h":
        obstacles.append("the c of every step is asked for (lstm_states), and it returns only the h of every step")
    return obstacles


def _without(options: Options, *names: str) -> list[str]:
    """Return one obstacle per given option that the kernel does not have."""
    return [f"it has no {name}" for name in names if getattr(options, name) is not None]


def _obstacles_of_the_sizes(x: Abstract, network: Network) -> list[str]:
    if not are_known(*x.shape, network.hidden_size):
        return [f"its sizes must be known, and x has shape {x.shape} with H = {network.hidden_size}"]
    if 0 in x.shape[:-1]:
        return [f"it refuses an empty batch, and x has shape {x.shape}"]
    return [] if network.hidden_size and x.shape[-1] else ["it refuses D = 0 and H = 0"]


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
