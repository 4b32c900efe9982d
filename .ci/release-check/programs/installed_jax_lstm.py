"""Runs the installed jax_lstm without torch, and prints the versions of all packages as JSON.

Both Flax modules run jitted, forward and backward. The argument is `kernels` or `scan`: what they must run on.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import linen, nnx

assert Path(jax_lstm.__file__).is_relative_to(sys.prefix), f"{jax_lstm.__file__} is not the installed package"
assert not {"torch", "torch_ref", "crosscheck"} & set(sys.modules), "jax_lstm imports torch, torch_ref or crosscheck"
expected = {"kernels": "native", "scan": "scan"}[sys.argv[1]]
x = jax.random.normal(jax.random.key(0), (3, 7, 8))


def in_linen(backend: str):
    model = linen.LSTM(16, num_layers=2, backend=backend)
    return lambda params, x: model.apply({"params": params}, x)[0], model.init(jax.random.key(1), x)["params"]


def in_nnx(backend: str):
    graph, params = flax_nnx.split(nnx.LSTM(8, 16, num_layers=2, backend=backend, rngs=flax_nnx.Rngs(0)))
    return lambda params, x: flax_nnx.merge(graph, params)(x)[0], params


def results(make, backend: str):
    """Return the outputs, the gradients of the weights and of x, and the program that computed them."""
    forward, params = make(backend)

    def loss(params, x):
        y = forward(params, x)
        return jnp.sum(jnp.sin(y)), y

    program = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)).lower(params, x)
    return jax.tree.leaves(program.compile()(params, x)), program.as_text()


choice = jax_lstm.choose_backend(jax_lstm.init_lstm(jax.random.key(2), 8, 16), x)
assert choice.backend == expected, choice
for make in (in_linen, in_nnx):
    values, text = results(make, "auto")
    of_scan, text_of_scan = results(make, "scan")
    for name in ("jax_lstm_forward_float32", "jax_lstm_backward_float32"):
        assert (name in text) == (expected == "native"), f"{make.__name__}: {name} is in the program, or is not"
        assert name not in text_of_scan
    assert len(values) == 11, "a loss, an output, eight weights and x"
    for value, same in zip(values, of_scan, strict=True):
        assert np.isfinite(value).all()
        assert np.abs(value).max() > 0
        # float32, and sums of at most 21 terms of rows and steps: some tens of roundings of 6e-8 each
        np.testing.assert_allclose(value, same, rtol=1e-5, atol=1e-5)

installed = {name: version(name) for name in ("jax", "jaxlib", "flax", "numpy")}
installed["torch"] = version("torch") if importlib.util.find_spec("torch") else "none"
print(json.dumps({"Python": platform.python_version(), **installed}))
