"""TensorFlow 1's LSTM cells, read by the names of a checkpoint, against their equations in NumPy.

TensorFlow is not installed. The equations are those of BasicLSTMCell.call in tensorflow/python/ops/rnn_cell_impl.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState, convert

B, T, D, H = 2, 6, 3, 5
ALONE = ["rnn/basic_lstm_cell"]
MULTI = [f"rnn/multi_rnn_cell/cell_{n}/lstm_cell" for n in range(12)]


def variables(cells, dtype="float64"):
    rng = np.random.default_rng(len(cells))
    found = {}
    for n, cell in enumerate(cells):
        found[f"{cell}/kernel"] = rng.normal(size=((H if n else D) + H, 4 * H), scale=0.5).astype(dtype)
        found[f"{cell}/bias"] = rng.normal(size=4 * H).astype(dtype)
    return found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def of_tf1(found, cells, x, h, c, forget_bias):
    """Run dynamic_rnn over a MultiRNNCell. h and c are ``[layers, B, H]``."""
    last_h, last_c = [], []
    for cell, layer_h, layer_c in zip(cells, h, c, strict=True):
        outputs = []
        for x_t in x.transpose(1, 0, 2):
            joint = np.concatenate([x_t, layer_h], axis=1) @ found[f"{cell}/kernel"] + found[f"{cell}/bias"]
            i, j, f, o = np.split(joint, 4, axis=1)
            layer_c = layer_c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j)
            layer_h = np.tanh(layer_c) * sigmoid(o)
            outputs.append(layer_h)
        x = np.stack(outputs, axis=1)
        last_h.append(layer_h)
        last_c.append(layer_c)
    return x, np.stack(last_h), np.stack(last_c)


@pytest.mark.parametrize("cells", [ALONE, MULTI[:1], MULTI[:3]], ids=["alone", "a stack of one", "a stack"])
@pytest.mark.parametrize("forget_bias", [1.0, 0.0, 0.25])
def test_the_outputs_are_tensorflow_s(cells, forget_bias):
    found = variables(cells)
    rng = np.random.default_rng(1)
    x, h, c = (rng.normal(size=shape) for shape in ((B, T, D), (len(cells), B, H), (len(cells), B, H)))
    wanted = of_tf1(found, cells, x, h, c, forget_bias)
    params = convert.from_tf1(found, forget_bias=forget_bias)
    y, state = jax.jit(jax_lstm.lstm)(params, x, LSTMState(h=h, c=c))
    for got, expected in zip((y, state.h, state.c), wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_forget_bias_is_one_unless_told_otherwise():
    found = variables(ALONE)
    default, one = convert.from_tf1(found), convert.from_tf1(found, forget_bias=1.0)
    np.testing.assert_array_equal(default["bias_ih_l0"], one["bias_ih_l0"])


def test_every_bit_but_the_forget_gate_s_sum():
    """With forget_bias=0, the bits of the forget gate are kept too, including the sign of zeros."""
    found = variables(ALONE, "float32")
    found["rnn/basic_lstm_cell/bias"][2 * H :] *= 0
    found["rnn/basic_lstm_cell/bias"][2 * H] = -0.0
    i, j, f, o = np.split(found["rnn/basic_lstm_cell/kernel"], 4, axis=1)
    b_i, b_j, b_f, b_o = np.split(found["rnn/basic_lstm_cell/bias"], 4)
    for forget_bias, forget in ((0.0, b_f), (1.0, b_f + np.float32(1))):
        params = convert.from_tf1(found, forget_bias=forget_bias, strict=True)
        joint = np.concatenate([i, f, j, o], axis=1)
        np.testing.assert_array_equal(params["weight_ih_l0"], joint[:D].T)
        np.testing.assert_array_equal(params["weight_hh_l0"], joint[D:].T)
        assert params["bias_ih_l0"].tobytes() == np.concatenate([b_i, forget, b_j, b_o]).tobytes()
        assert not np.any(params["bias_hh_l0"])
        assert {a.dtype for a in params.values()} == {jnp.dtype("float32")}


def test_strict_refuses_a_sum_that_rounds():
    found = variables(ALONE, "float32")
    with pytest.raises(ValueError, match=r"strict=True: TensorFlow 1 adds 0\.3 to the forget bias .* moved by 0\.3"):
        convert.from_tf1(found, forget_bias=0.3, strict=True)
    convert.from_tf1(found, forget_bias=0.0, strict=True)


def test_it_is_haiku_s_layout():
    found = variables(ALONE)
    module = {"w": found["rnn/basic_lstm_cell/kernel"], "b": found["rnn/basic_lstm_cell/bias"]}
    theirs, ours = convert.from_haiku({"lstm/linear": module}), convert.from_tf1(found)
    for name, a in theirs.items():
        np.testing.assert_array_equal(ours[name], a)


def test_layers_are_in_the_order_of_numbers_and_not_of_letters():
    found = variables(MULTI)
    for order in (sorted(found), list(reversed(found))):
        params = convert.from_tf1({name: found[name] for name in order})
        for n, cell in enumerate(MULTI):
            np.testing.assert_array_equal(params[f"weight_hh_l{n}"][0], found[f"{cell}/kernel"][-H:, 0])


def test_a_prefix_takes_one_direction_of_two():
    ways = [f"bidirectional_rnn/{way}/lstm_cell" for way in ("fw", "bw")]
    found = variables(ways[:1]) | {n.replace("fw", "bw"): -a for n, a in variables(ways[:1]).items()}
    with pytest.raises(ValueError, match=r"several networks: bidirectional_rnn/bw/\.\.\., bidirectional_rnn/fw/\.\.\."):
        convert.from_tf1(found)
    fw, bw = (convert.from_tf1(found, prefix=f"bidirectional_rnn/{way}/") for way in ("fw", "bw"))
    np.testing.assert_array_equal(fw["weight_ih_l0"], -bw["weight_ih_l0"])
    both = convert.stack([convert.cell(fw), convert.cell(bw)], bidirectional=True)
    np.testing.assert_array_equal(both["weight_ih_l0_reverse"], bw["weight_ih_l0"])


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("w_f_diag", "'rnn/basic_lstm_cell/w_f_diag', peepholes of LSTMCell, which from_tf1 does not read"),
        ("w_i_diag", "w_i_diag', peepholes"),
        ("w_o_diag", "w_o_diag', peepholes"),
        ("projection/kernel", "projection/kernel', a projection of LSTMCell"),
        ("kernel/Adam", r"and no others \(prefix='' chooses\); got .*rnn/basic_lstm_cell/kernel/Adam \(5,\)"),
        ("gamma", r"and no others .*rnn/basic_lstm_cell/gamma"),
    ],
)
def test_what_a_cell_has_besides_is_refused_by_name(name, match):
    found = variables(ALONE) | {f"rnn/basic_lstm_cell/{name}": np.ones(H)}
    with pytest.raises(ValueError, match=match):
        convert.from_tf1(found)


def test_what_is_no_lstm_of_tensorflow_s():
    found = variables(ALONE)
    gru = {"rnn/gru_cell/gates/kernel": np.ones((8, 10)), "rnn/gru_cell/gates/bias": np.ones(10)}
    kernel, bias = "rnn/basic_lstm_cell/kernel", "rnn/basic_lstm_cell/bias"
    for wrong, match in (
        (found | {"softmax/kernel": np.ones((5, 2))}, "must be variables of TensorFlow 1's LSTM cells.*softmax/kernel"),
        (gru, "It looks like a GRU, not an LSTM"),
        ({bias: found[bias]}, f"variables lack '{kernel}'"),
        ({kernel: found[kernel]}, f"variables lack '{bias}'"),
        (
            {kernel: found[kernel][:5], bias: found[bias]},
            r"must have kernel \[D \+ H, 4H\] and bias \[4H\]; got kernel",
        ),
        ({kernel: found[kernel][:, :15], bias: found[bias][:15]}, r"got kernel \(8, 15\) and bias \(15,\)"),
        (variables(MULTI[:2]) | variables(ALONE), "They are several networks"),
        (dict(list(variables(MULTI[:3]).items())[2:]), "must be variables of TensorFlow 1's"),
        ({"lstm/linear": {"w": found[kernel], "b": found[bias]}}, r"Haiku's: read it with convert\.from_haiku"),
        ({}, "got nothing"),
        (None, "variables must be .*got NoneType"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.from_tf1(wrong)
    with pytest.raises(TypeError, match=r"variables\['rnn/basic_lstm_cell/bias'\] must be a tensor or array; got list"):
        convert.from_tf1(found | {bias: [1.0]})


def test_dtype():
    params = convert.from_tf1(variables(ALONE), dtype=jnp.float32)
    assert {a.dtype for a in params.values()} == {jnp.dtype("float32")}
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"variables\['rnn/basic_lstm_cell/kernel'\] is to be"):
        convert.from_tf1(variables(ALONE))


def test_others_say_whose_it_is():
    with pytest.raises(ValueError, match=r"It looks like TensorFlow 1's: read it with convert\.from_tf1\."):
        convert.from_haiku(variables(ALONE))
