"""Forward pass and training step lower for CPU, CUDA and TPU, and an exported function gives the same results.

Lowering needs no such device. So a change that breaks one of these platforms fails on any machine.
tests/crosscheck/suite/test_gpu.py compiles and runs on a GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax import export

import jax_lstm
from jax_lstm import LSTMState, linen, nnx
from tests.support import xla_flags
from tests.support.arrays import assert_close, drawn_like, normal, read_npz, state_of
from tests.support.lowering_cases import CASES, DEEP, KEY, LENGTHS, TOKENS, B, D, H, T, V, X, arguments, training_step

PLATFORMS = ("cpu", "cuda", "tpu")


def targets(exported):
    """Return the names of the library routines that the exported program calls."""
    return set(re.findall(r"custom_call @([\w.$]+)", exported.mlir_module()))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", CASES)
def test_a_function_lowers_and_calls_no_library(name, platform):
    """A library routine of one platform, such as LAPACK's on a CPU, would be missing on the others."""
    function, args = CASES[name]
    for run in (function, training_step(function)):
        exported = export.export(jax.jit(run), platforms=[platform])(*args)
        assert exported.platforms == (platform,)
        assert "stablehlo.while" in exported.mlir_module()
        assert targets(exported) == set()


def test_a_library_routine_is_noticed():
    exported = export.export(jax.jit(jnp.linalg.qr), platforms=["cpu"])(jnp.ones((3, 3)))
    assert "lapack_dgeqrf_ffi" in targets(exported)


def test_a_platform_without_a_rule_is_noticed():
    with pytest.raises(NotImplementedError, match=r"schur.*not found for platform tpu"):
        export.export(jax.jit(jax.lax.linalg.schur), platforms=["tpu"])(jnp.ones((3, 3)))


def symbolic(text, dtype, **options):
    return jax.ShapeDtypeStruct(export.symbolic_shape(text, **options), dtype)


def forward(params, x, lengths):
    y, last = jax_lstm.lstm(params, x, lengths=lengths)
    return y, last.h, last.c  # arrays, so a reader needs no class of this package


PARAMS = arguments(np.float64, **DEEP)[0]
SCOPE = export.SymbolicScope()
SYMBOLIC = symbolic("b, t, 3", jnp.float64, scope=SCOPE), symbolic("b", jnp.int64, scope=SCOPE)
INPUTS = {
    "as lowered": (normal((B, T, D)), LENGTHS),
    "larger": (normal((5, 11, D)), np.array([11, 0, 3, 1, 10])),
    "one step": (normal((1, 1, D)), np.array([1])),
}


@pytest.fixture(scope="module")
def artefact():
    """Return one export for three platforms, any batch and any number of steps, with its gradient."""
    return export.export(jax.jit(forward), platforms=PLATFORMS)(PARAMS, *SYMBOLIC).serialize(vjp_order=1)


def read_back(artefact, folder, code):
    """Run ``code`` in a fresh process that cannot import this package, and return the arrays that it saves."""
    np.savez(folder / "params.npz", **PARAMS)
    for n, inputs in enumerate(INPUTS.values()):
        np.savez(folder / f"{n}.npz", *inputs)
    (folder / "lstm.jax").write_bytes(artefact)
    environment = os.environ | {"JAX_ENABLE_X64": "1", "XLA_FLAGS": xla_flags.FLAGS}
    done = subprocess.run(
        [sys.executable, "-c", READER + code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return read_npz(folder / "out.npz")


READER = """
import sys
from functools import partial
sys.modules["jax_lstm"] = None
import jax, numpy as np
from jax import export
with open("lstm.jax", "rb") as file:
    exported = export.deserialize(file.read())

def arrays(name):
    with np.load(name) as archive:
        return dict(archive)

params = arrays("params.npz")
inputs = lambda n: list(arrays(f"{n}.npz").values())
saved = {}
"""


def test_a_fresh_process_without_this_package_computes_the_same(artefact, tmp_path):
    code = """
for n in range(3):
    saved |= {f"{n} {k}": a for k, a in enumerate(jax.jit(exported.call)(params, *inputs(n)))}
x, lengths = inputs(1)
loss = lambda p, x: sum((a ** 2).sum() for a in exported.call(p, x, lengths))
d_p, d_x = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)
np.savez("out.npz", **saved, **d_p, x=d_x)
"""
    got = read_back(artefact, tmp_path, code)
    run = jax.jit(forward)
    for n, inputs in enumerate(INPUTS.values()):
        for k, expected in enumerate(run(PARAMS, *inputs)):
            assert_close(got[f"{n} {k}"], expected)
    x, lengths = INPUTS["larger"]
    loss = lambda p, x: sum(jnp.sum(a**2) for a in forward(p, x, lengths))
    d_p, d_x = jax.jit(jax.grad(loss, argnums=(0, 1)))(PARAMS, x)
    assert_close({name: got[name] for name in PARAMS}, d_p)
    assert_close(got["x"], d_x)


def test_an_export_without_vjp_order_has_no_gradient():
    exported = export.export(jax.jit(lambda p, x: jax_lstm.lstm(p, x)[0]))(*arguments())
    loss = lambda p, x: jnp.sum(export.deserialize(exported.serialize()).call(p, x))
    with pytest.raises(ValueError, match="No VJP is available"):
        jax.grad(loss)(*arguments())


def test_an_export_takes_and_returns_an_lstm_state():
    params, x = arguments(jnp.float64)
    state = state_of(params, B)
    run = jax.jit(lambda p, x, s: jax_lstm.lstm(p, x, s))
    reloaded = export.deserialize(export.export(run)(params, x, state).serialize())
    y, last = reloaded.call(params, x, state)
    assert isinstance(last, LSTMState)
    assert_close((y, last), run(params, x, state))


STEPS = {"reset, truncation": {"truncate_every": 3}, "dropout": {"dropout": 0.5}}


@pytest.mark.parametrize("name", STEPS)
def test_an_exported_training_step_takes_any_batch_and_length(name):
    options = STEPS[name]

    def step(params, x, key):
        extra = {"dropout_key": key} if "dropout" in options else {}
        loss = lambda p, x: jnp.sum(jax_lstm.lstm(p, x, **options, **extra)[0] ** 2)
        return jax.value_and_grad(loss, argnums=(0, 1))(params, x)

    spec = symbolic("b, t, 3", jnp.float64)
    reloaded = export.deserialize(export.export(jax.jit(step), platforms=PLATFORMS)(PARAMS, spec, KEY).serialize())
    x, _ = INPUTS["larger"]
    assert_close(jax.jit(reloaded.call)(PARAMS, x, KEY), jax.jit(step)(PARAMS, x, KEY))


@pytest.mark.parametrize("options", [{"checkpoint_every": 4}, {"unroll": 4}])
def test_an_export_with_blocks_of_steps_needs_a_length_that_they_divide(options):
    """The number of blocks may be symbolic, but the program must know whether a shorter block follows them."""
    run = jax.jit(lambda p, x: jax_lstm.lstm(p, x, **options)[0])
    params, _ = arguments(jnp.float64)
    exported = export.export(run)(params, symbolic("b, 4*blocks, 3", jnp.float64, constraints=["blocks >= 2"]))
    x = normal((3, 12, D))
    assert_close(exported.call(params, x), run(params, x))


def test_an_exported_model_takes_any_batch_and_length():
    model = linen.SequenceModel(V, D, H, 5, param_dtype=jnp.float64)
    variables = drawn_like(jax.eval_shape(model.init, KEY, TOKENS))
    run = jax.jit(lambda v, tokens: model.apply(v, tokens)[0])
    exported = export.export(run, platforms=PLATFORMS)(variables, symbolic("b, t", TOKENS.dtype))
    reloaded = export.deserialize(exported.serialize())
    for tokens in (TOKENS, jnp.ones((3, 5), int)):
        assert_close(reloaded.call(variables, tokens), run(variables, tokens))


def test_an_exported_nnx_module_contains_its_weights():
    """The export of its call has x as its only argument."""
    model = nnx.LSTM(D, H, param_dtype=jnp.float64, rngs=flax_nnx.Rngs(0))
    x = X.astype(jnp.float64)
    reloaded = export.deserialize(export.export(jax.jit(lambda x: model(x)[0]))(x).serialize())
    assert_close(reloaded.call(x), model(x)[0])
