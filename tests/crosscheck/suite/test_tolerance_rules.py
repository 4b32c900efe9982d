"""The rules of other projects accept and reject as documented, at the documented sizes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from functools import cache

import numpy as np
import pytest

from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.faulty import runner
from crosscheck.libraries import torch_nn, torch_ref
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.suite.tolerance_rules import RULES

PLAIN = RecurrentCase("plain", "", 3, 8, 5, 4)
OUTPUT_RULES = {"hugging-face", "onnx"}
GRADIENT_RULES = {"flashrnn", "torch-assert_close", "numpy-allclose"}


@cache
def right():
    return torch_ref.runner(PLAIN)(PLAIN.problem, "float32")


def wrong(name):
    return runner(FAULTS[name], PLAIN)(PLAIN.problem, "float32")


def verdicts(port):
    """Return the names of the rules that accept a port."""
    return {name for name, rule in RULES.items() if rule.passes(port, right(), PLAIN.problem)}


def changed(name, change):
    return right() | {name: change(right()[name].copy())}


def test_the_rules_pass_what_is_right():
    assert set(RULES) == OUTPUT_RULES | GRADIENT_RULES
    assert verdicts(right()) == set(RULES)
    correct = torch_nn.runner(PLAIN)(PLAIN.problem, "float32")
    assert verdicts(correct) >= set(RULES) - {"numpy-allclose"}


def test_the_rules_fail_what_is_grossly_wrong():
    assert verdicts(wrong("gate-order-igfo")) == set()
    assert verdicts(changed("y", lambda a: a[:, :-1])) == set()
    assert verdicts({key: a for key, a in right().items() if key != "c_n"}) == set()


def test_rules_on_outputs_are_blind_to_gradients():
    for name in ("stop-gradient-h", "dW_hh-one-NaN", "dc0-zero"):
        assert verdicts(wrong(name)) == OUTPUT_RULES


@pytest.mark.parametrize(
    ("name", "within", "beyond"),
    [
        ("hugging-face", 0.9e-5, 1.1e-5),
        ("onnx", 0.9e-3 * 2, 1.1e-3 * 2),
        ("flashrnn", 0.49, 0.51),
        ("torch-assert_close", 1.2e-5, 1.4e-5),
        ("numpy-allclose", 1.9e-5, 2.1e-5),
    ],
)
def test_where_each_rule_draws_the_line(name, within, beyond):
    """The output is 2, so a rule allows atol + 2 rtol. The first rule is absolute."""
    reference = right() | {"y": np.full((3, 8, 4), 2, np.float32)}
    for off, passes in ((within, True), (beyond, False)):
        port = reference | {"y": reference["y"] + np.float32(off)}
        assert RULES[name].passes(port, reference, PLAIN.problem) is passes


def test_a_nan_on_both_sides():
    """numpy and torch count NaN as a difference. The ONNX tests use assert_allclose and do not."""
    reference = right() | {"y": np.full((3, 8, 4), np.nan, np.float32)}
    through = {name for name, rule in RULES.items() if rule.passes(reference, reference, PLAIN.problem)}
    assert through == {"hugging-face", "onnx"}


def test_a_nan_passes_the_rule_that_sets_it_to_zero_and_no_other():
    def one_nan(a):
        a.flat[0] = np.nan
        return a

    assert verdicts(changed("y", one_nan)) == {"hugging-face"}
