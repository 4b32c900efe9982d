"""What a result was computed with: versions, device, precision, threads. Part of every result."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import jax
import torch

from crosscheck.core.jax_runner import jax_lane
from crosscheck.core.machine import processor
from crosscheck.core.torch_runner import full_precision

PACKAGES = ("jax-lstm", "jax", "jaxlib", "flax", "optax", "torch", "numpy")


def environment() -> dict[str, Any]:
    """Settings are read back from within the contexts in which the sides run."""
    device = jax.devices()[0]
    with full_precision(), jax_lane("float64"):
        precision = {
            "jax matmul precision": jax.config.jax_default_matmul_precision,
            "torch matmul precision": torch.get_float32_matmul_precision(),
            "torch TF32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
            "torch threads": torch.get_num_threads(),
        }
        x64 = {"jax x64 in lane A": jax.config.jax_enable_x64}
    with jax_lane("float32"):
        x64["jax x64 in lane B"] = jax.config.jax_enable_x64
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cpus": os.cpu_count(),
        **{name: version(name) for name in PACKAGES},
        "jax device": f"{device.platform} ({device.device_kind})",
        "torch device": "cpu",
        "torch instruction set": torch.backends.cpu.get_cpu_capability(),
        "torch oneDNN": torch.backends.mkldnn.is_available(),
        **precision,
        **x64,
    }
