"""The kernels for a TPU on a CPU. Pallas interprets them, and they replace the loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
from jax.interpreters import mlir

from jax_lstm._src import kernel_call


@contextmanager
def interpreted() -> Iterator[list[str]]:
    """Let programs for a CPU interpret the kernels. Yield a list with one entry per lowered kernel.

    Pallas' interpreter fails if jax.set_mesh has set an explicit mesh. A program for a TPU has no such limit.
    """
    lowered: list[str] = []

    def lower(ctx: Any, *args: Any, call: Any, **params: Any) -> Any:
        def noted(*args: Any, **options: Any) -> Any:
            lowered.append("kernel")
            return call.kernel.run(*args, **options)

        on_cpu = call._replace(kernel=call.kernel._replace(run=noted))
        return kernel_call.lower_call("tpu", ctx, *args, options={"interpret": True}, call=on_cpu, **params)

    mlir.register_lowering(kernel_call.call_p, lower, platform="cpu")
    jax.clear_caches()
    try:
        yield lowered
    finally:
        lower = partial(kernel_call.lower_call, "cpu")
        mlir.register_lowering(kernel_call.call_p, lower, platform="cpu")
        jax.clear_caches()
