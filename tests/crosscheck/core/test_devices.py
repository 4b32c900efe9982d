"""The device of both precision checks: JAX's default device, but for float64 the CPU if the default is a TPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.support.requirements import need

need("torch")  # crosscheck.core.environment

from crosscheck.core.environment import describe_environment
from crosscheck.core.jax_runner import device_of, jax_precision


def device_in(dtype):
    """Return the device of an array of a run in ``dtype``, if the default device is another CPU device."""
    with jax.default_device(jax.devices()[3]), jax_precision(dtype):
        (device,) = jnp.ones(2).devices()
    return device


@pytest.mark.parametrize(("backend", "moved"), [("tpu", True), ("cpu", False), ("gpu", False)])
def test_float64_runs_on_the_cpu_of_a_tpus_host(backend, moved, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert device_in("float64") == jax.devices("cpu")[0 if moved else 3]
    assert device_in("float32") == jax.devices("cpu")[3]


def test_a_host_without_a_cpu_device_keeps_the_tpu(monkeypatch):
    def fail(*args):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(jax, "devices", fail)
    assert device_of("float64") is None


def test_the_settings_name_both_devices_and_the_precision():
    settings = describe_environment()
    assert settings["jax device"] == settings["jax device in the float64 check"] == "cpu (cpu)"
    assert settings["jax matmul precision"] == "highest"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_product_of_a_run_has_the_highest_precision(dtype):
    with jax_precision(dtype):
        traced = jax.make_jaxpr(jnp.dot)(jnp.ones((2, 2)), jnp.ones((2, 2)))
    assert "HIGHEST" in str(traced)
