"""Tests of the judge: right ports pass, wrong ports fail by name, and a check without quantities is no success."""

from __future__ import annotations

from crosscheck.core.slices import WHOLE
from tests.support.requirements import need

need("torch")

from dataclasses import replace

import numpy as np
import pytest

from crosscheck.core.comparison import compare
from crosscheck.core.conditioning import U32, Conditioning, Reference
from crosscheck.core.criterion import CRITERIA
from crosscheck.core.finding import FLOAT64, CouldNotRun, Finding, Outcome, worst
from crosscheck.core.norms import norm, row_norms
from crosscheck.core.problem import Gradient, Problem
from crosscheck.core.reference import measure_reference
from crosscheck.core.verdict import Verdict
from crosscheck.libraries import STANDARD, Implementation
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.suite.measured_case import assess_implementation, measure_case, truth_of
from tests.support import wrong_ports
from tests.support.rewording import decided, reword

CASE = RecurrentCase("small", "for tests", 3, 9, 4, 6)


@pytest.fixture(scope="module")
def measured():
    return measure_case(CASE)


def judge(measured, runner):
    return assess_implementation(measured, Implementation("port", runner))


@pytest.mark.parametrize("name", wrong_ports.WRONG)
def test_a_wrong_port_disagrees_and_its_first_wrong_quantity_is_named(name, measured):
    runner, quantity = wrong_ports.WRONG[name]
    verdict = judge(measured, runner)
    assert verdict.outcome is Outcome.DISAGREE
    assert (verdict.first.quantity, str(verdict.first.check)) == (quantity, "float64")


def test_a_right_port_by_another_algorithm_agrees(measured):
    assert judge(measured, wrong_ports.RIGHT_SCAN.runner).ok


def test_causes_are_told_apart(measured):
    cause = lambda runner: judge(measured, runner).cause
    assert "from step 0 on" in cause(wrong_ports.with_params(wrong_ports.igof))
    assert "outputs are right and gradients are not" in cause(wrong_ports.scanned(wrong_ports.stop_gradient_on_h))
    assert "has the size of float32 rounding" in cause(wrong_ports.scanned(wrong_ports.float32_inside))
    assert "lower precision" in cause(wrong_ports.scanned(wrong_ports.bfloat16_product))
    assert "up to step 4 and differ at 5" in cause(wrong_ports.wrong_from_step_five)
    assert "NaN" in cause(wrong_ports.one_nan)
    assert "do not have the same quantities" in cause(wrong_ports.a_gradient_missing)


@pytest.mark.parametrize("step", [wrong_ports.float32_inside, wrong_ports.bfloat16_product])
def test_names_and_notes_decide_nothing(step, measured, monkeypatch):
    expected = judge(measured, wrong_ports.scanned(step))
    reword(monkeypatch)
    assert decided(judge(measured, wrong_ports.scanned(step))) == decided(expected)


def test_lanes_see_what_they_are_for(measured):
    checks = lambda step: {
        str(f.check) for f in judge(measured, wrong_ports.scanned(step)).findings if f.verdict is Outcome.DISAGREE
    }
    assert checks(wrong_ports.float32_inside) == {"float64"}
    assert checks(wrong_ports.bfloat16_product) == {"float32"}


def test_a_disagreement_says_where_and_what(measured):
    first = judge(measured, wrong_ports.wrong_from_step_five).first
    assert (first.quantity, first.index[0], first.index[2], first.first_step) == ("y", 1, 2, 5)
    assert abs(first.got - first.expected - 0.25) < 1e-12
    nan = judge(measured, wrong_ports.one_nan).first
    assert nan.index == (0, 1, 2)
    assert np.isnan(nan.got)


def test_the_first_step_of_a_gradient_is_counted_from_the_end(measured):
    reference = measured.reference
    result = {name: np.array(a) for name, a in reference.truth.items()}
    result[Gradient("x")][:, :4] *= 1.01
    whole, slices = [f for f in compare(CASE.problem, reference, result, CRITERIA["float64"]) if not f.ok]
    assert (whole.label, slices.quantity, slices.first_step) == ("grad x", Gradient("x"), 3)
    assert slices.counts == {"agree": 5, "disagree": 4}


def toy(truth, condition=1.0, steps=1, own_error=0.0, response=0.0) -> tuple[Problem, Reference]:
    problem = Problem({}, (), (), ("y",), (np.zeros(np.shape(truth)),), (), steps)
    size = row_norms(np.nan_to_num(truth, nan=0.0, posinf=0.0, neginf=0.0).reshape(1, -1))
    known = Conditioning(size, *(np.full_like(size, a) for a in (condition, response, own_error)))
    return problem, Reference({"y": np.asarray(truth)}, {"y": {WHOLE: known}}, {})


def outcome(problem_and_reference, got, check="float64"):
    dtype = CRITERIA[check].dtype
    (finding,) = compare(*problem_and_reference, {"y": np.asarray(got, dtype)}, CRITERIA[check])
    return finding.verdict


def test_the_limit_is_the_formula():
    truth = np.array([1.0, 0.0])
    for condition, steps, own_error in ((5.0, 1, 0.0), (0.0, 400, 0.0), (1.0, 1, 1e-5)):
        known = toy(truth, condition, steps, own_error)
        for check, unit, factor in (("float64", 2.0**-53, 64), ("float32", 2.0**-24, 8)):
            limit = factor * unit * max(condition, np.sqrt(steps) / 4, own_error / U32)
            assert outcome(known, truth + np.array([0, 0.9 * limit]), check) is Outcome.AGREE
            assert outcome(known, truth + np.array([0, 1.1 * limit]), check) is Outcome.DISAGREE


def test_signs_do_not_cancel():
    assert outcome(toy([1.0, 1.0]), [1.1, 0.9]) is Outcome.DISAGREE


def test_nothing_to_compare_is_vacuous_unless_the_port_made_something_up():
    zero = toy(np.zeros(3))
    assert outcome(zero, np.zeros(3)) is Outcome.VACUOUS
    assert outcome(zero, [0, 0, 1e-3]) is Outcome.DISAGREE
    assert outcome(toy(np.full(3, 1e-40)), np.zeros(3), "float32") is Outcome.VACUOUS
    assert outcome(toy(np.full(3, 1e-40)), np.zeros(3), "float64") is Outcome.DISAGREE


def test_an_ill_conditioned_problem_is_inconclusive_unless_the_error_is_a_few_roundings():
    chaotic = toy([1.0], condition=1e-2 / U32)
    assert outcome(chaotic, [1.0 + 66 * 2.0**-53]) is Outcome.INCONCLUSIVE
    assert outcome(chaotic, [2.0]) is Outcome.INCONCLUSIVE
    assert outcome(chaotic, [1.0 + 60 * 2.0**-53]) is Outcome.AGREE
    assert outcome(chaotic, [1.0 + 7 * 2.0**-24], "float32") is Outcome.AGREE
    assert outcome(chaotic, [1.0 + 10 * 2.0**-24], "float32") is Outcome.INCONCLUSIVE


def test_a_zero_that_rounding_moves_is_vacuous_only_within_that_rounding():
    """An example is the gradient of a bias that softmax cancels: zero in torch, and some 1e-17 in a right port."""
    cancelled = toy([0.0], response=2.0)
    assert outcome(cancelled, [64 * 2.0**-53]) is Outcome.VACUOUS
    assert outcome(cancelled, [3 * 64 * 2.0**-53]) is Outcome.DISAGREE


def test_a_limit_as_wide_as_the_quantity_decides_nothing():
    assert outcome(toy([1.0], own_error=2e-3), [1.0001], "float32") is Outcome.INCONCLUSIVE
    assert outcome(toy([1.0], own_error=2e-3), [1.0], "float64") is Outcome.AGREE
    assert outcome(toy([1.0], own_error=np.inf), [1.0001], "float32") is Outcome.INCONCLUSIVE
    assert outcome(toy([1.0], condition=np.inf), [1.0001]) is Outcome.INCONCLUSIVE
    assert outcome(toy(np.full(10_000, 1.5e-38)), np.zeros(10_000), "float32") is Outcome.VACUOUS


def test_an_overflow_of_the_norm_never_agrees():
    huge = np.full(4, 1.7e308)
    assert outcome(toy(huge), huge * 0.5) is not Outcome.AGREE


def test_nan_and_inf_must_sit_at_the_same_places():
    known = toy([1.0, np.nan, np.inf])
    assert outcome(known, [1.0, np.nan, np.inf]) is Outcome.AGREE
    for wrong in ([1.0, 2.0, np.inf], [np.nan, np.nan, np.inf], [1.0, np.nan, -np.inf], [1.0, np.inf, np.nan]):
        assert outcome(known, wrong) is Outcome.DISAGREE
    assert outcome(toy([np.nan, np.nan]), [np.nan, np.nan]) is Outcome.VACUOUS


def test_names_and_shapes_are_matched_strictly():
    problem, reference = toy([1.0, 2.0])
    check = CRITERIA["float64"]
    for result, note in (
        ({}, "missing"),
        ({"y": np.ones(3)}, "shape"),
        ({"y": np.array([1.0, 2.0]), "z": np.ones(1)}, "no such quantity"),
    ):
        bad = [f for f in compare(problem, reference, result, check) if f.verdict is Outcome.DISAGREE]
        assert len(bad) == 1
        assert note in bad[0].note


def test_a_float32_result_in_the_float64_lane_disagrees_though_its_numbers_are_right():
    leak, values = compare(*toy([1.0, 3.0]), {"y": np.array([1.0, 3.0], np.float32)}, CRITERIA["float64"])
    assert (leak.verdict, values.verdict) == (Outcome.DISAGREE, Outcome.AGREE)
    assert "came back as float32; torch gives float64 in the float64 check" in leak.note


def test_an_empty_comparison_is_no_success():
    assert worst([]) is Outcome.VACUOUS
    assert not Verdict(()).ok


def test_the_gravest_outcome_wins():
    assert worst([Outcome.AGREE, Outcome.VACUOUS, Outcome.DISAGREE, Outcome.INCONCLUSIVE]) is Outcome.DISAGREE
    assert worst([Outcome.AGREE, Outcome.VACUOUS, Outcome.INCONCLUSIVE]) is Outcome.INCONCLUSIVE
    assert worst([Outcome.AGREE, Outcome.VACUOUS]) is Outcome.VACUOUS


def test_norms_do_not_underflow():
    tiny = np.full(4, 1e-200)
    assert norm(tiny) == pytest.approx(2e-200, rel=1e-15)
    assert np.linalg.norm(tiny) == 0.0
    both = row_norms(np.stack([tiny, 1e200 * np.arange(4)]))
    np.testing.assert_allclose(both, [[2e-200, 14**0.5 * 1e200], [1e-200, 3e200]])


def test_the_condition_is_measured():
    """y = x^k has relative condition k. A constant has condition 0."""
    problem = Problem({}, (np.full(100, 1.3),), ("x",), ("y", "k"), (np.zeros(100), np.zeros(1)), ())
    run = lambda p: {"y": p.inputs[0] ** 7, "k": np.ones(1)}
    reference = measure_reference(problem, run, [run])
    known = {name: reference.conditioning[name][WHOLE] for name in "yk"}
    np.testing.assert_allclose(known["y"].condition, 7, rtol=1e-3)
    assert not known["k"].condition.any()
    assert not known["y"].own_error.any()


def test_a_reference_that_is_not_in_float64_is_no_truth():
    problem = Problem({}, (), (), ("y",), (np.zeros(1),), ())
    with pytest.raises(CouldNotRun, match="gives y as float32 when run in float64"):
        measure_reference(problem, lambda p: {"y": np.ones(1, np.float32)}, [])


def test_names_of_quantities_must_differ():
    """The names are keys: a second "y" would hide the first."""
    for names, wrt in ((("y", "y"), ()), (("grad x",), ("x",))):
        with pytest.raises(ValueError, match="output_names must differ"):
            Problem({}, (np.ones(1),), ("x",), names, (np.zeros(1),) * len(names), wrt)


def test_cotangents_are_perturbed_too_and_integers_never():
    problem = replace(CASE.problem, inputs=(np.arange(3),), input_names=("n",))
    moved = problem.perturbed(np.random.default_rng(0), U32)
    np.testing.assert_array_equal(moved.inputs[0], np.arange(3))
    for before, after in zip(problem.cotangents, moved.cotangents, strict=True):
        np.testing.assert_allclose(np.abs(after / before - 1), U32, rtol=1e-6)


def test_both_of_torchs_float32_paths_enter_its_own_error():
    run = STANDARD["torch.nn.LSTM"].runner(CASES["long-1000"])
    problem = CASES["long-1000"].problem
    paths = [run(problem, "float32", onednn=onednn) for onednn in (True, False)]
    assert any(not np.array_equal(paths[0][name], paths[1][name]) for name in paths[0])
    truth = run(problem, "float64")
    reference = measure_case(CASES["long-1000"]).reference
    for name, value in truth.items():
        worse = max(norm(path[name] - value) / norm(value) for path in paths)
        assert reference.conditioning[name][WHOLE].own_error[0, 0] == pytest.approx(worse, rel=1e-6)


def test_the_truth_is_not_compared_with_itself(measured):
    verdict = assess_implementation(measured, STANDARD["torch.nn.LSTM"])
    assert {str(f.check) for f in verdict.findings} == {"float32"}
    assert all(f.own_limit and "cannot fail" in f.note for f in verdict.findings)
    assert "this implementation is the truth of this case" in verdict.notes[0]


def test_with_an_empty_row_the_reference_is_the_truth():
    measured = measure_case(CASES["lengths"])
    assert truth_of(measured.case) == "torch_ref"
    assert {str(f.check) for f in assess_implementation(measured, STANDARD["torch.nn.LSTM"]).findings} == {
        "float64",
        "float64 linearity",
        "float32",
    }


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if isinstance(c, RecurrentCase)])
def test_cases_are_not_degenerate(name):
    case = CASES[name]
    sizes = [n for n in (case.batch, case.steps, case.input_size, case.hidden_size, case.proj_size) if n]
    assert len(set(sizes)) == len(sizes)
    problem = case.problem
    for array in (*problem.params.values(), *problem.input_leaves.values()):
        assert np.unique(array).size == array.size
    if case.bias:
        ends = {n.removeprefix("bias_ih") for n in problem.params if n.startswith("bias_ih")}
        assert all(not np.array_equal(problem.params["bias_ih" + e], problem.params["bias_hh" + e]) for e in ends)


@pytest.mark.slow
def test_gradients_alive_after_10000_steps_and_gone_in_the_control():
    for name, alive in (("long-alive", True), ("long-vanished", False)):
        case = CASES[name]
        truth = STANDARD["torch.nn.LSTM"].runner(case)(case.problem, "float64")
        size = norm(truth[Gradient("x")][:, 0])
        assert (size > 1e-6) == alive
        assert alive or size == 0.0


def test_findings_order_and_ratio():
    agree = Finding("a", FLOAT64, Outcome.AGREE, 1e-16, 4e-16)
    assert agree.ratio == 0.25
    assert Finding("a", FLOAT64, Outcome.DISAGREE, None, None).ratio == float("inf")
    worse = replace(agree, verdict=Outcome.DISAGREE)
    assert Verdict((agree, worse, worse)).first is worse
