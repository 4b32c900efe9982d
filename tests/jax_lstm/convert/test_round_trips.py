"""Round trips are exact if a converter says so, and else within its bound. strict=True refuses inexact ones."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from jax_lstm import convert
from jax_lstm._src.network import Network
from tests.support.conversion import KINDS, any_bits, assert_round_trip, assert_same_bits, one_bias, our_params
from tests.support.libraries import LIBRARIES

NAMES = [name for name in LIBRARIES if name != "haiku"]
ONE_BIAS = [name for name, library in LIBRARIES.items() if not library.two_biases]
quick = settings(max_examples=10, deadline=None, database=None)


@st.composite
def networks(draw, name):
    """Draw any network that the library has. There are few sizes, since every shape is compiled."""
    library = LIBRARIES[name]
    return Network(
        "lstm",
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        bias=not library.no_bias or draw(st.booleans()),
        bidirectional=library.bidirectional and draw(st.booleans()),
    )


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_bit_for_bit(name):
    @seed(0)
    @quick
    @given(networks(name), st.sampled_from(KINDS), st.integers(0, 10**6))
    def holds(network, kind, number):
        assert_round_trip(LIBRARIES[name], network, kind, number)

    holds()


def test_haiku_keeps_all_but_the_forget_bias():
    @seed(0)
    @quick
    @given(networks("haiku"), st.sampled_from(KINDS), st.integers(0, 10**6))
    def holds(network, kind, number):
        params = one_bias(any_bits(network, kind, number))
        back = convert.from_haiku(convert.to_haiku(params))
        hidden = network.hidden_size
        forget = slice(hidden, 2 * hidden)
        for name, a in params.items():
            b = np.array(back[name])
            if name.startswith("bias_ih"):
                a, b = np.delete(a, np.r_[forget]), np.delete(b, np.r_[forget])
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name

    holds()


def forget_biases(kind: np.dtype, number: int, count: int = 64) -> np.ndarray:
    """Draw forget biases of all sizes, and some to which 1 can be added exactly."""
    rng = np.random.default_rng(number)
    even = rng.integers(-64, 64, count) / 32
    odd = rng.normal(size=count) * np.exp2(rng.integers(-30, 60, count))
    return np.where(rng.random(count) < 0.5, even, odd).astype(kind)


def haiku_tree(forget: np.ndarray):
    """Return one layer of Haiku's with these forget biases."""
    hidden = forget.size
    b = np.zeros(4 * hidden, forget.dtype)
    b[2 * hidden : 3 * hidden] = forget
    return {"lstm/linear": {"w": np.ones((1 + hidden, 4 * hidden), forget.dtype), "b": b}}


def exact(a: np.ndarray) -> list[Fraction]:
    return [Fraction(float(value)) for value in a]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_haikus_one_rounds_by_half_an_ulp_at_most_and_strict_says_where(kind):
    for number in range(5):
        forget = forget_biases(kind, number)
        hidden = forget.size
        params = convert.from_haiku(haiku_tree(forget))
        added = np.asarray(params["bias_ih_l0"])[hidden : 2 * hidden]
        ulp = np.exp2(np.floor(np.log2(np.abs(added.astype(np.float64)) + 1e-300)) - ml_dtypes.finfo(kind).nmant)
        errors = [abs(a - b - 1) for a, b in zip(exact(added), exact(forget), strict=True)]
        assert all(error <= Fraction(half) for error, half in zip(errors, ulp / 2, strict=True))
        rounds = sum(error > 0 for error in errors)
        assert rounds
        with pytest.raises(ValueError, match=rf"strict=True: Haiku adds 1 .*and {rounds} of {hidden} forget biases"):
            convert.from_haiku(haiku_tree(forget), strict=True)

        kept = haiku_tree(np.where([error == 0 for error in errors], forget, kind.type(0.5)))
        assert_same_bits(convert.to_haiku(convert.from_haiku(kept, strict=True), strict=True), kept)

        less = np.asarray(convert.to_haiku(params)["lstm/linear"]["b"])[2 * hidden : 3 * hidden]
        rounds = sum(a - b != 1 for a, b in zip(exact(added), exact(less), strict=True))
        if rounds:
            with pytest.raises(ValueError, match=rf"and {rounds} of {hidden} forget biases"):
                convert.to_haiku(params, strict=True)


@pytest.mark.parametrize("name", ONE_BIAS)
def test_strict_refuses_a_second_bias_and_nothing_else(name):
    library = LIBRARIES[name]

    @seed(0)
    @quick
    @given(networks(name), st.sampled_from(KINDS), st.randoms(use_true_random=False), st.booleans())
    def holds(network, kind, random, spoiled):
        params = one_bias({n: np.round(a * 8).astype(kind) / kind.type(8) for n, a in our_params(network).items()})
        biases = [n for n in params if n.startswith("bias_hh")]
        if not spoiled or not biases:
            assert_same_bits(library.write(params, strict=True), library.write(params))
            return
        where = random.choice(biases)
        params[where][random.randrange(params[where].size)] = ml_dtypes.finfo(kind).smallest_subnormal
        for given_as in (params, {n: jnp.asarray(a) for n, a in params.items()}):
            with pytest.raises(ValueError, match=r"strict=True: \w+ keeps one bias and these params have two"):
                library.write(given_as, strict=True)
        library.write(params)

    holds()


@pytest.mark.parametrize("name", ONE_BIAS)
def test_strict_says_that_it_needs_values(name):
    params = {n: jnp.asarray(a) for n, a in one_bias(our_params(Network("lstm", 2, 3))).items()}
    with pytest.raises(ValueError, match=r"strict=True looks at values, .* call it outside"):
        jax.jit(partial(LIBRARIES[name].write, strict=True))(params)
