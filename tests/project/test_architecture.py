"""Imports go one way, each package works without the others, and the size of a program does not depend on T."""

from __future__ import annotations

import ast
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

import jax_lstm
from tests import ROOT
from tests.support.jaxprs import products
from tests.support.requirements import need

FORBIDDEN = {
    "jax_lstm": {"torch", "torch_ref", "crosscheck", "optax"},
    "torch_ref": {"jax", "jaxlib", "flax", "optax", "jax_lstm", "crosscheck"},
}
WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"blocked: {{name}}")
sys.meta_path.insert(0, Blocked())
"""


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert len(files) > 4
    for file in files:
        assert not FORBIDDEN[package] & set(imports(file)), file


def run_without(blocked, code):
    source = WITHOUT.format(blocked=blocked) + code
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_jax_lstm_works_without_torch():
    code = """
import jax, jax_lstm
from flax import nnx as flax_nnx
from jax_lstm import linen, nnx
x = jax.numpy.ones((2, 3, 4))
print(nnx.LSTM(4, 5, rngs=flax_nnx.Rngs(0))(x)[0].shape)
print(linen.LSTM(5).init_with_output(jax.random.key(0), x)[0][0].shape, "torch" in sys.modules)
"""
    assert run_without({"torch", "torch_ref", "crosscheck"}, code) == "(2, 3, 5)\n(2, 3, 5) False\n"


def test_torch_ref_works_without_jax():
    need("torch")
    code = """
import torch, torch_ref
print(tuple(torch_ref.LSTM(4, 5)(torch.ones(2, 3, 4))[0].shape), "jax" in sys.modules)
"""
    assert run_without(FORBIDDEN["torch_ref"], code) == "(2, 3, 5) False\n"


def test_the_promised_names_are_public():
    assert set(jax_lstm.__all__) >= {
        "LSTMState", "choose_backend", "convert", "init_lstm", "init_rnn", "lstm", "lstm_cell", "lstm_states", "rnn",
        "rnn_cell",
    }  # fmt: skip


def training_step(steps, backend):
    params = jax_lstm.init_lstm(jax.random.key(0), 8, 16, 2, dtype=jnp.float32)
    x = jnp.ones((2, steps, 8), jnp.float32)
    step = jax.jit(
        jax.value_and_grad(lambda p, x: jnp.sum(jax_lstm.lstm(p, x, backend=backend)[0] ** 2), argnums=(0, 1))
    )
    return step.lower(params, x)


@pytest.mark.parametrize("backend", ["auto", "scan"])
def test_the_program_does_not_grow_with_time(backend):
    lines = [training_step(steps, backend).as_text().count("\n") for steps in (100, 10_000)]
    assert lines[0] == lines[1]


def loop_products(function, *arguments):
    """Return the shapes of the results of the products inside loop bodies."""
    return sorted(product.outvars[0].aval.shape for product in products(function, *arguments, inside="scan"))


def test_the_loops_have_only_the_recurrent_products():
    """One `[B, 4H]` product per step forward, one `[B, H]` product per step backward, and no weight gradient."""
    params = jax_lstm.init_lstm(jax.random.key(0), 3, 5)
    x = jnp.ones((2, 7, 3), jnp.float32)
    loss = lambda p, x: jnp.sum(jax_lstm.lstm(p, x)[0] ** 2)
    assert loop_products(jax.grad(loss, argnums=(0, 1)), params, x) == [(2, 5), (2, 20)]

    def plain(p, x):
        cell = {name.removesuffix("_l0"): a for name, a in p.items()}
        zero = jax_lstm.LSTMState(jnp.zeros((2, 5)), jnp.zeros((2, 5)))
        step = lambda state, x_t: (lambda new: (new, new.h))(jax_lstm.lstm_cell(cell, state, x_t))
        return jnp.sum(jax.lax.scan(step, zero, x.swapaxes(0, 1))[1] ** 2)

    control = loop_products(jax.grad(plain, argnums=(0, 1)), params, x)
    assert (20, 5) in control
    assert (20, 3) in control


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "scan"])
def test_compile_time_does_not_grow_with_time(backend):
    """The limit is 20 %. Machines are noisy, so the test takes the best of several alternating measurements.

    It starts at 200 steps, since XLA compiles smaller arrays in another way, which takes longer.
    """
    best = {200: float("inf"), 10_000: float("inf")}
    for _ in range(10):
        for steps in best:
            lowered = training_step(steps, backend)
            started = time.perf_counter()
            lowered.compile()
            best[steps] = min(best[steps], time.perf_counter() - started)
    assert best[10_000] < 1.2 * best[200], best
