"""x64 on, eight CPU devices for the sharding tests, and programs compiled in haste. Warnings are errors."""

from __future__ import annotations

import gc
import os

from tests import haste

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 {haste.HASTY}"

import jax

jax.config.update("jax_enable_x64", True)

gc.set_threshold(20_000, 10, 10)  # tracing makes millions of small objects, and hardly any garbage in cycles


def pytest_collection_finish(session):
    """Keep what is imported and collected out of the garbage collector's sight: it stays until the end."""
    gc.collect()
    gc.freeze()
