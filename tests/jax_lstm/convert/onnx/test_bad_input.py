"""ONNX: unsupported features are refused by name. A file that is no model is one clear error."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import convert
from tests.support.onnx_models import B, D, H, arrays, built, helper, narrow, node_of, onnx, two_layers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"activations": ["Sigmoid", "Tanh", "Relu"]},
            r"activations=\['Sigmoid', 'Tanh', 'Relu'\], .*Sigmoid, Tanh, Tanh",
        ),
        ({"clip": 3.0}, "clip=3.0, which is not supported; supported: the operator without it"),
        ({"input_forget": 1}, "input_forget=1"),
        ({"activation_alpha": [1.0, 1.0, 1.0]}, "activation_alpha"),
        ({"activation_beta": [1.0, 1.0, 1.0]}, "activation_beta"),
        ({"direction": "reverse"}, "only direction='reverse'.*flip x in time"),
        ({"direction": "bidirectional"}, "direction='bidirectional' and 1 in W"),
        ({"hidden_size": 7}, "hidden_size=7, .* 5, as R has"),
        ({"layout": 2}, "layout=2"),
        ({"output_sequence": 1}, "output_sequence"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(change, words):
    model = built(narrow(arrays()), **change)
    with pytest.raises(ValueError, match=f"LSTM node 'the-lstm' has {words}"):
        convert.from_onnx(model)


def test_weights_that_do_not_fit_or_are_computed():
    with pytest.raises(ValueError, match="has peepholes, P, which is not supported; supported: no P, or zeros"):
        convert.from_onnx(node_of(P=np.ones((1, 3 * H))))
    assert convert.from_onnx(node_of(P=np.zeros((1, 3 * H)))).params
    with pytest.raises(ValueError, match=r"must have W \[dirs, 4H, D\] and R \[dirs, 4H, H\]; got .*'W': \(1, 3, 20\)"):
        convert.from_onnx(node_of(W=arrays()["W"].swapaxes(1, 2)))
    with pytest.raises(ValueError, match=r"must have B \[dirs, 8H\] = \(1, 40\)"):
        convert.from_onnx(node_of(B=np.ones((1, 20))))
    with pytest.raises(ValueError, match=r"initial_h of LSTM node 'source' must be \[dirs, B, H\]"):
        convert.from_onnx(node_of(initial_h=np.ones((1, B, H + 1))))
    computed = narrow(arrays())
    model = built(computed, first=[helper.make_node("Relu", ["W_raw"], ["W"])])
    del model.graph.initializer[[t.name for t in model.graph.initializer].index("W")]
    with pytest.raises(ValueError, match="W of LSTM node 'the-lstm' comes from the Relu node 'W'; supported: const"):
        convert.from_onnx(model)
    mixed = convert.to_onnx(jax_lstm.init_lstm(jax.random.key(0), D, H, 2, dtype=jnp.float32), time_major=True)
    wide = onnx.numpy_helper.from_array(arrays(inputs=H + 1)["W"].astype("f"), "W_l1")
    mixed.graph.initializer[[t.name for t in mixed.graph.initializer].index("W_l1")].CopyFrom(wide)
    with pytest.raises(ValueError, match="layer 1 has input size 6, where 5 is expected"):
        convert.from_onnx(mixed)


def test_models_that_are_none(tmp_path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"PK\x03\x04 this is no model")
    for source, words in (
        (damaged, r"damaged\.onnx (cannot be read as an ONNX model|has no graph)"),
        (tmp_path / "none.onnx", r"none\.onnx is no file; expected an ONNX model"),
        (built(narrow(arrays()), opset=6), "has opset 6, which is not supported; supported: 7 to "),
        (built(narrow(arrays()), opset=999), "has opset 999"),
        (built({**narrow(arrays()), "W": np.ones((1, 15, D), "f")}, kind="GRU"), "has no LSTM node; it has GRU"),
        ({"W": np.ones((1, 20, 3))}, "source must be a model .* or the arrays of an LSTM node"),
        ({"weight_ih_l0": np.ones((20, 3))}, "a torch.nn.LSTM state dict: read it with convert.from_torch"),
        (3, "source must be a model"),
    ):
        with pytest.raises(ValueError, match=words):
            convert.from_onnx(source)


def test_what_cannot_be_written():
    with pytest.raises(ValueError, match="params must have no projection: ONNX has no place for weight_hr"):
        convert.to_onnx(jax_lstm.init_lstm(jax.random.key(0), D, H, proj_size=2))
    params = jax_lstm.init_lstm(jax.random.key(0), D, H, dtype=jnp.float32)
    with pytest.raises(ValueError, match="params must have one dtype; got float32, float64"):
        convert.to_onnx(params | {"bias_hh_l0": params["bias_hh_l0"].astype(jnp.float64)})
    with pytest.raises(ValueError, match="to_onnx looks at values, which are not known inside"):
        jax.jit(lambda p: convert.to_onnx(p).graph.name)(params)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'jax-lstm\[files\]'"):
        convert.from_onnx(b"")
    assert convert.from_onnx(node_of()).params  # arrays need no package


def test_a_state_that_is_half_constant_is_refused():
    params, _ = two_layers()
    model = convert.to_onnx(params, time_major=True, states=True)
    split = next(node for node in model.graph.node if node.op_type == "Split" and node.input[0] == "h0")
    split.output[0] = "unused"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, B, H), "f"), "h0_l0"))
    with pytest.raises(
        ValueError, match="some initial states are constants of the file and others come from the graph"
    ):
        convert.from_onnx(model)
    read = convert.from_onnx(model, nodes=["lstm_l1"])
    assert (read.state, set(read.from_graph)) == (None, {"initial_h", "initial_c"})
