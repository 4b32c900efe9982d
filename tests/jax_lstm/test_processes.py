"""Two processes, joined by jax.distributed over Gloo, give one device's gradients of the weights and of x."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from examples.many_devices.train import free_port
from tests.support import xla_flags
from tests.support.arrays import read_npz
from tests.support.two_processes import CASES, DEVICES, PROCESSES, ROWS, gradients, problem

SECONDS = 120


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder that both processes wrote into."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "tests.support.two_processes", f"localhost:{free_port()}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags.FLAGS}
    processes = []
    try:
        for number in range(PROCESSES):
            words = [*command, str(number), str(folder)]
            processes.append(subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True))
        for process in processes:
            _, said = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
    return folder


@pytest.fixture(scope="module")
def expected():
    return {name: jax.jit(gradients(name))(*problem()) for name in CASES}


@pytest.mark.parametrize("number", range(PROCESSES))
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", ["jit", "shard_map"])
def test_gradients_are_those_of_one_device(written, expected, way, name, number):
    of_weights, of_x = expected[name]
    got = read_npz(written / f"{way}, {name}, {number}.npz")
    assert set(got) == {"x", *of_weights}
    own = np.asarray(of_x)[number * ROWS : (number + 1) * ROWS]
    assert np.any(own)
    for quantity, value in {"x": own, **of_weights}.items():  # sums in another order: some roundings of float64
        np.testing.assert_allclose(got[quantity], value, rtol=1e-12, atol=1e-14, err_msg=quantity)


def test_the_sum_over_processes_stands_where_it_does_in_one(written):
    """After all loops; with chunks and jit also once in each of the two whole chunks."""
    for number in range(PROCESSES):
        found = json.loads((written / f"{number}.json").read_text())
        assert found["devices"] == PROCESSES * DEVICES
        assert {way: loops for way, loops in found["loops"].items() if loops != [[]]} == {
            "jit, chunks and cuts": [[], [2]]
        }
