"""Settings of all tests: float64, eight CPU devices for the sharding tests, and quick compilation.

Compiled programs are removed after each test file. Otherwise a process grows to 6 GB.
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
jax.config.update("jax_include_full_tracebacks_in_locations", False)  # saves a tenth of the time to trace and lower

gc.set_threshold(20_000, 10, 10)  # tracing creates millions of small objects, but few cycles


@pytest.fixture(scope="module", autouse=True)
def _clear_programs_after_the_file():
    yield
    jax.clear_caches()


def pytest_collection_finish(session):
    """Exclude the imported modules and collected tests from garbage collection: they live until the end."""
    gc.collect()
    gc.freeze()
