"""The same function as torch: the standard cases, and random ones over every option of torch.nn.LSTM."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
import os
import subprocess
import sys
from functools import partial
from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from crosscheck.core.comparison import compare
from crosscheck.core.criterion import CRITERIA
from crosscheck.core.finding import Outcome
from crosscheck.core.norms import norm
from crosscheck.core.problem import Gradient, Problem
from crosscheck.libraries import STANDARD
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.report.case_report import to_json
from crosscheck.suite.measured_case import measure_case, truth_of
from crosscheck.suite.runs import run_suite
from tests.support import xla_flags
from tests.support.libraries import answering

QUICK = [
    name for name in CASES if not name.startswith("long-1") and name not in ("long-alive", "long-vanished", "text")
]
SLOW = [name for name in CASES if name not in QUICK]


@pytest.fixture(scope="module")
def standard(tmp_path_factory):
    """Return the command's results by case. `make crosscheck` and `make test-all` round as a user's programs do."""
    file = tmp_path_factory.mktemp("standard") / "out.json"
    command = [sys.executable, "-m", "crosscheck", "--jobs", "2", "--json", str(file)]
    chosen = [word for name in QUICK for word in ("--case", name)]
    environment = os.environ | {"XLA_FLAGS": xla_flags.FLAGS}
    done = subprocess.run([*command, *chosen], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(file.read_text())
    assert found["ok"] == (done.returncode == 0)
    assert [name for name, _ in groupby(case["name"] for case in found["cases"])] == QUICK, "not in their order"
    return {name: [case for case in found["cases"] if case["name"] == name] for name in QUICK}


@pytest.mark.parametrize("name", QUICK)
def test_standard_case(name, standard):
    assert_agreement(name, standard[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_long_standard_case(name):
    assert_agreement(name, to_json([found.judged for found in run_suite([CASES[name]])], {})["cases"])


def assert_agreement(name, results):
    assert [result["implementation"] for result in results] == answering(CASES[name])
    assert all(result["ok"] for result in results), results
    (ours,) = (result for result in results if result["implementation"] == "jax_lstm")
    wanted = CASES[name].problem
    expected = {*wanted.output_names, *(str(Gradient(n)) for n in wanted.wrt)}
    assert {f["quantity"] for f in ours["findings"]} == expected
    checks = {f["check"] for f in ours["findings"]}
    assert checks - {"float32 loss-scaled"} == {"float64", "float64 linearity", "float32"}


@st.composite
def random_cases(draw) -> RecurrentCase:
    hidden = draw(st.integers(1, 9))
    time_major = draw(st.booleans())
    batch = draw(st.one_of(st.none(), st.integers(1, 5)))
    steps = draw(st.integers(1, 13))
    lengths = None
    if batch is not None and draw(st.booleans()):
        lengths = tuple(draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch)))
    return RecurrentCase(
        "random",
        "drawn",
        batch,
        steps,
        draw(st.integers(1, 7)),
        hidden,
        num_layers=draw(st.integers(1, 3)),
        bias=draw(st.booleans()),
        bidirectional=draw(st.booleans()),
        proj_size=draw(st.integers(1, hidden - 1)) if hidden > 1 and draw(st.booleans()) else 0,
        time_major=time_major,
        lengths=lengths,
        seed=draw(st.integers(0, 10**6)),
    )


def assert_random_case_agrees(case: RecurrentCase):
    """Assert the promised relative error of 1e-12 in the 2-norm in float64, and the float32 check in float32."""
    problem: Problem = case.problem
    measured = measure_case(case)
    reference = measured.reference
    assert truth_of(case) == "torch.nn.LSTM"
    run = STANDARD["jax_lstm"].runner(case)
    exact = run(problem, "float64")
    assert exact.keys() == reference.truth.keys()
    for name, truth in reference.truth.items():
        assert norm(exact[name] - truth) <= 1e-12 * norm(truth), (name, case)
    findings = compare(problem, reference, run(problem, "float32"), CRITERIA["float32"])
    assert all(f.final is Outcome.AGREE for f in findings), ([f for f in findings if not f.ok], case)


_settings = partial(settings, deadline=None, derandomize=False, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("part", [0, 1, *(pytest.param(part, marks=pytest.mark.slow) for part in (2, 3))])
def test_random_configurations(part):
    @seed(part)
    @_settings(max_examples=5)
    @given(random_cases())
    def agree(case):
        assert_random_case_agrees(case)

    agree()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_200_random_configurations(part):
    @seed(100 + part)
    @_settings(max_examples=25)
    @given(random_cases())
    def agree(case):
        assert_random_case_agrees(case)

    agree()
