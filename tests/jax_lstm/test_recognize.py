"""Weights that are not a plain state dict: the error says which form they have, and what to write."""

from __future__ import annotations

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

from jax_lstm import LSTMState, convert, linen, lstm, lstm_cell, nnx, rnn, rnn_cell

torch = pytest.importorskip("torch", reason="the state dicts are torch's own")
from torch.nn.utils import parametrizations, prune, spectral_norm

X = np.ones((2, 5, 4), np.float32)
H = np.zeros((2, 5), np.float32)
LSTM = torch.nn.LSTM(4, 5).state_dict()
PARAMS = convert.from_torch(LSTM)
GRU = torch.nn.GRU(4, 5).state_dict()
RNN = torch.nn.RNN(4, 5).state_dict()
CELL = torch.nn.LSTMCell(4, 5).state_dict()
WEIGHT = "weight_hh_l0"
FUNCTIONS = {
    "lstm": lambda params: lstm(params, X),
    "lstm_cell": lambda params: lstm_cell(params, LSTMState(h=H, c=H), X[:, 0]),
    "rnn": lambda params: rnn(params, X),
    "rnn_cell": lambda params: rnn_cell(params, H, X[:, 0]),
}


def under(prefix, state_dict):
    return {prefix + name: value for name, value in state_dict.items()}


def without(state_dict, *names):
    return {name: value for name, value in state_dict.items() if name not in names}


def state_dict_after(change, **options):
    module = torch.nn.LSTM(4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about functions that it keeps for old code
        change(module, name=WEIGHT, **options)
    return module.state_dict()


WEIGHT_NORM = state_dict_after(parametrizations.weight_norm)
OLD_WEIGHT_NORM = state_dict_after(torch.nn.utils.weight_norm)
DROPPED = without(under("module.", LSTM), f"module.{WEIGHT}") | {f"{WEIGHT}_raw": LSTM[WEIGHT]}
QUANTIZABLE = {
    f"layers.0.layer_fw.cell.{gates}.{name}": LSTM[f"{name}_{which}_l0"]
    for gates, which in (("igates", "ih"), ("hgates", "hh"))
    for name in ("weight", "bias")
}
REMOVE = f"call torch.nn.utils.parametrize.remove_parametrizations(module, '{WEIGHT}') before"

# The function, a torch state dict that from_torch reads, and words of the error.
STATE_DICTS = {
    "DataParallel": ("lstm", under("module.", LSTM), ["prefix='module.')", "DistributedDataParallel"]),
    "torch.compile": ("lstm", under("_orig_mod.", LSTM), ["prefix='_orig_mod.')", "comes from torch.compile"]),
    "both": (
        "lstm",
        under("module._orig_mod.", LSTM),
        ["params['module']['_orig_mod']", "prefix='module._orig_mod.')", "DataParallel", "torch.compile"],
    ),
    "any prefix": ("lstm", under("encoder.lstm.", LSTM), ["params['encoder']['lstm']", "prefix='encoder.lstm.')"]),
    "two LSTMs": (
        "lstm",
        under("a.", LSTM) | under("b.", LSTM) | under("c.", GRU),
        ["the weights of 2 LSTMs: pass params['a'], or convert", "; or params['b'], or convert"],
    ),
    "beside other layers": ("lstm", under("lstm.", LSTM) | {"fc.bias": H}, ["pass params['lstm']", "prefix='lstm.'"]),
    "an LSTM beside a GRU": ("lstm", under("gru.", GRU) | under("lstm.", LSTM), ["pass params['lstm']"]),
    "an RNN's for rnn": ("rnn", under("module.", RNN), ["an RNN's weights: pass params['module']", "prefix='module.'"]),
    "a cell's": ("lstm_cell", under("module.", CELL), ["an LSTM's weights: pass params['module']"]),
    "weight_norm": ("lstm", WEIGHT_NORM, ["a parametrization, such as weight_norm", REMOVE]),
    "orthogonal": ("lstm", state_dict_after(parametrizations.orthogonal), [REMOVE]),
    "weight_norm in DataParallel": ("lstm", under("module.", WEIGHT_NORM), [REMOVE]),
    "old weight_norm": ("lstm", OLD_WEIGHT_NORM, [f"torch.nn.utils.remove_weight_norm(module, '{WEIGHT}')"]),
    "old weight_norm in a model": ("lstm", under("net.lstm.", OLD_WEIGHT_NORM), ["remove_weight_norm"]),
    "old spectral_norm": ("lstm", state_dict_after(spectral_norm), [f"utils.remove_spectral_norm(module, '{WEIGHT}')"]),
    "pruning": (
        "lstm",
        state_dict_after(prune.l1_unstructured, amount=0.5),
        [f"torch.nn.utils.prune.remove(module, '{WEIGHT}')"],
    ),
    "WeightDrop": ("lstm", DROPPED, [f"WeightDrop module, whose whole weight is '{WEIGHT}_raw': rename"]),
    "WeightDrop with its copy": (
        "lstm",
        DROPPED | {f"module.{WEIGHT}": LSTM[WEIGHT]},
        [f"WeightDrop module, whose whole weight is '{WEIGHT}_raw': rename"],
    ),
    "quantizable": ("lstm", QUANTIZABLE, ["rename 'layers.0.layer_fw.cell.igates.weight' to 'weight_ih_l0'"]),
    "quantized beside its scale": (
        "lstm",
        without(LSTM, WEIGHT) | {f"{WEIGHT}.absmax": H},
        ["quantized weights", "dequantize them first"],
    ),
    "a GRU": ("lstm", GRU, ["params are a GRU's weights: weight_hh_l0 is [3H, H] = (15, 5)"]),
    "a GRU for rnn": ("rnn", GRU, ["params are a GRU's weights"]),
    "a GRU in DataParallel": ("lstm", under("module.", GRU), ["Those at 'module' are a GRU's weights", "no GRU here"]),
    "a GRUCell": ("lstm_cell", torch.nn.GRUCell(4, 5).state_dict(), ["a GRU's weights: weight_hh is [3H, H]"]),
    "a GRUCell for lstm": ("lstm", torch.nn.GRUCell(4, 5).state_dict(), ["These are a GRUCell's weights"]),
    "a cell for lstm": ("lstm", CELL, ["These are an LSTMCell's weights", "use jax_lstm.lstm_cell", "convert.stack"]),
    "an LSTM for lstm_cell": ("lstm_cell", LSTM, ["These are an LSTM's weights", "use jax_lstm.lstm,", "convert.cell"]),
    "an RNN for lstm_cell": ("lstm_cell", RNN, ["These are an RNN's weights by torch's names: use jax_lstm.rnn."]),
    "an RNN inside, for lstm": ("lstm", under("r.", RNN), ["Those at 'r' are an RNN's weights", "use jax_lstm.rnn."]),
    "an LSTM inside, for rnn": ("rnn", under("r.", LSTM), ["Those at 'r' are an LSTM's weights", "use jax_lstm.lstm."]),
    "an LSTMCell for rnn_cell": ("rnn_cell", CELL, ["params are an LSTM's", "jax_lstm.lstm_cell"]),
    "integers of 8 bits": (
        "lstm",
        {name: value.to(torch.int8) for name, value in LSTM.items()},
        ["params['weight_ih_l0'] must be floating point; got dtype int8", "dequantize them first"],
    ),
    "other integers": (
        "lstm",
        {name: value.to(torch.int32) for name, value in LSTM.items()},
        ["got dtype int32. Write params['weight_ih_l0'].astype(...)"],
    ),
    "complex": (
        "lstm",
        LSTM | {WEIGHT: LSTM[WEIGHT].to(torch.complex64)},
        [f"params['{WEIGHT}'] must be floating point; got dtype complex64", "real numbers only"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATE_DICTS)
def test_an_error_names_the_form_of_a_state_dict(name):
    function, state_dict, words = STATE_DICTS[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        FUNCTIONS[function](convert.from_torch(state_dict))
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_advice_of_the_errors_works():
    state_dict = under("module._orig_mod.", LSTM)
    params = convert.from_torch(state_dict)
    for advised in (params["module"]["_orig_mod"], convert.from_torch(state_dict, prefix="module._orig_mod.")):
        np.testing.assert_array_equal(lstm(advised, X)[0], lstm(PARAMS, X)[0])
    np.testing.assert_array_equal(lstm(convert.stack([convert.cell(PARAMS)]), X)[0], lstm(PARAMS, X)[0])
    quantizable = torch.ao.nn.quantizable.LSTM(4, 5)
    renamed = {
        f"{name}_{which}_l0": value
        for full, value in quantizable.state_dict().items()
        for gates, name in [full.split(".")[-2:]]
        for which in [{"igates": "ih", "hgates": "hh"}[gates]]
    }
    expected = quantizable(torch.from_numpy(X).swapaxes(0, 1))[0].detach().numpy()
    np.testing.assert_allclose(lstm(convert.from_torch(renamed), X)[0].swapaxes(0, 1), expected, rtol=1e-5, atol=1e-6)
    nnx_module = nnx.LSTM(4, 5, rngs=flax_nnx.Rngs(0))
    assert lstm(flax_nnx.state(nnx_module, flax_nnx.Param), X)[0].shape == (2, 5, 5)


CONVERTED = {
    "flat, with a prefix": (under("module.", PARAMS), "convert.from_torch(state_dict, prefix='module.')"),
    "Flax variables": ({"params": PARAMS}, "an LSTM's weights: pass params['params']. 'params' comes from a Flax"),
    "nested": ({"lstm": PARAMS, "fc": {"weight": H}}, "pass params['lstm']"),
    "linen": ({"params": convert.to_flax(PARAMS)}, "flax.linen's: read it with convert.from_flax"),
    "nnx": (convert.to_nnx(PARAMS), "flax.nnx's: read it with convert.from_nnx"),
    "Haiku": (convert.to_haiku(PARAMS, "net/~/lstm"), "Haiku's: read it with convert.from_haiku"),
    "Equinox": (convert.to_equinox(PARAMS), "equinox's: read it with convert.from_equinox"),
    "Keras": (convert.to_keras(PARAMS), "Keras's: read it with convert.from_keras"),
    "a torch module": (torch.nn.LSTM(4, 5), "torch's: read it with convert.from_torch(module.state_dict())"),
    "a module of ours": (nnx.LSTM(4, 5, rngs=flax_nnx.Rngs(0)), "call it, or pass nnx.state(module, nnx.Param)"),
    "linen, beside a GRU": (
        {"GRUCell_0": {"ir": {"kernel": H}}, "LSTMCell_0": convert.to_flax(PARAMS)["cell"]},
        "flax.linen's: read it with convert.from_flax",
    ),
    "nnx, beside a GRU": (
        {"gru": {"dense_i": {"kernel": H, "bias": H}}, "lstm": convert.to_nnx(PARAMS)["cell"]},
        "flax.nnx's: read it with convert.from_nnx",
    ),
    "a GRU of nnx": ({"dense_i": {"kernel": H, "bias": H}, "dense_h": {"kernel": H}}, "a GRU or simple cell of"),
    "a GRU of linen": ({"ir": {"kernel": H}, "hn": {"kernel": H}}, "a GRU of flax.linen, not an LSTM"),
    "float8": (
        {name: a.astype(jnp.float8_e4m3fn) for name, a in PARAMS.items()},
        "params['weight_ih_l0'] must be floating point of at least 16 bits; got dtype float8_e4m3fn. Write params",
    ),
    "int4": (
        {name: a.astype(jnp.int4) for name, a in PARAMS.items()},
        "got dtype int4. Integers this short are usually quantized: dequantize",
    ),
}
LAYERS = ("flat, with a prefix", "Flax variables", "nested")  # their names are those of lstm


@pytest.mark.parametrize("name", CONVERTED)
@pytest.mark.parametrize("function", ["lstm", "lstm_cell"])
def test_an_error_names_the_form_of_a_tree_of_another_library(function, name):
    tree, message = CONVERTED[name]
    if function == "lstm_cell" and name in LAYERS:
        message = "are an LSTM's weights by torch's names: use jax_lstm.lstm, or pass convert.cell"
    with pytest.raises((TypeError, ValueError)) as caught:
        FUNCTIONS[function](tree)
    assert message in str(caught.value)


def test_a_simple_mistake_gets_no_advice():
    """A tree in which one entry is wrong does not look like another form."""
    for broken in (without(PARAMS, "bias_hh_l0"), PARAMS | {"weight_xx_l0": H}, {}):
        with pytest.raises(ValueError, match="params") as caught:
            lstm(broken, X)
        assert "looks like" not in str(caught.value)
        assert "Inside it" not in str(caught.value)
        assert "These are" not in str(caught.value)


def test_modules_give_the_advice():
    with pytest.raises(ValueError, match=r"lack 'weight_ih_l0'.* pass params\['module'\]"):
        linen.LSTM(hidden_size=5).apply({"params": {"module": PARAMS}}, X)
    with pytest.raises(ValueError, match=r"lack 'weight_ih'.* use jax_lstm\.lstm, or pass convert\.cell"):
        linen.LSTMCell(hidden_size=5).apply({"params": PARAMS}, LSTMState(h=H, c=H), X[:, 0])


def to_float8(tensor):
    return tensor.to(torch.float8_e4m3fn)


def to_qint8(tensor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch will drop such tensors
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


UNREADABLE = {
    "float8": (to_float8, r"got torch\.float8_e4m3fn .*pass tensor\.to\(torch\.float32\), times its scale"),
    "qint8": (to_qint8, r"got torch\.qint8 .*it is quantized: pass tensor\.dequantize\(\)"),
    "complex32": (functools.partial(torch.Tensor.to, dtype=torch.complex32), r"pass tensor\.to\(torch\.complex64\)"),
    "sparse": (torch.Tensor.to_sparse, r"sparse.*pass tensor\.to_dense\(\)"),
    "meta": (functools.partial(torch.Tensor.to, device="meta"), "on the meta device and has no values yet"),
}


@pytest.mark.filterwarnings("ignore:ComplexHalf support")
@pytest.mark.parametrize("name", UNREADABLE)
def test_an_error_names_a_tensor_that_cannot_be_read(name):
    change, message = UNREADABLE[name]
    state_dict = under("lstm.", LSTM) | {f"lstm.{WEIGHT}": change(LSTM[WEIGHT])}
    with pytest.raises(TypeError, match=rf"^state_dict\['lstm\.{WEIGHT}'\] must be .*{message}"):
        convert.from_torch(state_dict)


def test_complex_entries_are_read_without_loss():
    """A model may have such entries next to the LSTM, for example as rotations."""
    tree = convert.from_torch({"turns": torch.tensor([1 + 2j], dtype=torch.complex64)})
    assert tree["turns"].dtype == jnp.complex64
    assert tree["turns"] == 1 + 2j
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"'turns'.* complex128, which JAX would round"):
        convert.from_torch({"turns": torch.tensor([1 + 2j], dtype=torch.complex128)})


class Packed:
    """A stand-in for torch.ScriptObject, which holds the weights of a dynamically quantized LSTM."""


@pytest.mark.parametrize("name", ["_all_weight_values.0.param", "_packed_weight_ih", "_packed_params._packed_params"])
def test_an_error_says_that_packed_weights_are_quantized(name):
    with pytest.raises(
        TypeError, match="a quantized torch module, whose weights are packed: take the state dict before"
    ):
        convert.from_torch({f"encoder.{name}": Packed()})


def test_from_torch_finds_the_lstm_in_a_checkpoint():
    with pytest.raises(ValueError, match=r"an LSTM's weights: pass state_dict\['model'\]\."):
        convert.from_torch({"model": LSTM, "epoch": 3})
    with pytest.raises(ValueError, match=r"pass convert\.from_torch\(state_dict\['model'\], prefix='lstm\.'\)"):
        convert.from_torch({"model": under("lstm.", LSTM), "epoch": 3})
    with pytest.raises(ValueError, match=r"prefix 'rnn\.' matches no .*prefix='encoder\.lstm\.'\)"):
        convert.from_torch(under("encoder.lstm.", LSTM), prefix="rnn.")


def test_an_error_names_an_x_of_8_bits():
    with pytest.raises(TypeError, match=r"x must be floating point of at least 16 bits; got dtype float8_e5m2"):
        lstm(PARAMS, X.astype(jnp.float8_e5m2))
