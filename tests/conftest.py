"""x64 on, eight CPU devices for the sharding tests, and programs compiled quickly. Warnings are errors.

Compiled programs stay in memory until their file of tests is done. Otherwise each process grows to 6 GB.
"""

from __future__ import annotations

import gc
import os

from tests.support import xla_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    (os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", xla_flags.FAST_COMPILE)
)

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_include_full_tracebacks_in_locations", False)  # a tenth of the time to trace and lower

gc.set_threshold(20_000, 10, 10)  # tracing makes millions of small objects, and hardly any garbage in cycles


@pytest.fixture(scope="module", autouse=True)
def _programs_of_this_file_only():
    yield
    jax.clear_caches()


def pytest_collection_finish(session):
    """Keep what is imported and collected out of the garbage collector's sight: it stays until the end."""
    gc.collect()
    gc.freeze()
