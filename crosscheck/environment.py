"""What a result was computed with: versions, device, precision, threads. Part of every result."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import jax

PACKAGES = ("jax-lstm", "jax", "jaxlib", "flax", "optax", "torch", "numpy")


def environment() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        **{name: version(name) for name in PACKAGES},
        "jax device": f"{device.platform} ({device.device_kind})",
        "torch device": "cpu",
        "jax x64": "on in lane A, off in lane B",
        "jax matmul precision": "highest (no TF32, no bfloat16)",
        "torch matmul precision": "highest (TF32 off in matmul and cuDNN)",
        "torch cpu paths": "oneDNN and native, both measured",
        "torch threads": 1,
    }
