"""The kernels for a TPU on a CPU: Pallas interprets them, in the place of the loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.interpreters import mlir

from jax_lstm._src import kernel_call


@contextmanager
def interpreted() -> Iterator[list[str]]:
    """Let programs for a CPU interpret the kernels. Gives a list with one entry per lowered kernel.

    Pallas' interpreter fails if jax.set_mesh has set an explicit mesh. A program for a TPU has no such limit.
    """
    lowered: list[str] = []

    def lower(ctx: Any, *args: Any, kernel: Any, **params: Any) -> Any:
        def noted(*args: Any, interpret: bool) -> Any:
            lowered.append("kernel")
            return kernel(*args, interpret=interpret)

        return kernel_call.lower_kernel(ctx, *args, interpret=True, kernel=noted, **params)

    mlir.register_lowering(kernel_call.call_p, lower, platform="cpu")
    jax.clear_caches()
    try:
        yield lowered
    finally:
        loop = mlir.lower_fun(kernel_call.run_loop, multiple_results=True)
        mlir.register_lowering(kernel_call.call_p, loop, platform="cpu")
        jax.clear_caches()
