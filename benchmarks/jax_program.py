"""A JAX function as an implementation: compiled ahead of time, so that the clock sees the program and nothing around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.implementation import Ready
from benchmarks.work import Work

Apply = Callable[[Any, Any], Any]


def ready_jax(
    work: Work,
    apply: Apply,
    weights_of: Callable[[dict[str, Any]], Any] = lambda state_dict: state_dict,
    *,
    batch_first: bool = False,
) -> Ready:
    """``apply(weights, x) -> y``, on the weights in the library's own layout.

    ``weights_of(state_dict)`` makes these of a torch state dict of arrays; it must be affine, for its transpose brings
    the gradients back to torch's names. ``batch_first``: x ``[B, T, D]`` and y ``[B, T, H]``, laid out so beforehand.
    """
    state_dict = {name: jnp.asarray(a, work.dtype) for name, a in work.weights.items()}
    swapped = lambda a: np.ascontiguousarray(a.swapaxes(0, 1)) if batch_first else a
    x, cotangent = (jnp.asarray(swapped(a), work.dtype) for a in (work.x, work.cotangent))
    weights = jax.jit(weights_of)(state_dict)

    def loss(weights, x, cotangent):
        return jnp.sum(apply(weights, x) * cotangent)

    program: Any
    arguments: tuple
    if work.kind == "forward":
        program, arguments = jax.jit(apply), (weights, x)
    else:
        program, arguments = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))), (weights, x, cotangent)
    started = time.perf_counter()
    compiled = program.lower(*arguments).compile()
    seconds = time.perf_counter() - started

    def read(returned):
        flat = lambda a: swapped(np.asarray(a.astype(jnp.float32)))
        if work.kind == "forward":
            return {"y": flat(returned)}
        value, (d_weights, d_x) = returned
        (d_named,) = jax.vjp(weights_of, state_dict)[1](d_weights)
        named = {f"grad {name}": np.asarray(a.astype(jnp.float32)) for name, a in d_named.items()}
        return {"loss": np.asarray(value, np.float32), "grad x": flat(d_x)} | named

    return Ready(lambda: jax.block_until_ready(compiled(*arguments)), read, seconds, _temporary(compiled))


def _temporary(compiled: Any) -> int | None:
    """Bytes that the program takes beside arguments and results; None where the platform does not say."""
    analysis = compiled.memory_analysis()
    size = getattr(analysis, "temp_size_in_bytes", None)
    return None if size is None else int(size)
