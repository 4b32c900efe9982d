"""Slices, norms, probes: they find mistakes that a comparison of whole tensors would accept."""

from __future__ import annotations

from tests.support.requirements import need
from tests.support.rewording import decided, reword

need("torch")

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import crosscheck
from crosscheck.core.comparison import compare
from crosscheck.core.conditioning import U32
from crosscheck.core.criterion import CRITERIA
from crosscheck.core.finding import FLOAT64, Outcome, Settlement
from crosscheck.core.jax_runner import run_jax
from crosscheck.core.judge import run_checks
from crosscheck.core.problem import Gradient, Problem
from crosscheck.core.reference import measure_reference
from crosscheck.core.slices import TIME, WHOLE, Slicing
from crosscheck.libraries import STANDARD
from crosscheck.libraries.jax_lstm import function
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.lstm.gates import GATE, gate_slicings
from crosscheck.suite.measured_case import assess_implementation, measure_case
from crosscheck.suite.runs import Implementation

CASE = RecurrentCase("small", "for tests", 3, 40, 4, 6)


@pytest.fixture(scope="module")
def measured():
    return measure_case(CASE)


def bad(problem, reference, result, check="float64"):
    found = compare(problem, reference, result, CRITERIA[check])
    return {f.label for f in found if f.verdict is Outcome.DISAGREE}


def changed(reference, name, index, factor):
    result = {n: np.array(a) for n, a in reference.truth.items()}
    result[name][index] *= factor
    return result


def test_a_time_step_is_judged_by_its_own_size(measured):
    """The norm of all steps does not show a step that is 10^6 times smaller and wrong by 10^-9 of itself."""
    problem, reference = CASE.problem, measured.reference
    truth = {n: np.array(a) for n, a in reference.truth.items()}
    truth[Gradient("x")][:, 7] *= 1e-6
    small = replace(reference, truth=truth)
    known = dict(reference.conditioning[Gradient("x")])
    known[TIME] = replace(known[TIME], size=known[TIME].size * np.where(np.arange(40) == 7, 1e-6, 1.0))
    small = replace(small, conditioning={**reference.conditioning, Gradient("x"): known})
    assert bad(problem, small, truth) == set()
    wrong = {n: np.array(a) for n, a in truth.items()}
    wrong[Gradient("x")][:, 7] *= 1 + 1e-9
    assert bad(problem, small, wrong) == {"grad x[t=7]"}


def test_a_gate_is_judged_by_itself(measured):
    reference = measured.reference
    block = slice(2 * 6, 3 * 6)
    found = bad(CASE.problem, reference, changed(reference, Gradient("bias_ih_l0"), block, 1 + 1e-10))
    assert found == {"grad bias_ih_l0", "grad bias_ih_l0[gate g]"}


def test_one_number_is_seen_in_the_max_norm():
    """If one of a million numbers is off by 40 roundings, the 2-norm is within its limit."""
    truth = np.ones(1_000_000)
    problem = Problem({}, (truth,), ("x",), ("y",), (truth,), ())
    reference = measure_reference(problem, lambda p: {"y": np.array(p.inputs[0])}, [])
    got = truth.copy()
    got[123_456] += 200 * 2.0**-53
    (finding,) = compare(problem, reference, {"y": got}, CRITERIA["float64"])
    assert (finding.verdict, finding.by, finding.index) == (Outcome.DISAGREE, "max-norm", (123_456,))


def test_a_mask_does_not_hide_what_stands_beside_it():
    """-1e30 outweighs all other numbers in every norm. So such numbers are compared separately."""
    module = torch.nn.Linear(4, 6)
    params = {name: p.detach().numpy() for name, p in module.named_parameters()}
    masked = torch.arange(6) > 2
    torch_fn = lambda m, x: torch.where(masked, m(x), torch.tensor(-1e30, dtype=x.dtype))
    x = np.random.default_rng(0).normal(size=(3, 4))

    def fn(off=0.0, mask=-1e30):
        def port(params, x):
            y = x @ params["weight"].T + params["bias"]
            return jnp.where(jnp.arange(6) > 2, y + off, jnp.asarray(mask, x.dtype))

        return port

    check = lambda fn: crosscheck.check(fn, module, params, (x,), torch_fn=torch_fn, output_names=["y"])
    assert check(fn()).ok
    assert check(fn(off=1e-3)).outcome is Outcome.DISAGREE
    wrong = check(fn(mask=-1e29))
    assert wrong.first.label == "y[outliers]"


@pytest.mark.parametrize("threshold", [1e3, 1.0])
def test_a_hidden_clipping_is_no_pullback(threshold, measured):
    """The problem's own cotangents do not reach the higher threshold, but 2^20 times these cotangents do."""

    @jax.custom_vjp
    def clipped(a):
        return a

    clipped.defvjp(lambda a: (a, None), lambda _, g: (jnp.clip(g, -threshold, threshold),))
    clips = lambda params, x, states: right(params, clipped(x), states)
    right = function(CASE)
    findings = run_checks(CASE.problem, measured.reference, partial(run_jax, clips))
    checks = {str(f.check) for f in findings if f.verdict is Outcome.DISAGREE}
    assert ("float64 linearity" in checks, "float64" in checks) == (True, threshold == 1.0)


def test_a_reference_that_clips_itself_asks_for_no_linearity():
    class Clip(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g.clamp(-1e3, 1e3)

    @jax.custom_vjp
    def clipped(a):
        return a

    clipped.defvjp(lambda a: (a, None), lambda _, g: (jnp.clip(g, -1e3, 1e3),))
    module = torch.nn.Linear(3, 2)
    params = {name: p.detach().numpy() for name, p in module.named_parameters()}
    x = np.random.default_rng(0).normal(size=(4, 3))
    fn = lambda params, x: clipped(x @ params["weight"].T + params["bias"])
    assert crosscheck.check(fn, module, params, (x,), torch_fn=lambda m, x: Clip.apply(m(x))).ok
    assert not crosscheck.check(fn, module, params, (x,)).ok


def test_fading_gradients_are_lifted_and_then_left_to_float64(monkeypatch):
    """Default initialisation, loss on the last step, T = 1,000: most steps are vacuous in float32."""
    case = RecurrentCase("fading", "", 2, 1_000, 8, 32, loss="last")
    measured = measure_case(case)
    assert measured.reference.power == 60
    verdict = assess_implementation(measured, STANDARD["jax_lstm"])
    assert verdict.ok, str(verdict)
    steps = {str(f.check): f for f in verdict.findings if f.quantity == Gradient("x") and f.scope.name == "t"}
    vacuous = {name: f.counts.get("vacuous", 0) for name, f in steps.items()}
    assert vacuous["float64"] == 0
    assert 700 < vacuous["float32 loss-scaled"] < vacuous["float32"] - 50 < 1_000
    assert steps["float32"].settled_by[-1] == Settlement((FLOAT64,), vacuous["float32 loss-scaled"], 1_000)
    assert f"slices: {1_000 - vacuous['float32']} agree, {vacuous['float32']} vacuous" in str(verdict)

    def wrong_far_back(case):
        right = STANDARD["jax_lstm"].runner(case)

        def run(problem, dtype):
            result = dict(right(problem, dtype))
            result[Gradient("x")] = np.array(result[Gradient("x")])
            result[Gradient("x")][:, 3] *= 1.001
            return result

        return run

    with monkeypatch.context() as patch:
        reword(patch)
        assert decided(assess_implementation(measured, STANDARD["jax_lstm"])) == decided(verdict)

    verdict = assess_implementation(measured, Implementation("port", wrong_far_back))
    assert {(f.label, str(f.check)) for f in verdict.findings if f.final is Outcome.DISAGREE} == {
        ("grad x[t=3]", "float64")
    }


def test_what_no_lane_can_see_stays_vacuous():
    verdict = assess_implementation(measure_case(replace(CASES["long-vanished"], steps=2_500)), STANDARD["jax_lstm"])
    assert verdict.outcome is Outcome.VACUOUS


def test_padding_is_no_slice():
    """Steps beyond the longest row hold zeros on both sides and are not counted as vacuous."""
    case = RecurrentCase("short", "", 3, 9, 4, 6, lengths=(5, 2, 7))
    cut = case.problem.slicings["y"]
    assert cut.rows(np.zeros((3, 9, 6))).shape[0] == 7
    assert assess_implementation(measure_case(case), STANDARD["jax_lstm"]).ok


def test_cuts_are_read_off_names_and_shapes():
    shapes = RecurrentCase("", "", 1, 1, 3, 5, num_layers=2, bidirectional=True, proj_size=2).shapes()
    params = {f"model.lstm.{name}": np.zeros(shape) for name, shape in shapes.items()}
    params |= {
        "fc.weight": np.zeros((20, 5)),
        "gru.weight_hh_l0": np.zeros((15, 5)),
        "rnn.weight_hh_l0": np.zeros((5, 5)),
    }
    params |= {"cell.weight_ih": np.zeros((8, 3)), "cell.weight_hh": np.zeros((8, 2)), "cell.bias_ih": np.zeros(8)}
    slicings = gate_slicings(params)
    assert {name for name in params if Gradient(name) not in slicings} == {
        *(n for n in params if "weight_hr" in n), "fc.weight", "gru.weight_hh_l0", "rnn.weight_hh_l0",
    }  # fmt: skip
    cell = slicings[Gradient("cell.bias_ih")]
    assert cell.rows(np.arange(8.0)).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert cell.label(2) == "gate g"


def test_a_steps_condition_is_its_neighbours_too():
    values = np.ones((50, 3))
    problem = Problem({}, (values,), ("x",), ("y",), (values,), (), steps=50, slicings={"y": Slicing(0, TIME)})
    steep = lambda p: {"y": np.where(np.arange(50)[:, None] == 20, p.inputs[0] ** 9, p.inputs[0])}
    condition = measure_reference(problem, steep, []).conditioning["y"][TIME].condition[0]
    assert (np.flatnonzero(condition > 5) == np.arange(12, 29)).all()
    assert condition[20] == pytest.approx(9, rel=1e-3)


def test_the_references_own_error_is_none_where_float32_underflows():
    values = np.full((4, 3), 1e-42)
    values[:2] = 1.0
    problem = Problem({}, (values,), ("x",), ("y",), (values,), (), slicings={"y": Slicing(0, TIME)})
    flushed = lambda p: {"y": np.where(p.inputs[0] < 1e-38, 0.0, p.inputs[0] * (1 + 3 * U32)).astype(np.float32)}
    reference = measure_reference(problem, lambda p: {"y": np.array(p.inputs[0])}, [flushed])
    own = reference.conditioning["y"][WHOLE].own_error[0, 0]
    assert own == pytest.approx(4 * U32, rel=0.5)
    assert np.all(reference.conditioning["y"][TIME].own_error < 10 * U32)


def scalar(torch_fn, fn, *inputs, **options):
    """Return the verdict on two functions of one weight and some inputs."""
    module = torch.nn.Linear(1, 1, bias=False)
    params = {"weight": np.full((1, 1), 1.3)}
    return crosscheck.check(fn, module, params, inputs, torch_fn=torch_fn, **options)


def test_a_mask_that_is_an_input_hides_nothing_either():
    """The outlier moves with its perturbation. It still outweighs all other numbers."""
    x = np.random.default_rng(0).normal(size=(3, 8))
    mask = np.where(np.arange(8) > 5, -1e30, 0.0) * np.ones((3, 1))
    torch_fn = lambda m, x, mask: m.weight[0, 0] * x + mask
    right = lambda p, x, mask: p["weight"][0, 0] * x + mask
    assert scalar(torch_fn, right, x, mask).ok
    assert not scalar(torch_fn, lambda p, x, mask: right(p, x, mask) + 1.0, x, mask).ok


def test_integers_are_equal_or_not():
    x, ids = np.random.default_rng(0).normal(size=(3, 8)), np.array([2**31 - 1, 3, 0, 5])
    torch_fn = lambda m, x, ids: (m.weight[0, 0] * x, ids)
    fn = lambda off: lambda p, x, ids: (p["weight"][0, 0] * x, ids - off)
    assert scalar(torch_fn, fn(0), x, ids).ok
    wrong = scalar(torch_fn, fn(np.int32(1)), x, ids)
    assert (wrong.outcome, wrong.first.note) == (Outcome.DISAGREE, "4 of 4 integers differ")
    none = lambda m, x: (m.weight[0, 0] * x, x > 100)
    assert scalar(none, lambda p, x: (p["weight"][0, 0] * x, x > 100), x).ok
    with pytest.raises(crosscheck.CouldNotRun, match="integers over 32 bits"):
        scalar(torch_fn, fn(0), x, np.array([2**50, 3]))


def test_an_overflow_of_both_in_float32_is_a_doubt():
    x = np.array([[1.0, 2.0, 100.0]])
    verdict = scalar(lambda m, x: torch.exp(m.weight[0, 0] * x), lambda p, x: jnp.exp(p["weight"][0, 0] * x), x)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "the reference itself is not finite in float32" in str(verdict)


def test_slices_that_are_zero_by_construction_agree():
    """An example is the first position of causal attention: its softmax has one entry, which is always 1."""
    x = np.random.default_rng(0).normal(size=(2, 6, 3))
    torch_fn = lambda m, x: m.weight[0, 0] * x * (torch.arange(6) > 1)[:, None]
    fn = lambda p, x: p["weight"][0, 0] * x * (jnp.arange(6) > 1)[:, None]
    verdict = scalar(torch_fn, fn, x)
    assert verdict.ok, str(verdict)
    assert any(f.scope.name == "position" for f in verdict.findings)
    made_up = lambda p, x: fn(p, x) + 1e-9 * (jnp.arange(6) == 0)[:, None]
    assert scalar(torch_fn, made_up, x).outcome is Outcome.DISAGREE


def test_saturation_beyond_both_is_a_doubt_and_no_alarm():
    x = np.random.default_rng(1).normal(size=(3, 7, 11))
    torch_fn = lambda m, x: torch.softmax(60 * m.weight[0, 0] * x, -1)
    verdict = scalar(torch_fn, lambda p, x: jax.nn.softmax(60 * p["weight"][0, 0] * x), x)
    assert verdict.outcome is not Outcome.DISAGREE


def test_a_cotangent_of_zero_is_noted():
    x = np.ones((2, 3))
    fn = lambda p, x: (p["weight"][0, 0] * x, p["weight"][0, 0] + x)
    verdict = scalar(lambda m, x: (m.weight[0, 0] * x, m.weight[0, 0] + x), fn, x, cotangents=(x, 0 * x))
    assert verdict.notes == ("the cotangent of 'output 1' is zero: no gradient through it is compared",)


def test_a_small_blocks_condition_is_its_siblings_too():
    """With one hidden unit, each gate of a bias gradient is one number, and three draws of it are too few."""
    values = np.ones(4)
    problem = Problem(
        {}, (values,), ("x",), ("y",), (values,), (), slicings={"y": Slicing(0, GATE, ("i", "f", "g", "o"))}
    )
    steep = lambda p: {"y": p.inputs[0] ** np.array([1, 9, 1, 1])}
    np.testing.assert_allclose(measure_reference(problem, steep, []).conditioning["y"][GATE].condition[0], 9, rtol=1e-3)
