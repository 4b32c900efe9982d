"""cuDNN's weight vector against JAX's own reading of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

import jax_lstm
from jax_lstm import convert
from tests.fake_cudnn import NETWORKS, D, H, assert_close, problem


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
    """The whole network, lengths too, by JAX's own reference of cuDNN's call; its lengths are at least 1."""
    params, x, state = problem(**NETWORKS[network])
    sizes = (D, H, NETWORKS[network].get("num_layers", 1), NETWORKS[network].get("bidirectional", False))
    lengths = jnp.array([3, 6, 2, 1], jnp.int32)

    @jax.jit
    def theirs(params):
        weights = rnn.unpack_lstm_weights(convert.to_cudnn(params), *sizes)
        return rnn.lstm_ref(x, state.h, state.c, *weights, lengths, *sizes[:3], 0.0, sizes[3])

    y, last = jax.jit(lambda p: jax_lstm.lstm(p, x, state, lengths=lengths))(params)
    assert_close(theirs(params), (y, last.h, last.c))


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
