"""Each converter gets the weights of every other library. The error names the library and the function to use."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jax_lstm
from jax_lstm import convert
from jax_lstm._src.network import Network
from tests.support.conversion import our_params
from tests.support.requirements import need

PARAMS = our_params(Network("lstm", 4, 5))
TWO = our_params(Network("lstm", 4, 5, 2))
KERAS = convert.to_keras(PARAMS)
READERS = {
    "from_torch": convert.from_torch,
    "from_flax": convert.from_flax,
    "from_nnx": convert.from_nnx,
    "from_haiku": convert.from_haiku,
    "from_tf1": convert.from_tf1,
    "from_equinox": convert.from_equinox,
    "from_keras": convert.from_keras,
    "from_onnx": convert.from_onnx,
    "from_cudnn": lambda weights: convert.from_cudnn(weights, 4, 5),
}
# weights, their library, the function that reads them
TREES = {
    "torch": (PARAMS, "a torch.nn.LSTM state dict", "from_torch"),
    "torch, in a model": ({f"encoder.lstm.{n}": a for n, a in PARAMS.items()}, "a torch.nn.LSTM state", "from_torch"),
    "linen": (convert.to_flax(PARAMS), "flax.linen's", "from_flax"),
    "linen, variables": ({"params": convert.to_flax(TWO)}, "flax.linen's", "from_flax"),
    "nnx": (convert.to_nnx(TWO), "flax.nnx's", "from_nnx"),
    "nnx, LSTMCell": (convert.to_nnx(TWO, "LSTMCell"), "flax.nnx's", "from_nnx"),
    "nnx, a module": (nnx.LSTMCell(4, 5, rngs=nnx.Rngs(0)), "flax.nnx's", "from_nnx(nnx.state(module, nnx.Param))"),
    "haiku": (convert.to_haiku(TWO, "net/~/lstm"), "Haiku's", "from_haiku"),
    "TensorFlow 1": (
        {"rnn/basic_lstm_cell/kernel": np.ones((9, 20)), "rnn/basic_lstm_cell/bias": np.ones(20)},
        "TensorFlow 1's",
        "from_tf1",
    ),
    "equinox": (convert.to_equinox(PARAMS), "equinox's", "from_equinox"),
    "equinox, layers": (convert.to_equinox(TWO), "equinox's", "from_equinox"),
    "keras": (dict(zip(("kernel", "recurrent_kernel", "bias"), KERAS, strict=True)), "Keras's", "from_keras"),
    "keras, a list": (KERAS, "Keras's", "from_keras(layer.get_weights())"),
    "cudnn": (convert.to_cudnn(PARAMS), "cuDNN's", "from_cudnn"),
    "cudnn, of JAX": (jnp.asarray(convert.to_cudnn(PARAMS)), "cuDNN's", "from_cudnn"),
    "ONNX": ({"W": np.ones((1, 20, 4)), "R": np.ones((1, 20, 5)), "B": np.ones((1, 40))}, "ONNX's", "from_onnx"),
    "a GRU": ({"gru_cell": {"ir": {"kernel": np.ones((4, 5))}}}, "a GRU", ""),
    "a GRU of linen": ({"ir": {"kernel": np.ones((4, 5))}}, "a GRU of flax.linen", ""),
    "a GRU of nnx": ({"dense_i": {"kernel": np.ones((4, 15)), "bias": np.ones(15)}}, "a GRU or simple cell of", ""),
}
OF_TORCH = {
    "tensors": (lambda torch: torch.nn.LSTM(4, 5).state_dict(), "a torch.nn.LSTM state dict", "from_torch"),
    "a cell": (lambda torch: torch.nn.LSTMCell(4, 5).state_dict(), "a torch.nn.LSTMCell state dict", "from_torch"),
    "a module": (lambda torch: torch.nn.LSTM(4, 5), "torch's", "from_torch(module.state_dict())"),
}
# A torch state dict is flat and of any module: from_torch takes any flat mapping, and jax_lstm.lstm reads its names.
FLAT = ("TensorFlow 1", "equinox", "keras", "ONNX")


NO_MAPPINGS = [kind for kind, (tree, *_) in TREES.items() if not isinstance(tree, dict)]
NO_ARRAYS = [kind for kind, (tree, *_) in TREES.items() if not hasattr(tree, "shape")]
TOLD = {reader: NO_ARRAYS if reader == "from_cudnn" else list(TREES) for reader in READERS}
TOLD["from_torch"] = [kind for kind in TREES if kind not in (*FLAT, *NO_MAPPINGS)]
PAIRS = [
    (reader, kind) for reader, kinds in TOLD.items() for kind in kinds if TREES[kind][2].partition("(")[0] != reader
]


@pytest.mark.parametrize(("reader", "kind"), PAIRS)
def test_whose_weights_they_are_is_said(reader, kind):
    assert_told(reader, *TREES[kind])


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "from_torch"])
@pytest.mark.parametrize("kind", OF_TORCH)
def test_what_is_torchs_is_said(reader, kind):
    make, whose, call = OF_TORCH[kind]
    assert_told(reader, make(need("torch")), whose, call)


def assert_told(reader, tree, whose, call):
    with pytest.raises(ValueError, match="must be") as caught:
        READERS[reader](tree)
    told = str(caught.value)
    assert f"It looks like {whose}" in told
    assert f": read it with convert.{call}." in told if call else "not an LSTM." in told
    assert len(told) < 1000  # shapes without numbers


@pytest.mark.parametrize("kind", NO_MAPPINGS)
def test_from_torch_wants_a_mapping(kind):
    tree = TREES[kind][0]
    with pytest.raises(TypeError, match=f"must map names to tensors; got {type(tree).__name__}"):
        convert.from_torch(tree)


def test_from_torch_wants_a_state_dict_and_no_module():
    with pytest.raises(TypeError, match=r"must map names to tensors; got LSTM\. Pass module\.state_dict\(\)"):
        convert.from_torch(need("torch").nn.LSTM(4, 5))


@pytest.mark.parametrize("kind", FLAT)
def test_what_is_flat_is_refused_by_lstm(kind):
    with pytest.raises(ValueError, match=r"params (has an unknown entry|lacks)"):
        jax_lstm.lstm(convert.from_torch(TREES[kind][0]), np.ones((2, 3, 4)))
