"""Other libraries: right ones agree, wrong conversions are detected, and a library that cannot run a case says why."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from crosscheck.core.finding import Outcome
from crosscheck.core.problem import Gradient, is_gradient
from crosscheck.libraries import (
    BACKENDS,
    OTHER_LIBRARIES,
    Implementation,
    NotInstalled,
    NotSupported,
    implementations_named,
    jax_lstm,
)
from crosscheck.lstm.cases import CASES, RecurrentCase, TextCase
from crosscheck.suite import runs as suite
from crosscheck.suite.measured_case import assess_implementation, measure_case
from crosscheck.suite.runs import run_implementations
from jax_lstm import convert
from jax_lstm._src import cpu_library
from jax_lstm.convert import gates
from tests.support.libraries import without_library
from tests.support.native import kernels_from, kernels_in, need_kernels

PLAIN = RecurrentCase("plain", "", 3, 6, 4, 5)
NEEDED = {"haiku": "haiku", "equinox": "equinox", "keras": "keras", "onnxruntime": "onnxruntime"}
FLAX = [name for name in OTHER_LIBRARIES if name.startswith("flax")]
JAX = [*FLAX, "haiku", "equinox"]


def need_library(name):
    """Skip without importing the library, since Keras reads its backend from the environment at its import."""
    if name in NEEDED and find_spec(NEEDED[name]) is None:
        pytest.skip(f"{name} is of the extra 'libraries', which is not installed")


def outputs_only(case):
    """Return the runner of jax_lstm without its gradients."""
    run = implementations_named(["jax_lstm"])[0].runner(case)
    return lambda problem, dtype: {n: a for n, a in run(problem, dtype).items() if not is_gradient(n)}


@pytest.fixture(scope="module")
def measured():
    return measure_case(PLAIN)


@pytest.mark.parametrize("name", [*JAX, "torch.nn.LSTM/native"])
def test_a_right_library_agrees_in_outputs_and_gradients(name, measured):
    need_library(name)
    verdict = assess_implementation(measured, OTHER_LIBRARIES[name], explain=False)
    assert verdict.ok, str(verdict)
    assert {f.quantity for f in verdict.findings} == set(measured.reference.truth)
    checks = {str(f.check) for f in verdict.findings}
    assert checks == ({"float32"} if name.startswith("torch") else {"float64", "float64 linearity", "float32"})


CASE_OF = {
    "layers": replace(PLAIN, num_layers=2),
    "directions": replace(PLAIN, bidirectional=True, num_layers=2),
    "lengths": replace(PLAIN, lengths=(6, 1, 4), bidirectional=True),
    "time-major": replace(PLAIN, time_major=True, num_layers=2),
    "no batch": replace(PLAIN, batch=None),
    "no bias": replace(PLAIN, bias=False),
    "text": TextCase("text", "", steps=30, embedding_size=4, hidden_size=6, num_layers=2),
}
SUPPORTED = {
    "flax.linen": {"layers", "directions", "lengths", "time-major", "no batch", "text"},
    "flax.nnx": {"layers", "directions", "lengths", "time-major", "no batch", "text"},
    "haiku": {"layers", "time-major", "no batch", "text"},
    "equinox": {"layers", "time-major", "no batch", "no bias", "text"},
    "onnxruntime": {"layers", "directions", "lengths", "time-major", "no bias"},
}


# The cases of time-major and of both directions also have two layers.
@pytest.mark.parametrize(
    "feature", [pytest.param(name, marks=pytest.mark.slow if name == "layers" else []) for name in CASE_OF]
)
def test_what_each_library_has(feature):
    """Run all libraries together per feature, to measure truth and condition only once."""
    for name in SUPPORTED:
        need_library(name)
    case = replace(CASE_OF[feature], name=feature)
    found = run_implementations(case, tuple(SUPPORTED), explain=False)
    assert all(result.ok for result in found.judged), [str(r.verdict) for r in found.judged if not r.ok]
    assert all(entry.what == "not supported" and entry.reason for entry in found.without), found.without
    assert {r.implementation for r in found.judged} == {name for name, known in SUPPORTED.items() if feature in known}
    assert len(found.judged) + len(found.without) == len(SUPPORTED)


SLOW = [pytest.param(feature, marks=pytest.mark.slow) for feature in ("layers", "directions", "no bias", "text")]


@pytest.mark.parametrize("feature", ["lengths", *SLOW])
def test_keras_agrees_in_float32_and_does_not_compute_in_float64(feature):
    """The reason is its tanh (see docs/findings). The float64 check disagrees by the size of one float32 rounding."""
    need_library("keras")
    measured = measure_case(replace(CASE_OF[feature], name=feature))
    assert assess_implementation(measured, replace(OTHER_LIBRARIES["keras"], dtypes=("float32",)), explain=False).ok
    verdict = assess_implementation(measured, OTHER_LIBRARIES["keras"], explain=False)
    assert verdict.outcome is Outcome.DISAGREE
    assert "has the size of float32 rounding" in verdict.cause


@pytest.mark.parametrize("name", ["flax.linen", "haiku", "equinox"])
@pytest.mark.parametrize("case", [CASES["projection"], CASES["rnn-tanh"]], ids=["projection", "rnn"])
def test_no_library_has_a_projection_or_an_rnn_here(name, case):
    need_library(name)
    with pytest.raises(NotSupported, match=r"no projection|for LSTMs"):
        OTHER_LIBRARIES[name].runner(case)


@pytest.mark.parametrize("name", [name for name in FLAX if "LSTMCell" not in name])
def test_flax_is_wrong_only_on_a_row_of_length_0(name):
    """Flax computes h_n and c_n of this row from the padding. Every other row is right."""
    case = replace(PLAIN, lengths=(6, 0, 4))
    run = OTHER_LIBRARIES[name].runner(case)(case.problem, "float64")
    truth = measure_case(case).reference.truth
    for quantity in ("h_n", "c_n"):
        off = np.abs(run[quantity] - truth[quantity]).max(axis=(0, 2))
        assert off[1] > 0.01
        assert max(off[0], off[2]) < 1e-13


def test_a_wrong_converter_shows_as_a_wrong_library(measured, monkeypatch):
    """i and f are swapped on the way to Flax. The judge sees it, and the diagnosis names it."""
    original = convert.to_flax

    def wrong(params, **options):
        swapped = {name: gates.reorder(a, "ifgo", "figo") for name, a in params.items()}
        return original(swapped, **options)

    monkeypatch.setattr(convert, "to_flax", wrong)
    verdict = assess_implementation(measured, OTHER_LIBRARIES["flax.linen"])
    assert verdict.outcome is Outcome.DISAGREE
    assert "f i g o" in " ".join(verdict.diagnosis)


def test_an_implementation_without_gradients_or_float64_says_so(measured):
    def judged(runner, **kind):
        return assess_implementation(measured, Implementation("forward", runner, **kind))

    verdict = judged(outputs_only, dtypes=("float32",), gradients=False)
    assert verdict.ok
    assert {f.quantity for f in verdict.findings} == {"y", "h_n", "c_n"}
    assert {str(f.check) for f in verdict.findings} == {"float32"}
    assert "no gradients" in " ".join(verdict.notes)
    assert "does not compute in float64" in " ".join(verdict.notes)
    assert judged(outputs_only).outcome is Outcome.DISAGREE  # it claims gradients, but returns none


def test_an_implementation_without_float64_is_not_said_to_agree_there(measured):
    """The cause must not be "a loss of precision only in float32", since float64 was not checked."""
    run = implementations_named(["jax_lstm"])[0].runner(PLAIN)

    def wrong(case):
        return lambda problem, dtype: {n: a + (n == "h_n") for n, a in run(problem, dtype).items()}

    for dtypes, words in ((("float32",), "h_n differs"), (("float64", "float32"), "h_n differs")):
        verdict = assess_implementation(measured, Implementation("wrong", wrong, dtypes=dtypes), explain=False)
        assert verdict.outcome is Outcome.DISAGREE
        assert words in verdict.cause


def test_vacuous_is_not_settled_by_a_check_that_did_not_run():
    """Only the truth itself needs no float64 check."""
    case = RecurrentCase("faded", "", 2, 2_500, 3, 4, loss="last")
    measured = measure_case(case)
    ours = implementations_named(["jax_lstm"])[0]
    only_float32 = assess_implementation(
        measured, replace(ours, name="only float32", dtypes=("float32",)), explain=False
    )
    truth = assess_implementation(measured, implementations_named(["torch.nn.LSTM"])[0], explain=False)
    rest = lambda verdict: sum(
        int(f.rows.rest.sum()) for f in verdict.findings if f.quantity == Gradient("x") and f.rows
    )
    assert rest(only_float32) > rest(truth)


def test_a_control_is_expected_to_agree_if_an_implementation_has_no_gradients(monkeypatch):
    """Only the gradients of the control vanish. So an implementation that has only outputs is expected to agree."""

    def wrong(case):
        run = outputs_only(case)
        return lambda problem, dtype: {n: a + (n == "c_n") for n, a in run(problem, dtype).items()}

    for name, runner in (("outputs only", outputs_only), ("wrong", wrong)):
        monkeypatch.setitem(OTHER_LIBRARIES, name, Implementation(name, runner, dtypes=("float32",), gradients=False))
    faded = RecurrentCase("faded", "", 2, 2_500, 3, 4, loss="last", expect=Outcome.VACUOUS)
    found = {
        r.implementation: r
        for r in run_implementations(faded, ["jax_lstm", "outputs only", "wrong"], explain=False).judged
    }
    assert [(found[name].outcome, found[name].ok) for name in ("jax_lstm", "outputs only", "wrong")] == [
        (Outcome.VACUOUS, True), (Outcome.AGREE, True), (Outcome.DISAGREE, False),
    ]  # fmt: skip


def test_a_crash_of_a_library_is_an_answer_and_one_of_ours_is_not(monkeypatch):
    def crash(case):
        raise RuntimeError("out of memory\nand more lines")

    monkeypatch.setitem(OTHER_LIBRARIES, "haiku", Implementation("haiku", crash))
    found = run_implementations(PLAIN, ["jax_lstm", "haiku"], explain=False)
    assert [(e.implementation, e.what, e.reason) for e in found.without] == [
        ("haiku", "could not run", "out of memory")
    ]
    monkeypatch.setitem(suite.STANDARD, "jax_lstm", Implementation("jax_lstm", crash))
    with pytest.raises(RuntimeError, match="out of memory"):
        run_implementations(PLAIN, ["jax_lstm"], explain=False)


def test_a_library_that_is_missing_says_how_to_get_it(monkeypatch):
    without_library(monkeypatch, "haiku")
    with pytest.raises(NotInstalled, match=r"haiku is not installed; pip install 'jax-lstm\[libraries\]'"):
        OTHER_LIBRARIES["haiku"].runner(PLAIN)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_of_ours_agrees_and_runs(name):
    if name == "jax_lstm[native]":
        need_kernels()
    case = replace(PLAIN, num_layers=2, bidirectional=True, lengths=(6, 1, 4))
    verdict = assess_implementation(measure_case(case), BACKENDS[name], explain=False)
    assert verdict.ok, str(verdict)
    backend = name.removeprefix("jax_lstm[").removesuffix("]")
    run = jax_lstm.function(case, backend=backend)
    assert kernels_in(run, case.problem.params, *case.problem.inputs) == ["forward"] * 4 * (backend == "native")


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_says_what_it_lacks(name):
    found = run_implementations(CASES["rnn-tanh"], ["jax_lstm", name], explain=False)
    assert [(e.implementation, e.what, e.reason) for e in found.without] == [
        (name, "not supported", "this implementation is for LSTMs")
    ]
    with_projection = CASES["projection"]
    if name == "jax_lstm[native]":
        with pytest.raises(NotSupported, match="it has no projection"):
            BACKENDS[name].runner(with_projection)
    else:
        assert BACKENDS[name].runner(with_projection)


def test_kernels_that_are_not_built_are_an_answer_and_a_crash_of_a_backend_is_not(monkeypatch, tmp_path):
    with kernels_from(tmp_path / "missing"):
        found = run_implementations(PLAIN, suite.SUITE, explain=False)
    assert [r.implementation for r in found.judged] == ["jax_lstm", "torch_ref", "torch.nn.LSTM", "jax_lstm[scan]"]
    assert [(e.implementation, e.what) for e in found.without] == [("jax_lstm[native]", "not installed")]
    assert cpu_library.NOT_BUILT in found.without[0].reason

    def crash(case):
        raise RuntimeError("out of memory")

    monkeypatch.setitem(suite.BACKENDS, "jax_lstm[scan]", Implementation("jax_lstm[scan]", crash))
    with pytest.raises(RuntimeError, match="out of memory"):
        run_implementations(PLAIN, ["jax_lstm[scan]"], explain=False)


def test_implementations_are_chosen_by_name_or_by_the_beginning_of_a_name():
    assert [each.name for each in implementations_named(["flax"])] == FLAX
    assert [each.name for each in implementations_named(["keras", " haiku", "keras"])] == ["keras", "haiku"]
    assert [each.name for each in implementations_named(["torch"])] == ["torch.nn.LSTM", "torch.nn.LSTM/native"]
    for wrong in ("tensorflow", "", "fla"):
        with pytest.raises(ValueError, match=rf"unknown implementation '{wrong}'; known: jax_lstm, .*, onnxruntime"):
            implementations_named([wrong])
