"""Two processes, connected by jax.distributed and Gloo, give the gradients of one device."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from examples.many_devices.train import free_port
from tests.support import fresh_process, xla_flags
from tests.support.arrays import read_npz
from tests.support.two_processes import CASES, DEVICES, PROCESSES, ROWS, gradients, problem, write_gradients
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the folder into which both processes have written."""
    folder = tmp_path_factory.mktemp("processes")
    coordinator = f"localhost:{free_port()}"
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags.FLAGS}
    calls = [
        fresh_process.start(write_gradients, coordinator, number, folder, folder=folder, environment=environment)
        for number in range(PROCESSES)
    ]
    codes = lambda: [call.process.exitcode for call in calls]
    try:
        wait_until(lambda: None not in codes() or any(codes()))  # all have ended, or one has failed
        for call, code in zip(calls, codes(), strict=True):
            assert code in (0, None), call.finish()[1]
    finally:
        for call in calls:
            call.process.kill()
    return folder


@pytest.fixture(scope="module")
def expected():
    return {name: jax.jit(gradients(name))(*problem()) for name in CASES}


@pytest.mark.parametrize("number", range(PROCESSES))
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", ["jit", "shard_map"])
def test_gradients_agree_with_those_of_one_device(written, expected, way, name, number):
    d_params, d_x = expected[name]
    got = read_npz(written / f"{way}, {name}, {number}.npz")
    assert set(got) == {"x", *d_params}
    rows = np.asarray(d_x)[number * ROWS : (number + 1) * ROWS]
    assert np.any(rows)
    for quantity, value in {"x": rows, **d_params}.items():  # sums in another order: some roundings of float64
        np.testing.assert_allclose(got[quantity], value, rtol=1e-12, atol=1e-14, err_msg=quantity)


def test_the_sum_over_processes_is_in_the_same_place_as_in_one_process(written):
    """The sum is after all loops. With jit and chunks, each of the two whole chunks has one more."""
    for number in range(PROCESSES):
        report = json.loads((written / f"{number}.json").read_text())
        assert report["devices"] == PROCESSES * DEVICES
        assert {way: loops for way, loops in report["loops"].items() if loops != [[]]} == {
            "jit, chunks and truncation": [[], [2]]
        }
