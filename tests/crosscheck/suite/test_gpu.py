"""The verdicts on a GPU are the same. Run it with JAX_PLATFORMS=cuda,cpu if there is a GPU."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import pytest

from crosscheck.core.comparison import compare
from crosscheck.core.criterion import CRITERIA
from crosscheck.core.finding import Outcome
from crosscheck.libraries import STANDARD
from crosscheck.lstm.cases import CASES
from crosscheck.suite.measured_case import measure_case

GPUS = [device for device in jax.devices() if device.platform == "gpu"]


@pytest.mark.gpu
@pytest.mark.skipif(not GPUS, reason="JAX sees no GPU here; on a machine with one set JAX_PLATFORMS=cuda,cpu")
@pytest.mark.parametrize("check", CRITERIA)
@pytest.mark.parametrize("name", ["notebook", "bidirectional", "projection", "lengths", "long-1000"])
def test_case_agrees_on_a_gpu(name, check):
    case = CASES[name]
    reference, _ = measure_case(case)
    with jax.default_device(GPUS[0]):
        result = STANDARD["jax_lstm"].runner(case)(case.problem, CRITERIA[check].dtype)
    findings = compare(case.problem, reference, result, CRITERIA[check])
    assert all(f.verdict is Outcome.AGREE for f in findings), [f for f in findings if not f.ok]
