"""What a result was computed with: versions, device, precision, threads. It is part of every result."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import jax
import torch

from crosscheck.core.jax_runner import device_of, jax_precision
from crosscheck.core.torch_runner import full_precision

PACKAGES = ("jax-lstm", "jax", "jaxlib", "flax", "optax", "torch", "numpy")


def processor() -> str:
    """Return the processor's name, or "unknown"."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def _name(device: jax.Device) -> str:
    return f"{device.platform} ({device.device_kind})"


def describe_environment() -> dict[str, Any]:
    """Return versions, device and settings. Settings are read inside the contexts in which implementations run."""
    device = jax.devices()[0]
    with full_precision(), jax_precision("float64"):
        precision = {
            "jax matmul precision": jax.config.jax_default_matmul_precision,
            "torch matmul precision": torch.get_float32_matmul_precision(),
            "torch TF32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
            "torch threads": torch.get_num_threads(),
        }
        x64 = {"jax x64 in the float64 check": jax.config.jax_enable_x64}
        device64 = device_of("float64") or device
    with jax_precision("float32"):
        x64["jax x64 in the float32 check"] = jax.config.jax_enable_x64
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cpus": os.cpu_count(),
        **{name: version(name) for name in PACKAGES},
        "jax device": _name(device),
        "jax device in the float64 check": _name(device64),
        "torch device": "cpu",
        "torch instruction set": torch.backends.cpu.get_cpu_capability(),
        "torch oneDNN": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        **precision,
        **x64,
    }
