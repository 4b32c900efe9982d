"""The verdict says so if a mistake of layout would not show on the inputs."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from dataclasses import replace

import numpy as np
import pytest
import torch

import crosscheck
import jax_lstm
from crosscheck.core.finding import Outcome
from crosscheck.diagnosis.inputs import check_inputs, unseen_mistakes
from crosscheck.faults.catalogue import FAULTS
from crosscheck.lstm.cases import CASES, RecurrentCase
from crosscheck.suite.runs import run_case
from jax_lstm import LSTMState

CASE = RecurrentCase("small", "", 3, 9, 4, 6)
SQUARE = RecurrentCase("square", "a layer of 6 inputs and 6 units, 6 rows and 6 steps", 6, 6, 6, 6)


@pytest.mark.parametrize("name", CASES)
def test_every_standard_case_shows_every_mistake(name):
    assert unseen_mistakes(CASES[name], CASES[name].problem) == []


def test_equal_sizes_are_verified_by_behaviour():
    """If D, H, B and T are all equal, shapes show no mistake, but the numbers do."""
    assert unseen_mistakes(SQUARE, SQUARE.problem) == []


def names(case, problem):
    return {fault.name for fault in unseen_mistakes(case, problem)}


def test_zero_states_hide_mistakes_of_states():
    x, (h, c) = CASE.problem.inputs
    zeros = replace(CASE.problem, inputs=(x, (0 * h, 0 * c)))
    assert {"h0-ignored", "c0-ignored", "h0-c0-swapped"} <= names(CASE, zeros)
    assert "c0-ignored" not in names(CASE, replace(CASE.problem, inputs=(x, (0 * h, c))))


def test_equal_gates_hide_gate_orders():
    alike = {name: np.concatenate([a[:6]] * 4) for name, a in CASE.problem.params.items()}
    found = names(CASE, replace(CASE.problem, params=alike))
    orders = {name for name in FAULTS if name.startswith("gate-order")} - {"gate-order-bias"}  # the gradients show it
    assert orders <= found
    assert "weight_hh-transposed" not in found


@pytest.mark.parametrize("bias", ["bias_ih_l0", "bias_hh_l0"])
def test_a_zero_bias_is_shown_by_its_gradient(bias):
    """Weights from a library with one bias have zeros in the other bias."""
    zero = {name: 0 * a if name == bias else a for name, a in CASE.problem.params.items()}
    assert names(CASE, replace(CASE.problem, params=zero)) == set()
    assert "bias_hh-dropped" in names(CASE, replace(CASE.problem, params=zero, wrt=())) or bias == "bias_ih_l0"


def test_a_degenerate_case_is_vacuous_for_every_side():
    zero = {name: np.zeros(shape) for name, shape in CASE.shapes().items()}
    results = run_case(replace(CASE, weights=zero))
    assert {r.outcome for r in results} == {Outcome.VACUOUS}
    (finding,) = check_inputs(CASE, replace(CASE.problem, params=zero))
    assert (finding.quantity, str(finding.check)) == ("inputs", "inputs")
    assert "draw random weights, inputs and states" in finding.note


def pair(case):
    torch.manual_seed(0)
    module = torch.nn.LSTM(case.input_size, case.hidden_size, batch_first=True)
    params = {name: p.detach().numpy() for name, p in module.named_parameters()}

    def fn(params, x, states):
        y, state = jax_lstm.lstm(params, x, LSTMState(*states))
        return y, (state.h, state.c)

    return fn, module, params


def test_a_users_zero_states_are_told():
    fn, module, params = pair(CASE)
    x, states = CASE.problem.inputs
    assert crosscheck.check(fn, module, params, (x, states)).ok
    verdict = crosscheck.check(fn, module, params, (x, tuple(0 * a for a in states)))
    assert verdict.outcome is Outcome.VACUOUS
    assert "zeros in place of h_0" in str(verdict)


def test_a_model_without_states_is_not_blamed_for_them():
    fn, module, params = pair(CASE)
    zeros = lambda x: (np.zeros((1, 3, 6), x.dtype),) * 2
    verdict = crosscheck.check(lambda params, x: fn(params, x, zeros(x)), module, params, (CASE.problem.inputs[0],))
    assert verdict.ok, str(verdict)


def test_cotangents_that_are_the_same_in_reversed_time_are_noted():
    fn, module, params = pair(CASE)
    ones = (np.ones((3, 9, 6)), (np.ones((1, 3, 6)), np.ones((1, 3, 6))))
    verdict = crosscheck.check(fn, module, params, CASE.problem.inputs, cotangents=ones)
    assert any("reversed time" in note for note in verdict.notes)
