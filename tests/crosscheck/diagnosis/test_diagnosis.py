"""The diagnosis of a wrong port: its first wrong step, the gate, and the known mistake that it behaves like."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import crosscheck
from crosscheck.core.finding import Outcome, worst
from crosscheck.core.judge import PROBE, run_checks
from crosscheck.diagnosis.disagreement import diagnose
from crosscheck.diagnosis.known_mistakes import find_mistakes
from crosscheck.diagnosis.subject import Subject
from crosscheck.discovery.conventions import CONVENTIONS, BiasRule, Convention
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.suite.measured_case import measure_case
from tests.support.ports import cell, function, port, sigmoid

CASE = RecurrentCase("small", "for tests", 3, 9, 4, 6)
TWO = RecurrentCase("two", "two layers", 3, 7, 4, 6, num_layers=2)


@pytest.fixture(scope="module")
def measured():
    return {case.name: measure_case(case) for case in (CASE, TWO)}


def diagnosed(measured, case, runner):
    findings = run_checks(case.problem, measured[case.name].reference, runner(case))
    assert worst(f.final for f in findings) is Outcome.DISAGREE
    found = diagnose(Subject(case, case.problem, runner), findings)
    assert found.trouble == ""
    return found


ALWAYS = {
    "f": cell(f=lambda z: sigmoid(1.01 * z)),
    "i": cell(i=lambda z: sigmoid(z) ** 1.02),
    "g": cell(g=lambda z: jnp.clip(jnp.tanh(z), -0.5, 0.5)),
    "o": cell(o=lambda z: 0.999 * sigmoid(z)),
    "h": cell(out=lambda c: jnp.tanh(1.1 * c)),
}
LATE = {
    ("f", 4): cell(f=lambda z: 0.999 * sigmoid(z), start=4),
    ("i", 3): cell(i=lambda z: sigmoid(z) ** 1.02, start=3),
    ("g", 7): cell(g=lambda z: jnp.clip(jnp.tanh(z), -0.5, 0.5), start=7),
    ("o", 5): cell(o=lambda z: 0.999 * sigmoid(z), start=5),
}


@pytest.mark.parametrize("gate", ALWAYS)
def test_a_mistake_that_is_in_no_catalogue_is_placed(gate, measured):
    found = diagnosed(measured, CASE, port(ALWAYS[gate]))
    assert found.mistakes == ()
    assert (found.departure.step, found.departure.layer, found.departure.suffix, found.departure.gates) == (
        0,
        0,
        "",
        (gate,),
    )


@pytest.mark.parametrize(("gate", "step"), LATE)
def test_a_mistake_that_begins_late_is_placed(gate, step, measured):
    """A single step from the reference's state is always right. Sequences that end at the step show the place."""
    found = diagnosed(measured, CASE, port(LATE[gate, step]))
    assert (found.departure.step, found.departure.layer, found.departure.gates) == (step, 0, (gate,))


def test_the_layer_is_the_lowest_that_is_wrong(measured):
    found = diagnosed(measured, TWO, port(ALWAYS["f"], layer=1))
    assert (found.departure.step, found.departure.layer, found.departure.gates) == (0, 1, ("f",))


def test_the_direction_is_told():
    case = RecurrentCase("both", "", 3, 7, 4, 6, bidirectional=True)

    def runner(case):
        right = faulty.runner(NOTHING, case)

        def run(problem, dtype):
            wrong = {name: 1.01 * a if name == "bias_ih_l0_reverse" else a for name, a in problem.params.items()}
            return right(replace(problem, params=wrong), dtype)

        return run

    found = diagnosed({"both": measure_case(case)}, case, runner)
    assert (found.departure.step, found.departure.suffix) == (6, "_reverse")


NOTHING = replace(FAULTS["gate-order-igfo"], name="nothing", weights=None, needs=())


def test_padding_is_no_step():
    case = RecurrentCase("ragged", "", 4, 7, 4, 6, lengths=(7, 3, 1, 5), time_major=True)
    runner = lambda case: faulty.runner(FAULTS["gate-order-igfo"], case)
    found = diagnosed({"ragged": measure_case(case)}, case, runner)
    assert (found.departure.step, found.departure.gates) == (0, ("f", "g"))


def test_a_wrong_derivative_is_placed_going_back(measured):
    @jax.custom_jvp
    def tanh(x):
        return jnp.tanh(x)

    @tanh.defjvp
    def _(primals, tangents):
        y = jnp.tanh(primals[0])
        return y, (1 - y**2) * tangents[0] * 1.01

    found = diagnosed(measured, CASE, port(cell(g=tanh)))
    assert found.departure.step == 8
    assert found.departure.gates == ("g",)
    assert "already within a single step" in found.departure.text


def test_factors_of_wrong_gradients_are_told(measured):
    found = diagnosed(measured, CASE, lambda case: faulty.runner(FAULTS["db_hh-doubled"], case))
    assert "grad bias_hh_l0 is 2 times the true one" in found.departure.text
    found = diagnosed(measured, CASE, lambda case: faulty.runner(FAULTS["dh0-zero"], case))
    assert "grad h0 is zero" in found.departure.text


NAMED = [name for name, fault in FAULTS.items() if fault.applies(TWO) and fault.precision == "float64"]


@pytest.fixture(scope="module")
def remembered():
    """Return the runner of a fault that caches its results, since the next port is compared with the same faults."""
    found, runner = {}, faulty.runner

    def remembering(fault, case):
        run = runner(fault, case)

        def once(problem, dtype):
            key = fault.name, dtype, problem.wrt, problem.cotangents[0].tobytes()
            if key not in found:
                found[key] = run(problem, dtype)
            return found[key]

        return once

    return remembering


@pytest.mark.parametrize("name", [n for n in NAMED if n not in ("dropout-between-layers", "dropout-on-y")])
def test_every_fault_is_named(name, remembered, monkeypatch):
    """Dropout is random and is not recognized. A fault may behave like another one."""
    fault = FAULTS[name]
    lift = 2.0**PROBE if fault.homogeneity else 1.0
    run = faulty.runner
    wrong = Subject(TWO, TWO.problem, lambda case: run(fault, case))
    monkeypatch.setattr(faulty, "runner", remembered)
    assert f"behaves exactly like {fault.description}" in find_mistakes(wrong, "float64", lift)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "tf32", "bfloat16-carry"])
def test_reduced_precision_is_named_by_nearness(name, measured):
    found = diagnosed(measured, CASE, lambda case: faulty.runner(FAULTS[name], case))
    assert any(match.startswith(f"is near to {FAULTS[name].description}: at ") for match in found.mistakes)


def test_a_right_port_is_like_no_fault():
    right = Subject(TWO, TWO.problem, lambda case: faulty.runner(NOTHING, case))
    assert find_mistakes(right, "float64") == find_mistakes(right, "float32") == []


@pytest.mark.parametrize("convention", [CONVENTIONS[n] for n in np.random.default_rng(0).integers(1, 288, 6)], ids=str)
def test_a_convention_is_named_to_the_last_departure(convention):
    found = find_mistakes(Subject(TWO, TWO.problem, lambda case: faulty.runner(_reads(convention), case)), "float64")
    plain = convention.biases is BiasRule.AS_STORED and not convention.transposed  # some of these are in the catalogue
    assert found == [f"behaves exactly like the reference with {convention}"] or (plain and "gates read" in found[0])


def test_the_example_of_the_documentation():
    convention = Convention("igfo", False, BiasRule.FORGET_MINUS_ONE)
    (said,) = find_mistakes(
        Subject(CASE, CASE.problem, lambda case: faulty.runner(_reads(convention), case)), "float64"
    )
    assert "gate order i g f o, with 1 subtracted from the forget gate's bias" in said


def _reads(convention):
    def read(params, case):
        result = {}
        for layer, suffix in case.layers_and_directions():
            end = f"_l{layer}{suffix}"
            cell = {name.removesuffix(end): a for name, a in params.items() if name.endswith(end)}
            result |= {name + end: a for name, a in convention.read(cell).items()}
        return result

    return replace(NOTHING, weights=read)


def lstm_pair():
    torch.manual_seed(0)
    module = torch.nn.LSTM(4, 6, batch_first=True)
    params = {name: p.detach().numpy() for name, p in module.named_parameters()}
    rng = np.random.default_rng(0)
    return module, params, [rng.normal(size=shape) for shape in ((3, 9, 4), (1, 3, 6), (1, 3, 6))]


def test_a_users_pair_is_diagnosed_too():
    module, params, (x, h, c) = lstm_pair()
    verdict = crosscheck.check(function(ALWAYS["i"]), module, params, (x, (h, c)), output_names=["out", "h", "c"])
    assert verdict.outcome is Outcome.DISAGREE
    assert "diagnosis: first wrong at step 0, layer 0, forward direction: gate i (input)" in str(verdict)


def test_a_users_pair_without_states_is_diagnosed_too():
    module, params, (x, *_) = lstm_pair()
    wrong = function(LATE["g", 7])
    zeros = lambda x: (jnp.zeros((1, len(x), 6), x.dtype),) * 2
    verdict = crosscheck.check(lambda params, x: wrong(params, x, zeros(x)), module, params, (x,))
    assert verdict.outcome is Outcome.DISAGREE
    assert "first wrong at step 7, layer 0, forward direction: gate g (candidate)" in str(verdict)


def test_a_port_with_its_batch_size_written_into_it_is_diagnosed_too():
    module, params, (x, h, c) = lstm_pair()
    late, always = "step 4, layer 0, forward direction: gate f", "first wrong at step 0"
    for step, words in ((LATE["f", 4], late), (ALWAYS["h"], always)):
        wrong = function(step)
        fixed = lambda params, x, states, wrong=wrong: wrong(params, x + jnp.zeros((3, 1, 4), x.dtype), states)
        assert words in str(crosscheck.check(fixed, module, params, (x, (h, c))))
    swapped = lambda params, x, states: function(cell())(params, x + jnp.zeros((3, 1, 4), x.dtype), states[::-1])
    assert "h_0 and c_0 swapped" in str(crosscheck.check(swapped, module, params, (x, (h, c))))


def test_a_port_that_runs_only_at_its_own_sizes_says_so():
    module, params, (x, h, c) = lstm_pair()
    wrong = function(ALWAYS["i"])
    fixed = lambda params, x, states: wrong(params, x + jnp.zeros((3, 9, 4)), states)
    verdict = crosscheck.check(fixed, module, params, (x, (h, c)))
    assert "no further: the implementation does not run on other inputs" in str(verdict)


def test_nothing_is_said_about_steps_if_nan_is_in_them(measured):
    """NaN has no error per step. The text must not say that all steps of y are right."""
    found = diagnosed(measured, CASE, port(cell(i=lambda z: jnp.nan * z, start=4)))
    assert found.departure.text.endswith("the first wrong step of y is not known")


def test_an_output_of_the_wrong_size_means_that_other_sizes_do_not_run(measured):
    def fixed(case):
        run = faulty.runner(NOTHING, CASE)
        return lambda problem, dtype: run(CASE.problem, dtype) | {"y": 2 * run(CASE.problem, dtype)["y"]}

    findings = run_checks(CASE.problem, measured["small"].reference, fixed(CASE))
    found = diagnose(Subject(CASE, CASE.problem, fixed), findings)
    assert found.trouble == (
        "no further: the implementation does not run on other inputs (y has another shape than (3, 6, 6))"
    )


def test_what_no_gate_explains_is_not_blamed_on_one():
    """The state is lost at step 3, but no gate is wrong."""
    module, params, (x, h, c) = lstm_pair()

    def lossy(z_i, z_f, z_g, z_o, c, t):
        return cell()(z_i, z_f, z_g, z_o, jnp.where(t == 3, jnp.flip(c, -1), c), t)

    text = str(crosscheck.check(function(lossy), module, params, (x, (h, c))))
    assert "first wrong at step 3, layer 0, forward direction: the new state" in text


def test_outputs_that_are_right_are_not_likened_to_faults_that_do_not_show():
    """A problem without states has none to ignore: the fault that sets states to zero changes nothing."""
    module, params, (x, *_) = lstm_pair()
    wrong = function(cell(i=lambda z: jax.lax.stop_gradient(sigmoid(z)), start=3))
    zeros = lambda x: (jnp.zeros((1, len(x), 6), x.dtype),) * 2
    verdict = crosscheck.check(lambda params, x: wrong(params, x, zeros(x)), module, params, (x,))
    assert verdict.outcome is Outcome.DISAGREE
    assert "h_0" not in str(verdict)


def test_an_edited_function_is_checked_anew():
    """A function that it calls may have been redefined since the last check."""
    module, params, (x, h, c) = lstm_pair()
    inner = [function(ALWAYS["i"])]

    def outer(params, x, states):
        return inner[0](params, x, states)

    assert not crosscheck.check(outer, module, params, (x, (h, c))).ok
    inner[0] = function(cell())
    assert crosscheck.check(outer, module, params, (x, (h, c))).ok
