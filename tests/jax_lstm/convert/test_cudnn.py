"""cuDNN's weight vector, compared with JAX's own function that unpacks it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

import jax_lstm
from jax_lstm import convert
from tests.support.arrays import assert_close_float32
from tests.support.fake_cudnn import NETWORKS, D, H, problem
from tests.support.requirements import need


@pytest.mark.parametrize("network", NETWORKS)
def test_the_weight_vector_unpacks_to_the_state_dict(network):
    params, _, _ = problem(**NETWORKS[network])
    layers, both = NETWORKS[network].get("num_layers", 1), NETWORKS[network].get("bidirectional", False)
    rows = [f"_l{layer}{suffix}" for layer in range(layers) for suffix in ("", "_reverse")[: 1 + both]]
    vector = jax.jit(convert.to_cudnn)(params)
    assert vector.shape == (rnn.get_num_params_in_lstm(D, H, layers, both),)
    unpacked = rnn.unpack_lstm_weights(vector, D, H, layers, both)
    for name, arrays in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), unpacked, strict=True):
        for n, row in enumerate(rows):
            expected = params.get(name + row, np.zeros(4 * H))
            np.testing.assert_array_equal(arrays[n], expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_jax_reads_the_vector_as_the_same_network(network):
    """Run the whole network, with lengths, by JAX's own reference of cuDNN's call. Its lengths are at least 1."""
    params, x, state = problem(**NETWORKS[network])
    sizes = (D, H, NETWORKS[network].get("num_layers", 1), NETWORKS[network].get("bidirectional", False))
    lengths = jnp.array([3, 6, 2, 1], jnp.int32)

    @jax.jit
    def theirs(params):
        weights = rnn.unpack_lstm_weights(convert.to_cudnn(params), *sizes)
        return rnn.lstm_ref(x, state.h, state.c, *weights, lengths, *sizes[:3], 0.0, sizes[3])

    y, last = jax.jit(lambda p: jax_lstm.lstm(p, x, state, lengths=lengths))(params)
    assert_close_float32(theirs(params), (y, last.h, last.c))


def test_gradients_flow_through_the_packing_to_both_biases():
    params, _, _ = problem(num_layers=2, bidirectional=True)
    cotangent = jax.random.normal(jax.random.key(0), convert.to_cudnn(params).shape)
    gradient = jax.grad(lambda p: jnp.vdot(convert.to_cudnn(p), cotangent.astype(jnp.float32)))(params)
    np.testing.assert_array_equal(convert.to_cudnn(gradient), cotangent.astype(jnp.float32))


def test_packing_refuses_what_the_call_has_no_place_for():
    with pytest.raises(ValueError, match=r"no projection: .*weight_hr_l0 \(2, 5\).*backend='scan'"):
        convert.to_cudnn(jax_lstm.init_lstm(jax.random.key(0), D, H, proj_size=2))
    with pytest.raises(ValueError, match="params are an RNN's"):
        convert.to_cudnn(jax_lstm.init_rnn(jax.random.key(0), D, H))


@pytest.mark.parametrize("network", NETWORKS)
def test_the_vector_unpacks_as_jax_reads_it(network):
    layers, both = NETWORKS[network].get("num_layers", 1), NETWORKS[network].get("bidirectional", False)
    vector = rnn.init_lstm_weight(jax.random.key(0), D, H, layers, both)
    params = convert.from_cudnn(vector, D, H, layers, both)
    unpacked = rnn.unpack_lstm_weights(vector, D, H, layers, both)
    for name, arrays in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), unpacked, strict=True):
        for n, row in enumerate(
            f"_l{layer}{suffix}" for layer in range(layers) for suffix in ("", "_reverse")[: 1 + both]
        ):
            np.testing.assert_array_equal(params.pop(name + row), arrays[n])
    assert not params


def test_what_is_no_such_vector():
    length = rnn.get_num_params_in_lstm(D, H, 1, False)
    read = lambda weights, **options: convert.from_cudnn(weights, D, H, **options)
    told = f"weights must be cuDNN's weights, a vector of {length} numbers for these sizes; got "
    for wrong, came in (
        (np.ones(length - 1), rf"shape \({length - 1},\)"),
        (np.ones((1, length)), rf"shape \(1, {length}\)"),
        (np.ones(()), r"shape \(\)"),
        (None, "NoneType"),
        ([1.0] * length, r"0 float, 1 float, .*\(200 in all\)"),
    ):
        with pytest.raises(ValueError, match=told + came):
            read(wrong)
    with pytest.raises(ValueError, match=f"a vector of {2 * length} numbers"):
        read(np.ones(length), bidirectional=True)
    with pytest.raises(TypeError, match="weights must be floating point; got dtype int"):
        read(np.ones(length, int))
    for sizes in ((0, H), (D, 0), (D, 2.0), (D, H, 0)):
        with pytest.raises((TypeError, ValueError), match=r"(input_size|hidden_size|num_layers) must be"):
            convert.from_cudnn(np.ones(length), *sizes)


def test_a_tensor_of_torch_is_read_and_copied():
    torch = need("torch")
    vector = torch.arange(rnn.get_num_params_in_lstm(D, H, 1, False), dtype=torch.float32)
    params = convert.from_cudnn(vector, D, H)
    expected = vector.numpy().copy()
    vector.zero_()
    np.testing.assert_array_equal(convert.to_cudnn(params), expected)


def test_no_biases_are_written_as_zeros_and_read_as_such():
    params, _, _ = problem(bias=False)
    back = convert.from_cudnn(convert.to_cudnn(params), D, H)
    assert set(back) - set(params) == {"bias_ih_l0", "bias_hh_l0"}
    assert not any(np.any(back[name]) for name in ("bias_ih_l0", "bias_hh_l0"))
