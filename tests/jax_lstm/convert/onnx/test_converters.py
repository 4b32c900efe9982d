"""ONNX: nodes agree with the operator's equations, torch's models agree, and ONNX Runtime runs to_onnx's models."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jax_lstm
from jax_lstm import convert
from jax_lstm._src.network import Network
from jax_lstm.convert.onnx import node_data
from tests.support.conversion import assert_whole_or_nothing
from tests.support.onnx_models import B, D, H, T, arrays, built, helper, narrow, node_of, onnx, two_layers
from tests.support.requirements import need


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def operator(x, W, R, B, initial_h, initial_c, sequence_lens):
    """Compute the LSTM operator as documented, with layout 0: Y [T, dirs, B, H], Y_h and Y_c [dirs, B, H]."""
    dirs, hidden = R.shape[0], R.shape[2]
    y = np.zeros((x.shape[0], dirs, x.shape[1], hidden))
    last_h, last_c = initial_h.copy(), initial_c.copy()
    for d, row in itertools.product(range(dirs), range(x.shape[1])):
        h, c = initial_h[d, row], initial_c[d, row]
        steps = range(sequence_lens[row])
        for t in steps if d == 0 else reversed(steps):
            z = x[t, row] @ W[d].T + h @ R[d].T + B[d, : 4 * hidden] + B[d, 4 * hidden :]
            i, o, f, g = np.split(z, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            y[t, d, row] = h
        last_h[d, row], last_c[d, row] = h, c
    return y, last_h, last_c


def ours(read, x):
    y, last = jax.jit(lambda p, x, s: jax_lstm.lstm(p, x, s, lengths=read.lengths, time_major=True))(
        read.params, x, read.state
    )
    return np.asarray(y), np.asarray(last.h), np.asarray(last.c)


@pytest.mark.parametrize("dirs", [1, 2])
def test_a_nodes_arrays_are_the_operator(dirs):
    node = node_of(**arrays(dirs))
    x = np.random.default_rng(1).normal(size=(T, B, D))
    read = convert.from_onnx(node)
    assert read.time_major
    y, h, c = operator(x, **node)
    for got, expected in zip(ours(read, x), (np.concatenate(list(y.swapaxes(0, 1)), -1), h, c), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [o for o in map("".join, itertools.permutations("ifgo")) if o != "iofg"])
def test_another_gate_order_is_another_function(order, monkeypatch):
    node, x = node_of(), np.random.default_rng(1).normal(size=(T, B, D))
    monkeypatch.setattr(node_data, "ORDER", order)
    got, expected = ours(convert.from_onnx(node), x), operator(x, **node)
    assert np.abs(got[1] - expected[1]).max() > 1e-3


def test_the_first_half_of_b_is_the_inputs():
    """The operator adds both halves, so no output shows a swap."""
    node = node_of()
    params = convert.from_onnx(node).params
    i, o, f, g = np.split(node["B"][0, : 4 * H], 4)
    np.testing.assert_array_equal(params["bias_ih_l0"], np.concatenate([i, f, g, o]))
    i, o, f, g = np.split(node["B"][0, 4 * H :], 4)
    np.testing.assert_array_equal(params["bias_hh_l0"], np.concatenate([i, f, g, o]))


@settings(deadline=None, derandomize=True, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(*[st.integers(1, n) for n in (6, 5, 3)]), *[st.booleans()] * 5, st.sampled_from([np.float32, np.float64])
)
def test_there_and_back_bit_for_bit(sizes, bias, both, states, lengths, time_major, dtype):
    inputs, hidden, layers = sizes
    network = Network("lstm", inputs, hidden, layers, bias=bias, bidirectional=both)
    rng = np.random.default_rng(inputs + 10 * hidden)
    params = {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in network.shapes().items()}
    model = convert.to_onnx(params, states=states, lengths=lengths, time_major=time_major)
    read = convert.from_onnx(model.SerializeToString())
    assert list(read.params) == list(params)
    for name, a in params.items():
        assert read.params[name].dtype == a.dtype
        np.testing.assert_array_equal(read.params[name], a)
    assert (read.state, read.lengths) == (None, None)
    states_from = {"initial_h", "initial_c"} if states else set()
    assert set(read.from_graph) == states_from | ({"sequence_lens"} if lengths else set())


@pytest.mark.isa
@pytest.mark.parametrize("dirs", [1, 2])
def test_a_model_file_in_onnx_runtime_and_in_ours(dirs, tmp_path):
    """float32 is compared with float64. The limit is 60 roundings at values under 1."""
    runtime = need("onnxruntime")
    node = narrow(node_of(**arrays(dirs)))
    file = tmp_path / "model.onnx"
    onnx.save(built(node), file)
    read = convert.from_onnx(file, dtype=jnp.float64)
    x = np.random.default_rng(1).normal(size=(T, B, D)).astype(np.float32)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    y, h, c = session.run(["Y", "Y_h", "Y_c"], {"x": x})
    for got, expected in zip(ours(read, x), (np.concatenate(list(y.swapaxes(0, 1)), -1), h, c), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=60 * 2.0**-24)


def test_weights_in_files_beside_the_model(tmp_path):
    node, file = narrow(node_of()), tmp_path / "model.onnx"
    onnx.save(built(node), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    np.testing.assert_array_equal(convert.from_onnx(file).params["weight_ih_l0"][:H], node["W"][0, :H])
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match=r"model\.onnx cannot be read as an ONNX model"):
        convert.from_onnx(file)


def test_weights_from_constant_nodes_and_behind_identities():
    node = narrow(node_of())
    moved = onnx.numpy_helper.from_array(node.pop("W"), "W")
    first = [helper.make_node("Constant", [], ["W0"], value=moved), helper.make_node("Identity", ["W0"], ["W"])]
    model = built(node | {"W": np.zeros((1, 4 * H, D), np.float32)}, first=first)
    del model.graph.initializer[[t.name for t in model.graph.initializer].index("W")]
    np.testing.assert_array_equal(convert.from_onnx(model).params["weight_ih_l0"][:H], arrays()["W"][0, :H].astype("f"))


def test_layout_1_is_batch_first():
    node = {name: arrays()[name] for name in ("W", "R", "B", "initial_h", "initial_c")}
    flipped = node | {name: node[name].swapaxes(0, 1) for name in ("initial_h", "initial_c")}
    read = convert.from_onnx(built(narrow(flipped), layout=1))
    assert not read.time_major
    np.testing.assert_array_equal(read.state.h, node["initial_h"].astype("f"))
    assert read.lengths is None


def test_a_single_state_leaves_the_other_zero():
    node = arrays()
    del node["initial_c"]
    read = convert.from_onnx(built(narrow(node)))
    np.testing.assert_array_equal(read.state.h, node["initial_h"].astype("f"))
    np.testing.assert_array_equal(read.state.c, np.zeros((1, B, H)))


def test_layers_follow_one_another_only_through_dropout():
    params, model = two_layers(["Dropout"])
    read = convert.from_onnx(model)
    assert all(np.array_equal(read.params[name], a) for name, a in params.items())
    one = convert.from_onnx(model, nodes=["lstm_l1"]).params
    np.testing.assert_array_equal(one["weight_ih_l0_reverse"], params["weight_ih_l1_reverse"])
    _, model = two_layers(["Relu"])
    with pytest.raises(ValueError, match="'lstm_l1' does not read what 'lstm_l0' gives, but the Relu node 'between'"):
        convert.from_onnx(model, nodes=["lstm_l0", "lstm_l1"])
    _, model = two_layers()
    next(node for node in model.graph.node if node.name == "lstm_l1").input[0] = "x"
    with pytest.raises(ValueError, match="gives, but the input 'x' of the model: they are no stack"):
        convert.from_onnx(model, nodes=["lstm_l0", "lstm_l1"])
    with pytest.raises(ValueError, match=r"nodes has 'a'; the LSTM nodes of the model are 'lstm_l0', 'lstm_l1'\."):
        convert.from_onnx(model, nodes=["a"])


@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own code
def test_what_torch_exports(tmp_path):
    """This is torch's exporter that needs only onnx. The graph computes zeros as initial states."""
    torch = need("torch")
    module, file = torch.nn.LSTM(D, H, 2, bidirectional=True, batch_first=True), tmp_path / "torch.onnx"
    torch.onnx.export(module, (torch.randn(2, 4, D),), file, dynamo=False)
    read = convert.from_onnx(file)
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(read.params[name], tensor)
    assert (read.state, set(read.from_graph)) == (None, {"initial_h", "initial_c"})


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "model.onnx"
    params = jax_lstm.init_lstm(jax.random.key(0), D, H, dtype=jnp.float32)
    model = convert.to_onnx(params, file)
    assert file.read_bytes() == model.SerializeToString()
    doubled = {name: 2 * a for name, a in params.items()}
    assert_whole_or_nothing(lambda: convert.to_onnx(doubled, file), file, monkeypatch)
