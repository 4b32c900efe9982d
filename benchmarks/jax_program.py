"""A JAX function as an implementation. It is compiled ahead of time, so only the program is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.implementation import Ready
from benchmarks.work import Work, training_results
from crosscheck.core.problem import Results
from crosscheck.libraries.adapter import Params, Weights


def ready_jax(
    work: Work,
    apply: Callable[[Weights, jax.Array], jax.Array],
    write: Callable[[Params], Weights] = lambda params: params,
    *,
    batch_first: bool = False,
) -> Ready:
    """Compile ``apply(weights, x) -> y`` for the work.

    Args:
      work: the work.
      apply: the network. x is ``[T, B, D]`` and y ``[T, B, directions * P]``.
      write: converts a torch state dict of arrays into the weights of ``apply``. The default changes nothing. It must
        be affine, because its transpose converts gradients back to torch's names.
      batch_first: x is ``[B, T, D]`` and y ``[B, T, directions * P]``. The transposition is not timed.
    """
    params = {name: jnp.asarray(a, work.dtype) for name, a in work.weights.items()}
    swapped = lambda a: np.ascontiguousarray(a.swapaxes(0, 1)) if batch_first else a
    x, cotangent = (jnp.asarray(swapped(a), work.dtype) for a in (work.x, work.cotangent))
    weights = jax.jit(write)(params)

    def loss(weights: Weights, x: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jnp.sum(apply(weights, x) * cotangent)

    program: Any = jax.jit(apply)
    arguments: tuple[Any, ...] = (weights, x)
    if work.kind == "training":
        program, arguments = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))), (weights, x, cotangent)
    started = time.perf_counter()
    compiled = program.lower(*arguments).compile()
    seconds = time.perf_counter() - started

    def read(returned: Any) -> Results:
        to_numpy = lambda a: np.asarray(a.astype(jnp.float32))
        if work.kind == "forward":
            return {"y": swapped(to_numpy(returned))}
        value, (d_weights, d_x) = returned
        (d_params,) = jax.vjp(write, params)[1](d_weights)
        arrays = (to_numpy(value), swapped(to_numpy(d_x)), *map(to_numpy, d_params.values()))
        return dict(zip(training_results(d_params), arrays, strict=True))

    memory = getattr(compiled.memory_analysis(), "temp_size_in_bytes", None)  # without arguments and results
    return Ready(lambda: jax.block_until_ready(compiled(*arguments)), read, seconds, memory)
