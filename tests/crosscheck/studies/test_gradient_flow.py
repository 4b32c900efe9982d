"""The study: both frameworks agree, any wrong number is detected, and the sentences depend on the numbers."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest

from crosscheck.core.finding import Outcome
from crosscheck.core.verdict import Verdict
from crosscheck.studies.gradient_flow import implementations
from crosscheck.studies.gradient_flow.agreement import cross_check, flow_problem
from crosscheck.studies.gradient_flow.implementations import run_in_torch
from crosscheck.studies.gradient_flow.network import study_networks
from crosscheck.studies.gradient_flow.rates import decimal, fit, predicted_factor
from crosscheck.studies.gradient_flow.sentences import study_sentences
from crosscheck.studies.gradient_flow.study import Measurement, Study, measure
from jax_lstm._src import elman

T, H = 24, 4
QUANTITIES = ("dh", "dc", "along_c", "through_h", "step_max", "step_min", "product_max", "product_min")


@cache
def networks():
    return {network.name: network for network in study_networks(T, H, 1)}


def truth(name):
    """Return torch_ref's own figures at every step, in the layout of run_in_jax."""
    network = networks()[name]
    logs = run_in_torch(network, flow_problem(network))
    return network, {n: np.append(a, 0.0) if n.startswith("product") else a for n, a in logs.items()}


@pytest.mark.parametrize("name", ["RNN tanh", "RNN relu"])
def test_both_frameworks_agree(name):
    verdict = measure(networks()[name], every=2).verdict
    assert verdict.outcome is Outcome.AGREE, str(verdict)
    assert {f.quantity for f in verdict.findings} == {"dh", "step_max", "step_min", "product_max", "product_min"}


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_wrong_number_is_seen_in_every_quantity(quantity):
    """The error is 1e-8 in one step, relative to the quantity. It changes the eighth digit of the logarithm."""
    network, logs = truth("LSTM, forget bias 1")
    assert cross_check(network, logs, 1).outcome is Outcome.AGREE
    wrong = logs[quantity].copy()
    wrong[11] += 1e-8
    verdict = cross_check(network, logs | {quantity: wrong}, 1)
    assert verdict.outcome is Outcome.DISAGREE
    assert {f.quantity for f in verdict.findings if not f.ok} == {quantity}
    (steps,) = (f for f in verdict.findings if not f.ok and f.scope.name == "t")
    assert steps.first_step == 11 + (quantity in implementations.STEP)


def test_a_zero_that_is_none_is_seen_and_so_is_a_nan():
    network, logs = truth("RNN relu")
    zero = np.isneginf(logs["step_min"])
    assert 0 < zero.sum() < T
    wrong = np.where(np.arange(T) == np.flatnonzero(zero)[0], -500.0, logs["step_min"])
    assert cross_check(network, logs, 1).outcome is Outcome.AGREE
    assert cross_check(network, logs | {"step_min": wrong}, 1).outcome is Outcome.DISAGREE
    none = logs | {"step_min": np.full(T, -np.inf)}
    assert cross_check(network, none, 1).outcome is Outcome.DISAGREE
    nan = np.where(np.arange(T + 1) == 5, np.nan, logs["dh"])
    assert cross_check(network, logs | {"dh": nan}, 1).outcome is Outcome.DISAGREE
    missing = {name: a for name, a in logs.items() if name != "dh"}
    assert cross_check(network, missing, 1).outcome is Outcome.DISAGREE


def test_a_wrong_cell_is_seen(monkeypatch):
    """Only in JAX, the derivative of tanh is wrong by a millionth."""
    wrong = elman.cell_of("tanh")._replace(slopes=lambda gates, c_prev, c: (1 - (1 + 1e-6) * gates[0] ** 2,))
    monkeypatch.setitem(elman.NONLINEARITIES, "tanh", wrong)
    jax.clear_caches()
    monkeypatch.setattr(implementations, "_jitted", implementations._jitted.__wrapped__)
    verdict = measure(networks()["RNN tanh"]).verdict
    assert verdict.outcome is Outcome.DISAGREE
    assert {f.quantity for f in verdict.findings if not f.ok} >= {"dh", "step_max", "product_max"}


def test_singular_values_are_compared_under_the_step_they_belong_to():
    network, logs = truth("RNN tanh")
    wrong = {name: logs[name].copy() for name in ("step_max", "product_max")}
    wrong["step_max"][12] += 1e-6
    wrong["product_max"][18] += 1e-6
    findings = [f for f in cross_check(network, logs | wrong, 6).findings if not f.ok and f.scope.name == "t"]
    assert {f.quantity: f.first_step for f in findings} == {"step_max": 13, "product_max": 18}


def test_networks_differ_in_what_their_names_say():
    norm = lambda name: np.linalg.norm(networks()[name].params["weight_hh_l0"], 2)
    np.testing.assert_allclose(norm("RNN tanh, ‖W_hh‖ = 0.9"), 0.9)
    np.testing.assert_allclose(norm("RNN relu, 2.5 W_hh"), 2.5 * norm("RNN tanh"))
    for bias in (0, 1, 3):
        params = networks()[f"LSTM, forget bias {bias}"].params
        total = params["bias_ih_l0"] + params["bias_hh_l0"]
        np.testing.assert_allclose(total[H : 2 * H], bias)
    params = networks()["LSTM, forget bias chrono"].params
    total = params["bias_ih_l0"] + params["bias_hh_l0"]
    np.testing.assert_allclose(total[:H], -total[H : 2 * H])


def test_a_fit_finds_the_rate_and_leaves_out_the_ends():
    t = np.arange(101)
    log2 = -0.25 * t[::-1].astype(float)
    log2[:10], log2[91:] = 99.0, -99.0
    found = fit(log2)
    np.testing.assert_allclose(found.factor, 2**-0.25)
    assert found.spread < 1e-12
    assert (found.first, found.last) == (10, 90)
    log2[50] = -np.inf
    assert fit(log2).factor == 0.0


def test_the_prediction_is_exact_where_all_steps_are_alike():
    w, h = np.array([[0.0, 0.5], [2.0, 0.0]]), np.tile([0.6, -0.6], (7, 1))
    np.testing.assert_allclose(predicted_factor(w, h, "tanh"), (1 - 0.36) * 1.0)
    np.testing.assert_allclose(predicted_factor(w, np.abs(h), "relu"), 1.0)


@pytest.mark.parametrize(
    ("log2", "text"),
    [
        (0.0, "1"),
        (np.log2(0.0873), "0.087"),
        (-1000 * np.log2(10), "1.0e-1000"),
        (np.log2(9.96) - 400 * np.log2(10), "1.0e-399"),
        (np.log2(1.5e78), "1.5e+78"),
        (-np.inf, "0"),
        (np.inf, "inf"),
        (np.nan, "nan"),
    ],
)
def test_decimals_go_beyond_what_a_float_holds(log2, text):
    assert decimal(log2) == text


def fake(name, rate, norms, **logs):
    """Return a network with only the numbers that sentences need: log2 of norms, linear in time."""
    network = networks()[name]
    line = np.log2(rate) * np.arange(T, -1, -1.0)
    none = np.full(T + 1, -np.inf)
    given = {"dh": line, "dc": line, "along_c": none, "through_h": line, "product_max": line, "product_min": line}
    given |= {"step_max": np.log2(norms) * np.ones(T), "step_min": np.zeros(T)} | logs
    verdict = Verdict((), ())
    return Measurement(network, given, verdict, 0.5 if network.kind == "rnn" else None)


def test_sentences_follow_from_the_numbers():
    flat = np.zeros(T + 1)
    rnns = (
        fake("RNN tanh", 0.5, 1.2),
        fake("RNN tanh, ‖W_hh‖ = 0.9", 0.5, 0.8),
        fake("RNN relu, 2.5 W_hh", 1.25, 2.0),
    )
    lstms = (fake("LSTM, forget bias 0", 0.5, 1.0), fake("LSTM, forget bias chrono", 0.99, 1.0, along_c=flat))
    said = study_sentences(Study((*rnns, *lstms)))
    assert "changes by 0.5000 per step; ρ(diag(mean φ') W_hh) = 0.5000 is 0.00% off" in said[0]
    assert "above 1 at 24 of 24 steps" in said[1]
    assert "norms below 1 are sufficient for vanishing, not necessary" in said[1]
    assert f"every ‖J_t‖ is below 1, which bounds the product by {decimal(T * np.log2(0.8))}" in said[2]
    assert "explodes at a factor of 1.2500" in said[3]
    assert "not necessary" not in said[2] + said[3]
    assert said[4].endswith("all but 0 of it through h")
    assert said[5].endswith("56% of it along c only")
    assert "in LSTM, forget bias chrono" in said[6]


@pytest.mark.isa
def test_the_chrono_lstm_and_the_rnn_are_as_far_apart_as_the_issue_says():
    """T = 1,000, H = 64. Only the adjoint is run, which needs no product of Jacobians."""
    networks = {n.name: n for n in study_networks(1_000, 64, 0)}
    import jax_lstm

    def relative(name, quantity):
        network = networks[name]
        last = network.dh[None]
        last = last if network.kind == "rnn" else jax_lstm.LSTMState(last, 0 * last)
        run = jax.jit(lambda p, x: jax_lstm.gradient_flow(p, x, dstate=last, jacobians=False, products=False))
        flow = run(network.params, network.x)
        return float(getattr(flow, quantity)[0] - flow.log2_dh[-1]) * np.log10(2)

    assert -1 > relative("LSTM, forget bias chrono", "log2_dc") > -2
    assert -4.5 < relative("LSTM, forget bias chrono", "log2_dh") < -3.5
    assert -240 < relative("RNN tanh", "log2_dh") < -200


def test_a_study_of_nothing_agrees_with_nothing():
    assert Study(()).outcome is Outcome.VACUOUS
    lone = replace(fake("RNN tanh", 0.5, 1.2), verdict=Verdict((), ()))
    assert not Study((lone,)).ok
