"""The form of the loops depends only on the platform that a program is lowered for, and not on the host."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm
from jax_lstm._src import platforms
from tests.support.arrays import assert_close, drawn_weights, normal

B, T, D, H = 16, 96, 5, 128  # 12 blocks of 8 steps on a CPU, 4 of 24 elsewhere
CPU_BLOCKS, OTHER_BLOCKS = f"tensor<12x8x{B}x{H}xf32>", f"tensor<4x24x{B}x{H}xf32>"
PARAMS = drawn_weights(D, H, dtype=np.float32)
X = normal((B, T, D), np.float32)


def training_step(params, x):
    return jax.value_and_grad(lambda p, x: jnp.sum(jax_lstm.lstm(p, x)[0] ** 2), (0, 1))(params, x)


def exported(*names):
    return export.export(jax.jit(training_step), platforms=names)(PARAMS, X)


def blocks_in(program):
    text = program.mlir_module()
    return {name for name, block in (("cpu", CPU_BLOCKS), ("other", OTHER_BLOCKS)) if block in text}


def test_the_sizes_of_the_blocks():
    forms = platforms.loop_forms(T, (B, 4 * H))
    assert {name: form.steps for name, form in forms.items()} == {"cpu": 8, "tpu": 24, "other": 24}
    assert set(platforms.loop_forms(7, (B, 4 * H)).values()) == {(7, False, True), (7, True, False), (7, False, False)}


@pytest.mark.parametrize("name", ["tpu", "cuda", "rocm"])
def test_a_program_for_an_accelerator_holds_no_blocks_of_the_cpu(name):
    assert blocks_in(exported(name)) == {"other"}


def test_a_program_for_a_cpu_holds_its_own_blocks_only():
    assert blocks_in(exported("cpu")) == {"cpu"}


@pytest.mark.parametrize("name", ["cpu", "tpu", "cuda"])
def test_the_host_does_not_matter(name, monkeypatch):
    """The text is the same on a host with one CPU and on a host of four TPU chips."""
    here = exported(name).mlir_module()
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(jax, "device_count", lambda *args: 4)
    jax.clear_caches()
    assert without_places(exported(name).mlir_module()) == without_places(here)


def without_places(text):
    return re.sub(r"loc\(.*?\)$|^#loc.*$", "", text, flags=re.MULTILINE)


def test_a_program_for_two_platforms_gives_the_numbers_of_each():
    both = exported("cpu", "tpu")
    assert blocks_in(both) == {"cpu", "other"}
    reloaded = export.deserialize(both.serialize())
    assert_close(jax.jit(reloaded.call)(PARAMS, X), jax.jit(training_step)(PARAMS, X), rtol=2e-5, atol=2e-5)


def test_every_form_gives_the_same_numbers(monkeypatch):
    """The CPU runs the loops of the other platforms."""
    params, x = jax.tree.map(lambda a: a.astype(np.float64), (PARAMS, X))
    expected = jax.jit(training_step)(params, x)
    for name in ("tpu", platforms.OTHER):
        monkeypatch.setattr(platforms, "RULES", dict.fromkeys(platforms.RULES, platforms.RULES[name]))
        jax.clear_caches()
        assert_close(jax.jit(training_step)(params, x), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_program_knows_whether_it_is_for_one_device(devices):
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    x = jax.device_put(jnp.arange(8.0), NamedSharding(mesh, P("data")))
    assert bool(jax.jit(lambda x: platforms.is_for_one_device() & (x.sum() >= 0))(x)) == (devices == 1)


def test_without_jit_there_is_one_device():
    with jax.disable_jit():
        assert platforms.is_for_one_device()
