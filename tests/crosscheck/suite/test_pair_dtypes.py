"""Checks in bfloat16 and float16, and complex numbers."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import pytest
import torch

from crosscheck.core.finding import Outcome
from tests.support.pairs import judged, linear, module, numbers

pytestmark = pytest.mark.isa

NARROW = ("bfloat16", "float16")


def network():
    return module(
        lambda m, x: m.b(torch.tanh(m.a(x))),
        a=lambda: torch.nn.Linear(6, 20),
        b=lambda: torch.nn.Linear(20, 3),
    )


def port(p, x, bend=lambda h: h):
    return linear(p, "b", bend(jnp.tanh(linear(p, "a", x))))


@pytest.mark.parametrize("dtype", NARROW)
def test_a_right_port_agrees_in_a_narrow_dtype(dtype):
    verdict = judged(port, network(), numbers(5, 6), dtypes=("float64", dtype))
    assert verdict, str(verdict)
    assert {f.check.dtype for f in verdict.findings} == {"float64", dtype}


@pytest.mark.parametrize("dtype", NARROW)
def test_a_port_that_is_wrong_only_in_a_narrow_dtype_disagrees_there(dtype):
    bend = lambda h: h * 1.2 if h.dtype == dtype else h
    wrong = lambda p, x: port(p, x, bend)
    verdict = judged(wrong, network(), numbers(5, 6), dtypes=("float64", "float32", dtype))
    assert {f.check.dtype for f in verdict.findings if f.final is Outcome.DISAGREE} == {dtype}


def test_an_output_that_torch_returns_in_float32_must_be_so_in_the_port():
    logits = module(lambda m, x: m.a(x).float(), a=lambda: torch.nn.Linear(6, 4))
    narrow = lambda p, x: linear(p, "a", x)
    wide = lambda p, x: narrow(p, x).astype(jnp.float32) if x.dtype == jnp.bfloat16 else narrow(p, x)
    verdict = judged(wide, logits, numbers(5, 6), dtypes=("float64", "bfloat16"))
    assert verdict, str(verdict)
    verdict = judged(narrow, logits, numbers(5, 6), dtypes=("float64", "bfloat16"))
    assert "came back as bfloat16" in verdict.first.note


@pytest.mark.parametrize("dtypes", ["float32", (), ("float8",)])
def test_other_dtypes_are_refused(dtypes):
    with pytest.raises(ValueError, match="dtypes must be a sequence of some of float64, float32, bfloat16, float16"):
        judged(port, network(), numbers(5, 6), dtypes=dtypes)


def spectral():
    weight = lambda: torch.nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))
    return module(lambda m, z: (torch.fft.fft(z) @ m.w, (z * z.conj()).real), w=weight)


def port_of_spectral(p, z, turn=lambda a: a):
    return jnp.fft.fft(z) @ turn(p["w"]), (z * z.conj()).real


def complex_numbers(*shape):
    return numbers(*shape) + 1j * numbers(*shape, seed=1)


def test_complex_inputs_parameters_and_outputs_agree():
    verdict = judged(port_of_spectral, spectral(), complex_numbers(5, 4))
    assert verdict, str(verdict)
    assert len({f.quantity for f in verdict.findings}) == 4
    verdict = judged(port_of_spectral, spectral(), complex_numbers(5, 4), second_order=True)
    assert verdict, str(verdict)


def test_a_conjugated_weight_disagrees():
    wrong = lambda p, z: port_of_spectral(p, z, jnp.conj)
    assert judged(wrong, spectral(), complex_numbers(5, 4)).outcome is Outcome.DISAGREE


def test_a_gradient_that_is_conjugated_disagrees():
    @jax.custom_vjp
    def same(w):
        return w

    same.defvjp(lambda w: (w, None), lambda _, g: (jnp.conj(g),))
    wrong = lambda p, z: port_of_spectral(p, z, same)
    verdict = judged(wrong, spectral(), complex_numbers(5, 4))
    assert {str(f.quantity) for f in verdict.findings if f.final is Outcome.DISAGREE} == {"grad w"}


def test_a_real_part_only_is_named():
    real = lambda p, z: (jnp.real(jnp.fft.fft(z) @ p["w"]), (z * z.conj()).real)
    verdict = judged(real, spectral(), complex_numbers(5, 4))
    assert verdict.outcome is Outcome.DISAGREE
