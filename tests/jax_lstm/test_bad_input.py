# ruff: noqa: E501
"""Wrong input raises an error before any computation. It names the argument, what was expected and what was given."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState, linen
from jax_lstm._src.network import Network
from tests.support.requirements import need

P, PROJECTED, RNN = (
    {name: np.ones(shape, np.float32) for name, shape in network.shapes().items()}
    for network in (
        Network("lstm", 3, 5, 2, bidirectional=True),
        Network("lstm", 3, 5, 2, proj_size=2),
        Network("rnn", 3, 5),
    )
)
X = np.ones((4, 6, 3), np.float32)
H = np.zeros((4, 4, 5))


def without(params, name):
    return {n: a for n, a in params.items() if n != name}


CASES = {
    "rank of x": (P, X[0, 0], {}, ValueError, r"x must be \[\*batch, T, D\], at least \[T, D\]; got shape \(3,\)"),
    "features of x": (P, X[..., :2], {}, ValueError, r"x must be .* with D = 3 .*; got shape \(4, 6, 2\), D = 2"),
    "no steps": (P, X[:, :0], {}, ValueError, r"at least one step; got shape \(4, 0, 3\), T = 0"),
    "no steps, time-major": (P, X[:0], {"time_major": True}, ValueError, "T = 0"),
    "integer x": (P, X.astype(int), {}, TypeError, "x must be floating point; got dtype int64"),
    "x is a list": (P, [[1.0]], {}, TypeError, r"x must be a floating-point array .*; got list"),
    "dropout as text": (P, X, {"dropout": "0.5"}, TypeError, "dropout must be a number from 0 to 1; got '0.5'"),
    "a wide projection": ({"weight_ih_l0": X[0, :4], "weight_hh_l0": jnp.ones((4, 3)), "weight_hr_l0": jnp.ones((3, 1))}, X, {}, ValueError, "with P < H"),
    "lengths as the state": (P, X, {"state": np.array([1, 2, 3, 4])}, TypeError, r"state must be a jax_lstm.LSTMState or None; got integers. Give lengths by name: lengths=..."),
    "state as a pair": (P, X, {"state": (H, H)}, TypeError, r"state must be a jax_lstm.LSTMState or None; got tuple"),
    "state.h": (P, X, {"state": LSTMState(H[:1], H)}, ValueError, r"state.h must be .* = \(4, 4, 5\); got .*\(1, 4, 5\)"),
    "state.c": (P, X, {"state": LSTMState(H, H[:, :2])}, ValueError, r"state.c must be .*; got shape \(4, 2, 5\)"),
    "mask of a wrong shape": (P, X, {"mask": np.ones((6, 4), bool)}, ValueError, r"mask must be \[\*batch, T\] = \(4, 6\), one flag per step"),
    "mask of floats": (P, X, {"mask": np.ones((4, 6))}, TypeError, r"mask must be bool; got dtype float64. Write mask.astype\(bool\)"),
    "mask, time-major": (P, X.swapaxes(0, 1), {"mask": np.ones((4, 6), bool), "time_major": True}, ValueError, r"mask must be \[T, \*batch\] = \(6, 4\)"),
    "reset_state without reset": (P, X, {"reset_state": LSTMState(H, H)}, ValueError, r"reset_state .* needs reset, bool \[\*batch, T\]; got reset=None"),
    "reset_state as a pair": (P, X, {"reset": np.ones((4, 6), bool), "reset_state": (H, H)}, TypeError, "reset_state must be a jax_lstm.LSTMState or None; got tuple"),
    "shape of reset_state": (P, X, {"reset": np.ones((4, 6), bool), "reset_state": LSTMState(H[:1], H)}, ValueError, r"reset_state.h must be .* = \(4, 4, 5\); got shape \(1, 4, 5\)"),
    "state of ints": (P, X, {"state": LSTMState(H.astype(int), H)}, TypeError, "state.h must be floating point; got dtype int64"),
    "params is a list": ([1], X, {}, TypeError, "params must be a flat dict of arrays by torch's names; got list"),
    "params of Flax": ({"params": dict(P)}, X, {}, TypeError, r"params\['params'\] must be an array; got dict"),
    "params of ints": ({n: a.astype(int) for n, a in P.items()}, X, {}, TypeError, "must be floating point; got dtype"),
    "missing first": (without(P, "weight_hh_l0"), X, {}, ValueError, "params lacks 'weight_hh_l0'"),
    "missing": (without(P, "bias_hh_l1_reverse"), X, {}, ValueError, r"params lacks 'bias_hh_l1_reverse' \(shape \(20,\)\)"),
    "missing layer": ({n: a for n, a in P.items() if "_l0" in n or "l1_rev" in n}, X, {}, ValueError, "lacks 'weight_ih_l1'"),
    "unknown": (P | {"weight_xx_l0": X}, X, {}, ValueError, "params has an unknown entry 'weight_xx_l0'"),
    "with a prefix": ({f"a.lstm.{n}": a for n, a in P.items()}, X, {}, ValueError, r"from_torch\(state_dict, prefix='a.lstm.'\)"),
    "misshapen": (P | {"weight_ih_l1": X[0]}, X, {}, ValueError, r"\['weight_ih_l1'\] must have shape \(20, 10\); got \(6, 3\)"),
    "transposed": ({n: a.T for n, a in P.items()}, X, {}, ValueError, r"weight_hh_l0'\] must be \[4H, H\].*transposed"),
    "mixed projections": (without(PROJECTED, "weight_hr_l1"), X, {}, ValueError, "params lacks 'weight_hr_l1'"),
    "projection missing": (without(without(PROJECTED, "weight_hr_l1"), "weight_hr_l0"), X, {}, ValueError, "is weight_hr missing"),
    "an RNN's": (RNN, X, {}, ValueError, r"params are an RNN's .*use jax_lstm.rnn"),
    "shape of lengths": (P, X, {"lengths": [6]}, ValueError, r"lengths must have x's batch shape \(4,\); got shape \(1,\)"),
    "float lengths": (P, X, {"lengths": np.ones(4)}, TypeError, "lengths must be integers; got dtype float64"),
    "negative length": (P, X, {"lengths": [1, 2, -1, 0]}, ValueError, "lengths must lie between 0 and T = 6; got -1"),
    "length over T": (P, X, {"lengths": np.array([1, 7, 2, 0])}, ValueError, "lengths must lie between 0 and T = 6; got 7"),
    "dropout without key": (P, X, {"dropout": 0.5}, ValueError, r"dropout=0.5 needs dropout_key=jax.random.key"),
    "dropout": (P, X, {"dropout": 1.5}, ValueError, "dropout must be a probability from 0 to 1; got 1.5"),
    "shape of reset": (P, X, {"reset": np.ones((6, 4), bool)}, ValueError, r"reset must be \[\*batch, T\] = \(4, 6\)"),
    "reset of ints": (P, X, {"reset": np.ones((4, 6), int)}, TypeError, "reset must be bool; got dtype int64"),
    "backend": (P, X, {"backend": "cuda"}, ValueError, "backend must be one of 'auto', 'scan', 'native', 'cudnn', 'pallas'; got 'cuda'"),
    "chunks of 0": (P, X, {"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1; got 0"),
    "chunks of 2.0": (P, X, {"truncate_every": 2.0}, TypeError, "truncate_every must be an int or None; got 2.0"),
    "unroll": (P, X, {"unroll": 0}, ValueError, "unroll must be at least 1; got 0"),
    "integer carry": (P, X, {"carry_dtype": jnp.int32}, TypeError, "carry_dtype must be a floating-point dtype"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_lstm_refuses_wrong_input(name):
    params, x, options, error, message = CASES[name]
    options = dict(options)
    state = options.pop("state", None)
    for function in (jax_lstm.lstm, jax_lstm.lstm_states):
        with pytest.raises(error, match=message):
            function(params, x, state, **options)


@pytest.mark.parametrize("argument", ["x", "params", "lengths"])
def test_lstm_refuses_tensors_of_torch(argument):
    torch = need("torch")
    tensors = {"x": torch.ones(4, 6, 3), "params": torch.nn.LSTM(3, 5).state_dict(), "lengths": torch.ones(4)}[argument]
    arguments = {"params": P, "x": X, argument: tensors}
    message = "a torch tensor came" if argument == "lengths" else r"a torch tensor came .*convert\.from_torch"
    for function in (jax_lstm.lstm, jax_lstm.lstm_states):
        with pytest.raises(TypeError, match=message):
            function(**arguments)


@pytest.mark.parametrize("name", ["features of x", "integer x", "shape of lengths", "dropout without key", "backend"])
def test_lstm_refuses_wrong_input_under_jit(name):
    params, x, options, error, message = CASES[name]
    with pytest.raises(error, match=message):
        jax.jit(lambda p, x: jax_lstm.lstm(p, x, **options))(params, x)


def test_rnn_refuses_wrong_input():
    with pytest.raises(ValueError, match=r"params are an LSTM's .*use jax_lstm.lstm"):
        jax_lstm.rnn(P, X)
    with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu'; got 'gelu'"):
        jax_lstm.rnn(RNN, X, nonlinearity="gelu")
    with pytest.raises(ValueError, match=r"^h must be .* = \(1, 4, 5\); got shape \(2, 4, 5\)"):
        jax_lstm.rnn(RNN, X, jnp.zeros((2, 4, 5)))
    with pytest.raises(TypeError, match="unexpected keyword argument 'length'"):
        jax_lstm.rnn(RNN, X, length=3)
    state = LSTMState(jnp.zeros((1, 4, 5)), jnp.zeros((1, 4, 5)))
    with pytest.raises(TypeError, match=r"h of an RNN must be an array, .*; got an LSTMState"):
        jax_lstm.rnn(RNN, X, state)
    with pytest.raises(TypeError, match=r"reset_state of an RNN must be an array, .*; got an LSTMState"):
        jax_lstm.rnn(RNN, X, reset=np.ones((4, 6), bool), reset_state=state)


def test_cells_refuse_wrong_input():
    cell = {n.removesuffix("_l0"): a for n, a in jax_lstm.init_lstm(jax.random.key(0), 3, 5).items()}
    state = LSTMState(H[0], H[0])
    for params, x, state_or_pair, error, message in (
        (cell, X[:, 0], (H[0], H[0]), TypeError, "state must be a jax_lstm.LSTMState"),
        (cell, X[:, 0, :2], state, ValueError, r"x must be \[\*batch, D\] with D = 3; got shape \(4, 2\)"),
        (cell, X[:, 0].astype(int), state, TypeError, "x must be floating point"),
        (cell, X[:, 0], LSTMState(H[0], None), TypeError, "state.c must be a floating-point array .*got NoneType"),
        (
            cell,
            X[:, 0],
            LSTMState(H[0].astype(int), H[0]),
            TypeError,
            "state.h must be floating point; got dtype int64",
        ),
        (cell, X[:2, 0], state, ValueError, r"state.h must be .* = \(2, 5\); got shape \(4, 5\)"),
        (without(cell, "weight_ih"), X[:, 0], state, ValueError, "params lacks 'weight_ih'"),
        (without(cell, "bias_hh"), X[:, 0], state, ValueError, "params lacks 'bias_hh'"),
        (cell | {"bias": H}, X[:, 0], state, ValueError, "unexpected entry 'bias'"),
    ):
        with pytest.raises(error, match=message):
            jax_lstm.lstm_cell(params, state_or_pair, x)
    with pytest.raises(ValueError, match="are an LSTM's"):
        jax_lstm.rnn_cell(cell, H[0], X[:, 0])
    rnn = {n.removesuffix("_l0"): a for n, a in RNN.items()}
    with pytest.raises(TypeError, match=r"h must be a floating-point array .*got list"):
        jax_lstm.rnn_cell(rnn, [0.0], X[:, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hidden_size": 0}, ValueError, "hidden_size must be an int of at least 1; got 0"),
        ({"num_layers": 1.5}, ValueError, "num_layers must be an int of at least 1; got 1.5"),
        ({"proj_size": 5}, ValueError, "proj_size must be 0 .none. or smaller than hidden_size = 5; got 5"),
        ({"style": "tf"}, ValueError, "style must be one of 'torch', 'flax', 'keras', 'haiku'; got 'tf'"),
        ({"forget_bias": "chrono"}, ValueError, "forget_bias must be a number, 'chrono:N'"),
        ({"forget_bias": [1]}, TypeError, "forget_bias must be a number"),
        ({"proj_size": True}, ValueError, "proj_size must be 0"),
        ({"forget_bias": 1.0, "bias": False}, ValueError, "forget_bias must be None"),
    ],
)
def test_init_refuses_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        jax_lstm.init_lstm(**{"key": jax.random.key(0), "input_size": 3, "hidden_size": 5} | options)
    linen_options = {"hidden_size": 5} | options
    with pytest.raises(error, match=message):
        linen.LSTM(**linen_options).init(jax.random.key(0), X)
