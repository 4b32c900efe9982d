"""The truth value of a verdict."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import re

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from crosscheck.core.finding import FLOAT64, Finding, Outcome
from crosscheck.core.verdict import Verdict
from tests.support.pairs import judged, module, numbers


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_verdict_is_true_only_if_it_agrees(outcome):
    verdict = Verdict((Finding("y", FLOAT64, outcome, 0.0, 1.0),))
    assert bool(verdict) is verdict.ok is (outcome is Outcome.AGREE)


def total():
    return module(lambda m, x: x.sum())


def test_a_scalar_has_no_index():
    text = str(judged(lambda p, x: jnp.mean(x), total(), numbers(3, 2)))
    assert re.search(r"limit [^;]*; got [-\d.]+, expected [-\d.]+\n", text)
    assert "index []" not in text


def test_why_there_was_nothing_to_check():
    port = lambda p, x: jnp.sum(x)
    undefined = judged(port, total(), numbers(3, 2), cotangents=np.array(np.nan))
    assert undefined.outcome is Outcome.VACUOUS
    assert "grad x [float64]; every number of the truth is NaN: nothing to compare" in str(undefined)
    empty = judged(port, total(), np.zeros((0, 2)))
    assert empty.outcome is Outcome.VACUOUS
    assert "grad x [float64]; the array is empty: nothing to compare" in str(empty)
    assert "the truth is zero, underflows, is NaN or is empty" in str(empty)


def test_torch_that_overflows():
    rises = module(lambda m, x: (torch.exp(x) - torch.exp(x - 1)) * 1e-3)
    port = lambda p, x: jnp.exp(x) * (1 - jnp.exp(-1)) * 1e-3
    verdict = judged(port, rises, np.array([89.0, 95.0, 2.0]))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "a number overflows" in str(verdict).splitlines()[1]


def test_another_dtype_than_torchs():
    text = str(judged(lambda p, x: jnp.sum(x).astype(jnp.bfloat16), total(), numbers(3, 2)))
    assert "came back as bfloat16; torch gives float32 in the float32 check" in text
