"""Haiku's names of nested modules and stacks, and the input that from_haiku and to_haiku refuse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState, convert
from jax_lstm._src.network import Network
from tests.support.conversion import assert_same_bits, drawn, our_params
from tests.support.libraries import NETWORKS, B, D, H, T
from tests.support.requirements import need

hk = need("haiku")


def unrolled(core, x):
    return hk.dynamic_unroll(core, x, core.initial_state(B), time_major=False)[0]


class Net(hk.Module):
    """A module that makes its cores in the constructor. Haiku puts '~' into their names."""

    def __init__(self):
        super().__init__()
        self.core = hk.DeepRNN([hk.LSTM(H), hk.LSTM(H)])

    def __call__(self, x):
        return unrolled(self.core, x)


class InCall(hk.Module):
    def __call__(self, x):
        below = unrolled(hk.LSTM(H), x)
        return unrolled(hk.LSTM(H), below)


def alone(x):
    return unrolled(hk.LSTM(H), x)


def named(x):
    return unrolled(hk.LSTM(H, name="decoder"), x)


PROGRAMS = {
    "alone": (alone, ["lstm/linear"]),
    "by another name": (named, ["decoder/linear"]),
    "DeepRNN": (lambda x: unrolled(hk.DeepRNN([hk.LSTM(H), hk.LSTM(H)]), x), ["lstm/linear", "lstm_1/linear"]),
    "in a constructor": (lambda x: Net()(x), ["net/~/lstm/linear", "net/~/lstm_1/linear"]),
    "in a call": (lambda x: InCall()(x), ["in_call/lstm/linear", "in_call/lstm_1/linear"]),
}


def weights_of(program, x):
    net = hk.without_apply_rng(hk.transform(program))
    return drawn(jax.eval_shape(net.init, jax.random.key(0), x)), jax.jit(net.apply)


def x_of(width=D):
    return jnp.asarray(np.random.default_rng(3).normal(size=(B, T, width)))


@pytest.mark.parametrize("kind", PROGRAMS)
def test_modules_by_their_names(kind):
    program, names = PROGRAMS[kind]
    x = x_of()
    weights, apply = weights_of(program, x)
    assert list(weights) == names
    y, _ = jax.jit(jax_lstm.lstm)(convert.from_haiku(weights), x)
    np.testing.assert_allclose(y, apply(weights, x), rtol=0, atol=1e-12)
    params = our_params(Network("lstm", D, H, len(names)))
    written = convert.to_haiku(params, names[0].removesuffix("/linear"))
    assert list(written) == names
    np.testing.assert_allclose(apply(written, x), jax.jit(jax_lstm.lstm)(params, x)[0], rtol=0, atol=1e-12)


def test_a_cell_is_lstm_cell():
    rng = np.random.default_rng(4)
    x, h, c = (jnp.asarray(rng.normal(size=(B, n))) for n in (D, H, H))
    step = hk.without_apply_rng(hk.transform(lambda x, h, c: hk.LSTM(H)(x, hk.LSTMState(h, c))[1]))
    weights = drawn(jax.eval_shape(step.init, jax.random.key(0), x, h, c))
    last = jax.jit(step.apply)(weights, x, h, c)
    params = {name.removesuffix("_l0"): a for name, a in convert.from_haiku(weights).items()}
    found = jax.jit(jax_lstm.lstm_cell)(params, LSTMState(h=h, c=c), x)
    np.testing.assert_allclose(found.h, last.hidden, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.c, last.cell, rtol=0, atol=1e-12)


def test_a_prefix_takes_one_network_of_several():
    both = lambda x: (unrolled(hk.LSTM(H, name="encoder"), x), InCall()(x), hk.Linear(2)(x))
    weights, _ = weights_of(both, x_of())
    with pytest.raises(ValueError, match=r"and no other modules \(prefix='' chooses\); got encoder/linear/b \(20,\)"):
        convert.from_haiku(weights)
    alone = {name: module for name, module in weights.items() if name.startswith("in_call")}
    assert_same_bits(convert.from_haiku(weights, prefix="in_call/"), convert.from_haiku(alone))
    with pytest.raises(ValueError, match=r"\(prefix='decoder' chooses\); got encoder/linear/b"):
        convert.from_haiku(weights, prefix="decoder")


def test_layers_are_in_the_order_of_numbers_and_not_of_letters():
    params = our_params(Network("lstm", D, H, 12))
    written = convert.to_haiku(params)
    for order in (sorted(written), reversed(written)):
        back = convert.from_haiku({name: written[name] for name in order})
        for name, a in params.items():
            if name.startswith("weight"):
                np.testing.assert_array_equal(back[name], a)


def gru_weights():
    return weights_of(lambda x: unrolled(hk.GRU(H), x), x_of())[0]


def test_what_is_no_lstm_of_haiku():
    expected = r"params must be Haiku's params with 'lstm/linear', .*; got"
    with pytest.raises(ValueError, match=expected + r" gru/.*It looks like a GRU, not an LSTM\."):
        convert.from_haiku(gru_weights())
    with pytest.raises(ValueError, match=expected + " vanilla_rnn/"):
        convert.from_haiku(weights_of(lambda x: unrolled(hk.VanillaRNN(H), x), x_of())[0])
    for wrong in (None, {}, [], "lstm", np.ones(3), [{"w": 1}]):
        with pytest.raises(ValueError, match=expected):
            convert.from_haiku(wrong)


def test_missing_and_surplus_leaves_are_named():
    right = convert.to_haiku(our_params(NETWORKS["one"]))["lstm/linear"]
    for wrong in ({"w": right["w"]}, {"b": right["b"]}, right | {"scale": right["b"]}, right["w"], None):
        with pytest.raises(ValueError, match=r"params\['lstm/linear'\] must be hk.LSTM's linear layer, w and b; got"):
            convert.from_haiku({"lstm/linear": wrong})
    with pytest.raises(TypeError, match=r"params\['lstm/linear'\]\['b'\] must be a tensor or array; got list"):
        convert.from_haiku({"lstm/linear": right | {"b": [1.0]}})


@pytest.mark.parametrize(
    ("w", "b"), [((9, 20), (19,)), ((5, 20), (20,)), ((9, 16), (20,)), ((180,), (20,)), ((9, 20), (1, 20)), ((), ())]
)
def test_wrong_ranks_and_sizes_are_named(w, b):
    """A matrix (5, 20) has no row left for x."""
    with pytest.raises(ValueError, match=r"\['lstm/linear'\] must have w \[D \+ H, 4H\] and b \[4H\]; got w \("):
        convert.from_haiku({"lstm/linear": {"w": np.ones(w), "b": np.ones(b)}})


def test_layers_that_do_not_fit():
    skipping = lambda x: unrolled(hk.deep_rnn_with_skip_connections([hk.LSTM(H), hk.LSTM(H)]), x)
    with pytest.raises(ValueError, match="layer 1 has input size 9, where 5 is expected"):
        convert.from_haiku(weights_of(skipping, x_of())[0])
    mixed = lambda x: unrolled(hk.DeepRNN([hk.LSTM(H), hk.LSTM(H + 1)]), x)
    with pytest.raises(ValueError, match="layer 1 has hidden size 6, where 5 is expected"):
        convert.from_haiku(weights_of(mixed, x_of())[0])


def test_two_directions_are_refused_and_a_single_one_is_written():
    params = our_params(Network("lstm", D, H, bidirectional=True))
    with pytest.raises(ValueError, match=r"must have one direction: Haiku has no bidirectional network.*'_reverse'"):
        convert.to_haiku(params)
    reverse = {n.removesuffix("_reverse"): a for n, a in params.items() if n.endswith("_reverse")}
    assert set(convert.to_haiku(reverse)) == {"lstm/linear"}
