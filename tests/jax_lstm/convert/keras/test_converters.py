"""Keras's LSTM is read and written with the same function and the same bits. Other layers are refused by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jax_lstm
from jax_lstm import convert
from tests.support.keras_layers import EXACT, QUIET, built, keras, ours, run

pytestmark = QUIET
L = keras.layers
B, T, D, H = 2, 6, 3, 5
FULL = {"return_sequences": True, "return_state": True}


def both(layer):
    """Return a Bidirectional in the layer's dtype. Its default is float32, to which it would round the output."""
    return L.Bidirectional(layer, dtype=layer.compute_dtype)


def stacked(*cells):
    return L.StackedRNNCells(cells, dtype="float64")


STACKS = {  # the layers, and the size of the input of each
    "LSTM": lambda o: [(L.LSTM(H, **FULL, **o), D)],
    "no bias": lambda o: [(L.LSTM(H, use_bias=False, **FULL, **o), D)],
    "two layers": lambda o: [(L.LSTM(H, **FULL, **o), D), (L.LSTM(H, **FULL, **o), H)],
    "Bidirectional": lambda o: [(both(L.LSTM(H, **FULL, **o)), D)],
    "two Bidirectional": lambda o: [(both(L.LSTM(H, **FULL, **o)), D), (both(L.LSTM(H, **FULL, **o)), 2 * H)],
    "no bias, Bidirectional": lambda o: [(both(L.LSTM(H, use_bias=False, **FULL, **o)), D)],
    "RNN": lambda o: [(L.RNN(L.LSTMCell(H, **o), **FULL, dtype="float64"), D)],
    "RNN of two cells": lambda o: [
        (L.RNN(stacked(L.LSTMCell(H, **o), L.LSTMCell(H, **o)), **FULL, dtype="float64"), D)
    ],
    "Bidirectional RNN": lambda o: [(both(L.RNN(L.LSTMCell(H, **o), **FULL, dtype="float64")), D)],
}


@pytest.fixture(params=STACKS)
def stack(request):
    def make(**options):
        layers = STACKS[request.param]({"dtype": "float64", **options})
        return [built(layer, None, None, size, seed=n) for n, (layer, size) in enumerate(layers)]

    return make


def problem(params, seed=9):
    rng = np.random.default_rng(seed)
    rows = sum(name.startswith("weight_hh") for name in params)
    return rng.normal(size=(B, T, D)), rng.normal(size=(rows, B, H)), rng.normal(size=(rows, B, H))


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


def test_the_layout_is_keras_s_to_1e_12(stack):
    """Keras computes in float64 if its activations do."""
    layers = stack(**EXACT)
    params = convert.from_keras([layer.get_weights() for layer in layers])
    x, h, c = problem(params)
    for found, wanted in zip(ours(params, x, h, c), run(layers, x, h, c), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_layers_as_they_are_to_their_own_precision(stack):
    """Keras 3.15 rounds tanh to float32 also in float64 layers. Six steps of that differ by less than 2e-6."""
    layers = stack()
    params = convert.from_keras(layers[0] if len(layers) == 1 else layers)
    same(params, convert.from_keras([array for layer in layers for array in layer.get_weights()]))
    x, h, c = problem(params)
    for found, wanted in zip(ours(params, x, h, c), run(layers, x, h, c), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


def test_written_weights_run_in_keras(stack):
    """The converter adds two different biases."""
    layers = stack(**EXACT)
    rng = np.random.default_rng(3)
    shapes = convert.from_keras([layer.get_weights() for layer in layers])
    params = {name: rng.normal(size=a.shape, scale=0.5) for name, a in shapes.items()}
    written = convert.to_keras(params)
    for layer in layers:
        count = len(layer.get_weights())
        layer.set_weights(written[:count])
        written = written[count:]
    assert not written
    x, h, c = problem(params)
    for found, wanted in zip(ours(params, x, h, c), run(layers, x, h, c), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_cell():
    cell = built(L.LSTMCell(H, dtype="float64", **EXACT), None, D)
    params = convert.from_keras(dict(zip(("kernel", "recurrent_kernel", "bias"), cell.get_weights(), strict=True)))
    x, h, c = (a[0] for a in problem(params))
    x = x[:B]
    _, (h_next, c_next) = jax.jit(cell)(x, [h, c])
    _, found_h, found_c = ours(params, x[:, None], h[None], c[None])
    np.testing.assert_allclose(found_h[0], h_next, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found_c[0], c_next, rtol=1e-12, atol=1e-12)
    plain = built(L.LSTMCell(H, dtype="float64"), None, D)
    same(convert.from_keras(plain), convert.from_keras(plain.get_weights()))
    same(convert.from_keras(plain), convert.from_keras([plain]))
    alone = {name.removesuffix("_l0"): array for name, array in params.items()}
    same(convert.from_keras(convert.to_keras(alone)), params)


networks = st.fixed_dictionaries(
    {
        "input_size": st.integers(1, 6),
        "hidden_size": st.integers(1, 4),
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "bias": st.booleans(),
        "dtype": st.sampled_from(["float64", "float32", "float16", "bfloat16"]),
    }
)


@settings(deadline=None, max_examples=60)
@given(networks, st.integers(0, 2**32 - 1), st.booleans())
def test_round_trips_bit_for_bit(network, seed, as_numpy):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: jax_lstm.init_lstm(jax.random.key(0), **network))
    params = {name: jnp.asarray(rng.normal(size=a.shape), a.dtype) for name, a in shapes.items()}
    params |= {name: jnp.zeros_like(a) for name, a in params.items() if name.startswith("bias_hh")}
    if as_numpy:
        params = {name: np.asarray(a) for name, a in params.items()}
    written = convert.to_keras(params, strict=True)
    assert all(isinstance(a, np.ndarray) == as_numpy for a in written)
    back = convert.from_keras(written, bidirectional=network["bidirectional"])
    assert set(back) == set(params)
    for name, array in params.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    for a, b in zip(convert.to_keras(back), written, strict=True):
        np.testing.assert_array_equal(a, b)
    two_cells = network["num_layers"] * (1 + network["bidirectional"]) == 2
    if two_cells and network["input_size"] == network["hidden_size"]:
        with pytest.raises(ValueError, match="pass bidirectional="):
            convert.from_keras(written)
    else:  # shapes decide it
        same(convert.from_keras(written), back)


def test_lists_in_lists_and_variables():
    layers = [built(L.LSTM(H), None, None, size, seed=size) for size in (D, H)]
    flat = [a for layer in layers for a in layer.get_weights()]
    names = ("kernel", "recurrent_kernel", "bias")
    mappings = [dict(zip(names, layer.get_weights(), strict=True)) for layer in layers]
    tuples = tuple(layer.get_weights() for layer in layers)
    for source in (tuples, mappings, [layer.weights for layer in layers], layers, keras.Sequential(layers)):
        same(convert.from_keras(source), convert.from_keras(flat))
    same(convert.from_keras(mappings[0] | {"bias": None}), convert.from_keras(flat[:2]))


def test_two_biases_and_strict():
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=a.shape) for name, a in jax_lstm.init_lstm(jax.random.key(0), D, H).items()}
    np.testing.assert_array_equal(convert.to_keras(params)[2], params["bias_ih_l0"] + params["bias_hh_l0"])
    with pytest.raises(ValueError, match="strict=True: Keras keeps one bias"):
        convert.to_keras(params, strict=True)
    projected = jax_lstm.init_lstm(jax.random.key(0), D, H, proj_size=2)
    with pytest.raises(ValueError, match=r"Keras has no place for weight_hr \(2, 5\)"):
        convert.to_keras(projected)


def test_both_ways_trace():
    weights = built(both(L.LSTM(H)), None, None, D).get_weights()
    there_and_back = jax.jit(lambda weights: convert.to_keras(convert.from_keras(weights)))
    for a, b in zip(there_and_back(weights), weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_dtype_and_float64_without_x64():
    weights = built(L.LSTM(H, dtype="float64"), None, None, D).get_weights()
    assert convert.from_keras(weights, dtype=jnp.float32)["weight_ih_l0"].dtype == jnp.float32
    with jax.enable_x64(False), pytest.raises(ValueError, match="source, cell 0, kernel is to be float64"):
        convert.from_keras(weights)


def lstm(**options):
    return built(L.LSTM(H, name="a", **options), None, None, D)


def reversed_ways():
    forward, backward = L.LSTM(H, go_backwards=True), L.LSTM(H)
    return built(L.Bidirectional(forward, backward_layer=backward, name="a"), None, None, D)


class Own(L.LSTM):
    pass


REFUSED = {
    "activation": (lambda: lstm(activation="relu"), "the layer 'a' has activation='relu', where 'tanh' is supported"),
    "no activation": (lambda: lstm(activation=None), "activation='linear'"),
    "a lambda": (lambda: lstm(activation=lambda x: x), "activation=a function that Keras has no name for"),
    "recurrent": (
        lambda: lstm(recurrent_activation="hard_sigmoid"),
        "recurrent_activation='hard_sigmoid', .*'sigmoid'",
    ),
    "go_backwards": (lambda: lstm(go_backwards=True), "'a' has go_backwards=True, where False is supported"),
    "both reversed": (reversed_ways, "'a', forward_layer, has go_backwards=True, where False"),
    "merge_mode": (
        lambda: built(L.Bidirectional(L.LSTM(H), merge_mode="sum", name="a"), None, None, D),
        "'a' has merge_mode='sum', where 'concat' is supported",
    ),
    "inner activation": (
        lambda: built(both(L.LSTM(H, activation="elu")), None, None, D),
        "forward_layer, has activation='elu'",
    ),
    "GRU": (lambda: built(L.GRU(H, name="a"), None, None, D), "the layer 'a' is a GRU; supported: LSTM"),
    "SimpleRNN": (lambda: built(L.SimpleRNN(H, name="a"), None, None, D), "the layer 'a' is a SimpleRNN;"),
    "RNN of GRUs": (lambda: built(L.RNN(L.GRUCell(H), name="a"), None, None, D), "is a RNN of GRUCell;"),
    "ConvLSTM": (lambda: L.ConvLSTM1D(H, 3, name="a"), "is a ConvLSTM1D;"),
    "Bidirectional GRU": (lambda: both(L.GRU(H)), "is a Bidirectional of GRU;"),
    "stacks each way": (
        lambda: built(both(L.RNN([L.LSTMCell(H), L.LSTMCell(H)])), None, None, D),
        "a stack of cells in each direction",
    ),
    "a subclass": (lambda: Own(H), r"is a tests\.jax_lstm\.convert\.keras\.test_converters\.Own; supported"),
    "a Dense in a list": (lambda: [lstm(), L.Dense(2, name="d")], "the layer 'd' is a Dense;"),
    "not built": (lambda: L.LSTM(H), "the layer 'lstm.*' has no weights yet: build the layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_we_do_not_compute_is_refused_by_name(name):
    make, match = REFUSED[name]
    source = make()
    with pytest.raises(ValueError, match=match):
        convert.from_keras(source)


def test_what_does_not_matter_at_inference_is_taken():
    options = {"dropout": 0.3, "recurrent_dropout": 0.2, "unroll": True, "go_backwards": False, "return_state": True}
    same(convert.from_keras(lstm(**options)), convert.from_keras(lstm()))
    stateful = L.LSTM(H, stateful=True)
    stateful.build((B, T, D))
    assert set(convert.from_keras(stateful)) == set(convert.from_keras(lstm()))


def test_bad_lists():
    k, r, b = lstm().get_weights()
    gru = built(L.GRU(H), None, None, D).get_weights()
    for source, match in (
        ([k, r, b, k], r"source, cell 1 must be Keras's LSTM: .* got \(3, 20\)\."),
        ([k.T, r.T, b], r"got \(20, 3\), \(20, 5\), \(20,\)\."),
        ([r, k, b], r"got \(5, 20\), \(3, 20\)"),
        ([b, k, r], "must be Keras's LSTM"),
        ([k, r, b[:-1]], r"got \(3, 20\), \(5, 20\), \(19,\)"),
        (gru, r"got \(3, 15\), \(5, 15\).*look like a GRU's, which is no LSTM"),
        (built(L.SimpleRNN(H), None, None, D).get_weights(), "look like a SimpleRNN's"),
        ([k, r, b, k, r, b, k, r, b], "layer 1 has input size 3, where 5 is expected"),
        ({"kernel": k, "bias": b}, "source must be the weights of Keras's LSTM.*got kernel"),
        ({"kernel": k, "recurrent_kernel": r, "bias": b, "extra": b}, "source must be the weights of Keras's LSTM"),
        ({"weight_ih_l0": k.T}, r"looks like a torch.nn.LSTM state dict: read it with convert\.from_torch"),
        ([], "got nothing"),
        ([k, r, "bias"], "source must be the weights"),
        (7, "source must be the weights of Keras's LSTM.*got int"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.from_keras(source)
    with pytest.raises(ValueError, match=r"layers='lstm' chooses among the layers of a model or file"):
        convert.from_keras([k, r, b], layers="lstm")
    with pytest.raises(ValueError, match="chooses among the layers of a model, and source is a LSTM"):
        convert.from_keras(lstm(), layers=["a"])


def test_bidirectional_is_asked_for_where_shapes_do_not_say():
    square = built(both(L.LSTM(D)), None, None, D).get_weights()
    with pytest.raises(ValueError, match=r"two cells with D = H.*pass bidirectional=False or True"):
        convert.from_keras(square)
    assert "weight_hh_l0_reverse" in convert.from_keras(square, bidirectional=True)
    assert "weight_hh_l1" in convert.from_keras(square, bidirectional=False)
    with pytest.raises(ValueError, match="wants cells in pairs, forward and reverse; got 1 cell\\."):
        convert.from_keras(square[:3], bidirectional=True)
    with pytest.raises(ValueError, match=r"bidirectional=True, and source has 1 direction\(s\) in a layer"):
        convert.from_keras(lstm(), bidirectional=True)
