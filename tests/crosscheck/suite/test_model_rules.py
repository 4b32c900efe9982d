"""The rules for models accept and reject as documented, at the documented sizes."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import numpy as np
import pytest
import torch

from crosscheck.core.problem import Gradient, Problem
from crosscheck.suite.model_rules import MODEL_RULES, passed_rules

pytestmark = pytest.mark.isa

GRADIENT = Gradient("x")
PROBLEM = Problem({}, (np.zeros(3),), ("x",), ("y",), (np.zeros(3),), ("x",))
AGAINST_TRUTH = {"torch.compile", "flash-attention"}
OTHERS = {"torch-assert_close", "numpy-allclose"}


def results(y, gradient=None):
    y = np.asarray(y)
    return {"y": y, GRADIENT: y if gradient is None else np.asarray(gradient)}


def passed(port, module, truth=None):
    module = results(np.float32(module))
    truth = results(module["y"].astype(np.float64) if truth is None else np.asarray(truth, np.float64))
    return passed_rules(port, module, truth, PROBLEM)


def test_the_rules_pass_what_is_equal():
    assert passed(results(np.ones(3, np.float32)), np.ones(3)) == set(MODEL_RULES)
    assert set(MODEL_RULES) == {"hugging-face"} | AGAINST_TRUTH | OTHERS


def test_the_rules_fail_another_shape_and_a_missing_gradient():
    assert passed(results(np.ones((3, 1), np.float32)), np.ones(3)) == set()
    assert passed({"y": np.ones(3, np.float32)}, np.ones(3)) == {"hugging-face"}


def test_only_one_rule_does_not_look_at_gradients():
    assert passed(results(np.ones(3, np.float32), np.full(3, 1.1, np.float32)), np.ones(3)) == {"hugging-face"}


@pytest.mark.parametrize("numbers", [999, 1_000])
def test_torch_compile_compares_root_mean_squares(numbers):
    """Above 1e-4 it allows three times the reference's own error (twice for 1,000 numbers or more), plus 1e-5."""
    truth = np.full(numbers, 100.0)
    own, times = 0.25, 3 if numbers < 1_000 else 2
    for factor, passes in ((times - 0.01, True), (times + 0.01, False)):
        port = results(np.float32(truth + factor * own))
        assert ("torch.compile" in passed(port, truth - own, truth)) is passes


def test_torch_compile_allows_1e_4_before_it_compares():
    for off, passes in ((1.9e-4, True), (2.2e-4, False)):
        assert ("torch.compile" in passed(results(np.float32([1 + off])), [1.0])) is passes


@pytest.mark.parametrize("size", [1.0, 30.0])
@pytest.mark.parametrize("seed", range(8))
def test_it_is_that_of_torch(size, seed):
    """Compare with torch's own function, on errors near its limits."""
    from torch._dynamo.utils import same

    rng = np.random.default_rng(seed)
    truth = size * rng.normal(size=500)
    module = np.float32(truth + 1e-3 * rng.normal(size=500))
    port = np.float32(truth + rng.uniform(1e-3, 5e-3) * rng.normal(size=500))
    expected = same(torch.tensor(module), torch.tensor(port), torch.tensor(truth))
    accepted = MODEL_RULES["torch.compile"].accepts(port, module, truth)
    assert accepted is expected


def test_flash_attention_compares_the_largest_error():
    for off, passes in ((2.0e-3, True), (2.1e-3, False)):
        port, module, truth = np.float32([0, off, 0]), np.float32([1e-3, 0, 0]), np.zeros(3)
        assert ("flash-attention" in passed_rules(results(port), results(module), results(truth), PROBLEM)) is passes
    for off, passes in ((0.9e-5, True), (1.1e-5, False)):
        assert ("flash-attention" in passed(results(np.float32([off])), [0.0])) is passes


def test_nan():
    nan = results(np.float32([np.nan, 1]))
    assert passed(nan, [1.0, 1.0]) == {"hugging-face"}
    assert passed(results(np.float32([1, 1])), [np.nan, 1.0], [1.0, 1.0]) == {"hugging-face", "torch.compile"}


def test_integers_must_be_equal_and_their_width_is_free():
    """JAX uses int32 if x64 is off. This is no mistake of the port."""
    problem = Problem({}, (np.zeros(3),), ("x",), ("y",), (np.zeros(3),), ())
    module = {"y": np.arange(3)}
    for port, accepted in ((np.arange(3, dtype=np.int32), set(MODEL_RULES)), (np.arange(1, 4, dtype=np.int32), set())):
        assert passed_rules({"y": port}, module, module, problem) == accepted


def test_a_float_for_an_integer():
    problem = Problem({}, (np.zeros(3),), ("x",), ("y",), (np.zeros(3),), ())
    module = {"y": np.arange(3)}
    accepted = passed_rules({"y": np.arange(3, dtype=np.float32)}, module, module, problem)
    assert accepted == {"hugging-face", "flash-attention", "numpy-allclose"}
