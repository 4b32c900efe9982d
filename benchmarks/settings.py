"""The settings of all measurements, and a record of them.

x64 is off. float32 means full float32 products in both frameworks. tf32 lets both frameworks round the factors to TF32,
which only a GPU does. On a CPU both keep their defaults, which are full float32 products.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import jax
import torch
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from crosscheck.core.environment import processor
from crosscheck.core.missing import installed_version

PACKAGES = ("jax-lstm", "jax", "jaxlib", "flax", "dm-haiku", "equinox", "torch", "numpy")


def use_threads(count: int) -> None:
    """Give both frameworks this number of cores.

    JAX must not have started its device yet: its pool gets one thread per core that is available at that time.

    Raises:
      ValueError: the process has fewer cores.
      RuntimeError: the system cannot confine a process.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise RuntimeError("--threads: this system cannot confine a process to some of its cores")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(cores):
        raise ValueError(f"--threads must be from 1 to {len(cores)}, the cores at hand; got {count}")
    os.sched_setaffinity(0, cores[:count])
    torch.set_num_threads(count)


def cores() -> int:
    """Return the number of cores of this process. JAX's pool has this size."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def measuring(precision: str) -> Iterator[None]:
    """Set one precision in both frameworks, turn off x64 and JAX's cache on disk, and restore all of it afterwards."""
    on_gpu = jax.devices()[0].platform == "gpu"
    narrow = precision == "tf32"
    with ExitStack() as stack:
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        stack.callback(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
        torch.set_float32_matmul_precision("high" if narrow else "highest")
        torch.backends.cudnn.allow_tf32 = narrow
        stack.enter_context(jax.enable_x64(False))
        stack.enter_context(_without_cache())
        if on_gpu and not narrow:
            stack.enter_context(jax.default_matmul_precision("highest"))
        stack.enter_context(warnings.catch_warnings())
        for text in ("TF32 acceleration", "LSTM with projections is not supported", "Online softmax", "dtype"):
            warnings.filterwarnings("ignore", message=f".*{text}")
        yield


@contextmanager
def _without_cache() -> Iterator[None]:
    """Turn off JAX's cache on disk. A program from it would make the time to compile too short."""
    enabled = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()  # JAX asks for the option once, at its first program
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        reset_cache()


def record(precision: str) -> dict[str, Any]:
    """Return date, device, versions, threads and precision. Call it inside of `measuring`."""
    device = jax.devices()[0]
    with measuring(precision):
        precisions = {
            "precision": precision,
            "jax matmul precision": str(jax.config.jax_default_matmul_precision),
            "jax x64": bool(jax.config.jax_enable_x64),
            "torch matmul precision": torch.get_float32_matmul_precision(),
            "torch cuDNN TF32": bool(torch.backends.cudnn.allow_tf32),
        }
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": f"{device.platform} ({device.device_kind})",
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: installed_version(name) for name in PACKAGES},
        "cuDNN of torch": str(torch.backends.cudnn.version()) if torch.cuda.is_available() else "none",
        "cores": cores(),
        "jax threads": cores(),
        "torch threads": torch.get_num_threads(),
        **precisions,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }
