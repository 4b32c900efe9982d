"""The compiled kernels for a CPU in tests: whether they are installed, random calls, and which ones a program runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm._src import cpu_library
from tests.support.arrays import drawn_like, drawn_weights, normal, state_of


def need_kernels() -> None:
    """Skip the test, or the whole file if called at its top, if the compiled kernels are not installed."""
    if missing := cpu_library.load_library().missing:
        pytest.skip(f"the compiled kernels for a CPU cannot run: {missing}", allow_module_level=True)


@contextmanager
def kernels_from(file: Path) -> Iterator[None]:
    """Use the compiled kernels of another file within the block. The file may be missing, or not be a library."""
    cpu_library.load_library.cache_clear()
    try:
        with mock.patch.object(cpu_library, "FILE", file):
            yield
    finally:
        cpu_library.load_library.cache_clear()


def kernels_in(function: Any, *arguments: Any) -> list[str]:
    """Return the loops that a program for a CPU runs as kernels, in order: "forward" and "backward"."""
    text = jax.jit(function).lower(*arguments).as_text()
    calls = [line for line in text.splitlines() if "custom_call @jax_lstm_" in line]
    return [line.split("@jax_lstm_")[1].split("_")[0] for line in calls]


class Problem(NamedTuple):
    """The arguments of :func:`jax_lstm.lstm`: arrays that have gradients, and options."""

    params: dict[str, Any]
    x: Any
    state: Any
    reset_state: Any
    options: dict[str, Any]


def random_problem(seed: int, dtype: Any = np.float64) -> Problem:
    """Draw sizes, a network and options. Every feature occurs in many of the problems."""
    rng = np.random.default_rng(seed)
    some = lambda chance: rng.random() < chance
    steps, inputs = int(rng.integers(1, 13)), int(rng.integers(1, 40))
    batch = [(), (1,), (int(rng.integers(2, 5)),), (int(rng.integers(5, 40)),), (2, 3)][rng.integers(5)]
    hidden = int(rng.integers(1, 70))
    network = {"num_layers": 1 + some(0.2), "bidirectional": some(0.4), "bias": some(0.8)}
    time_major = some(0.3)
    flags_shape = (steps, *batch) if time_major else (*batch, steps)
    options: dict[str, Any] = {"time_major": time_major}
    if some(0.3):
        options["lengths"] = rng.integers(0, steps + 1, batch)
    if some(0.2):
        options["mask"] = rng.random(flags_shape) < 0.7
    reset_state = None
    params = drawn_weights(inputs, hidden, dtype=dtype, seed=seed, **network)
    if some(0.3):
        options["reset"] = rng.random(flags_shape) < 0.3
        if some(0.7):
            reset_state = state_of(params, batch, seed=seed + 1, dtype=dtype)
    if some(0.2):
        options["truncate_every"] = int(rng.integers(1, 5))
    if some(0.2):
        options["checkpoint_every"] = int(rng.integers(1, 5))
    x = normal((steps, *batch, inputs) if time_major else (*batch, steps, inputs), dtype, seed=seed)
    state = state_of(params, batch, seed=seed, dtype=dtype) if some(0.7) else None
    return Problem(params, x, state, reset_state, options)


def values_and_gradients(backend: str, problem: Problem, *, states: bool = False) -> Any:
    """Return the outputs, and the gradients of all arguments under cotangents of every output."""

    def outputs(params: Any, x: Any, state: Any, reset_state: Any) -> Any:
        options = {**problem.options, "reset_state": reset_state, "backend": backend}
        if states:
            return jax_lstm.lstm_states(params, x, state, **options)
        return jax_lstm.lstm(params, x, state, **options)

    arguments = (problem.params, problem.x, problem.state, problem.reset_state)

    @jax.jit
    def run(*arguments: Any) -> Any:
        out, pull = jax.vjp(outputs, *arguments)
        return out, pull(jax.tree.map(jnp.asarray, drawn_like(out, seed=5)))

    return run(*arguments)


def assert_native_agrees_with_scan(problem: Problem, rtol: float, **kind: bool) -> None:
    """Compare values and gradients, each array relative to its largest entry."""
    got, expected = (values_and_gradients(name, problem, **kind) for name in ("native", "scan"))

    def compare(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(1.0, float(np.max(np.abs(b), initial=0))))

    jax.tree.map(compare, got, expected)


def loaded_before_and_after_a_call() -> list[bool]:
    """Return whether this process has loaded the compiled kernels, before and after a call. Only Linux can tell."""

    def is_loaded() -> bool:
        with open("/proc/self/maps") as maps:
            return cpu_library.FILE.name in maps.read()

    before = is_loaded()
    jax_lstm.lstm(drawn_weights(2, 3, dtype=np.float32), np.ones((4, 2), np.float32))
    return [before, is_loaded()]
