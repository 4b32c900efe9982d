"""Chaotic models: undecided over the whole sequence, decided by stretches that start from the reference's states."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosscheck.core.finding import Outcome
from crosscheck.libraries import STANDARD, Implementation
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.teacher_forcing import teacher_forced
from crosscheck.lstm.trajectory import trace_states
from crosscheck.suite.measured_case import assess_implementation, measure_case
from tests.support.ports import cell, port, sigmoid
from tests.support.rewording import decided, reword


def chaotic(steps: int) -> RecurrentCase:
    """Return a case with recurrent weights times six."""
    case = RecurrentCase("chaotic", "", 2, steps, 8, 64)
    grown = {name: 6 * a if name.startswith("weight_hh") else a for name, a in case.problem.params.items()}
    return replace(case, weights=grown)


@pytest.fixture(scope="module")
def measured():
    return measure_case(chaotic(1_000))


@pytest.mark.isa
@pytest.mark.parametrize("name", STANDARD)
def test_a_right_implementation_is_undecided_end_to_end_and_agrees_by_one_step(name, measured):
    verdict = assess_implementation(measured, STANDARD[name])
    assert verdict.ok, str(verdict)
    end_to_end = [f for f in verdict.findings if str(f.check) in ("float64", "float32")]
    assert {f.verdict for f in end_to_end if f.quantity in ("h_n", "c_n")} == {Outcome.INCONCLUSIVE}
    by_damped = (
        "" if name == "torch.nn.LSTM" else " and a damped network"
    )  # which runs in float64, whose results are the truth
    assert f"settled by teacher forcing{by_damped}\n" in str(verdict)
    steps = {str(f.check) for f in verdict.findings if str(f.check).endswith("-step")}
    assert {"float32 1-step", "float32 4-step"} <= steps
    assert name == "torch.nn.LSTM" or {"float64 1-step", "float64 4-step"} <= steps
    # A gate's sum has 8 + 64 terms, so its random error is about √72 = 8.5 roundings. The limit is four times that. The
    # largest measured error is 6.9 roundings, with SSE4, AVX2 and AVX-512. Over the whole sequence, the error is of
    # order 1.
    for finding in verdict.findings:
        if str(finding.check) in ("float64 1-step", "float32 1-step") and finding.quantity in ("y", "h_n", "c_n"):
            rounding = 2.0**-53 if str(finding.check)[0] == "float64" else 2.0**-24
            assert finding.error <= 4 * np.sqrt(8 + 64) * rounding, finding


def test_what_settles_a_doubt_is_not_its_name(measured, monkeypatch):
    expected = assess_implementation(measured, STANDARD["torch_ref"])
    reword(monkeypatch)
    assert decided(assess_implementation(measured, STANDARD["torch_ref"])) == decided(expected)


@pytest.mark.parametrize(
    "wrong",
    [
        cell(f=lambda z: sigmoid(1.001 * z)),
        pytest.param(cell(g=lambda z: jnp.clip(jnp.tanh(z), -0.99, 0.99)), marks=pytest.mark.slow),
    ],
)
def test_a_real_fault_in_a_chaotic_model_disagrees_by_one_step(wrong, measured):
    verdict = assess_implementation(measured, Implementation("port", port(wrong)))
    assert verdict.outcome is Outcome.DISAGREE
    bad = {str(f.check) for f in verdict.findings if f.final is Outcome.DISAGREE}
    assert "float64 1-step" in bad
    assert any("step" in line for line in verdict.diagnosis)


def test_stretches_see_what_single_steps_cannot(measured):
    """Outputs that are late by one step are right in every stretch of one step."""

    def late(case):
        right = STANDARD["jax_lstm"].runner(case)

        def run(problem, dtype):
            result = dict(right(problem, dtype))
            result["y"] = np.roll(result["y"], 1, axis=1) if result["y"].shape[1] > 1 else result["y"]
            return result

        return run

    verdict = assess_implementation(measured, Implementation("port", late))
    bad = {str(f.check) for f in verdict.findings if f.final is Outcome.DISAGREE}
    assert "float64 4-step" in bad
    assert not bad & {"float64 1-step", "float32 1-step"}


@pytest.mark.slow
def test_what_only_a_position_shows_is_seen_at_smaller_recurrent_weights(measured):
    """The fault stops gradients at step 400. They are right in every stretch."""

    def cut(case):
        def step(z_i, z_f, z_g, z_o, c, t):
            return cell()(z_i, z_f, z_g, z_o, jnp.where(t == 400, jax.lax.stop_gradient(c), c), t)

        return port(step)(case)

    verdict = assess_implementation(measured, Implementation("port", cut))
    bad = {str(f.check) for f in verdict.findings if f.final is Outcome.DISAGREE}
    assert bad == {"float64 damped"}


CASES = (
    RecurrentCase("plain", "", 3, 8, 4, 5),
    RecurrentCase("stack", "", 3, 8, 4, 6, num_layers=2, bidirectional=True, lengths=(8, 3, 5), time_major=True),
    RecurrentCase("projection", "", 3, 8, 4, 6, num_layers=2, proj_size=2),
    RecurrentCase("unbatched", "", None, 8, 4, 6, bidirectional=True),
    RecurrentCase("rnn", "", 3, 8, 4, 6, num_layers=2, kind="rnn"),
    RecurrentCase("relu", "", 3, 8, 4, 6, kind="rnn", nonlinearity="relu"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_trajectory_is_the_references(case):
    truth = STANDARD["torch_ref"].runner(case)(case.problem, "float64")
    rows = trace_states(case, case.problem)
    for k, name in enumerate(case.state_names):
        last = np.stack([row.states[k][0 if row.suffix else -1] for row in rows])
        expected = truth[f"{name}_n"] if case.batch else truth[f"{name}_n"][:, None]
        np.testing.assert_allclose(last, expected, atol=1e-13)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stretches_put_together_are_the_sequence(case, size):
    """The y of each stretch equals that part of the whole y, in every layer, direction and row."""
    truth = STANDARD["torch_ref"].runner(case)(case.problem, "float64")
    small, problem = teacher_forced(case, case.problem, size)
    assert (small.steps, small.time_major) == (size, case.time_major)
    found = STANDARD["torch_ref"].runner(small)(problem, "float64")
    to_time_first = lambda a, case: np.moveaxis(a, case.time_axis, 0)
    y = to_time_first(truth["y"], case) if case.batch else truth["y"][:, None]
    stretches = to_time_first(found["y"], small)
    batch = case.batch or 1
    for n, start in enumerate(range(0, case.steps - size + 1, size)):
        np.testing.assert_allclose(stretches[:, n * batch : (n + 1) * batch], y[start : start + size], atol=1e-13)
    assert problem.slicings["y"].rows(found["y"]).shape[0] == len(range(0, case.steps - size + 1, size))
