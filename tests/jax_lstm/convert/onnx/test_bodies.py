"""ONNX: LSTM nodes in the bodies of If, Loop and Scan, as networks by name, against ONNX Runtime."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import convert
from tests.support.onnx_models import B, D, H, T, X, agrees, body, helper, lstm, model, onnx, run, two_layers, value

BOOL, I64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT64
STEP = (1, B, H)


def holds(read, given, layer=0):
    """Check that each gate of the network has the given bits. ONNX has the order i, o, f, c, and we have i, f, g, o."""
    for name, there in (
        ("weight_ih", given["W"][0]),
        ("weight_hh", given["R"][0]),
        *zip(("bias_ih", "bias_hh"), np.split(given["B"][0], 2), strict=True),
    ):
        i, o, f, g = np.split(there, 4)
        np.testing.assert_array_equal(read.params[f"{name}_l{layer}"], np.concatenate([i, f, g, o]), strict=True)


def by_rate(then, otherwise, tensors=(), first=()):
    """Return a model that takes one branch at 16 kHz and the other at 8 kHz."""
    equal = helper.make_node("Equal", ["rate", "16000"], ["is_16k"])
    rate = onnx.numpy_helper.from_array(np.array(16000), "16000")
    choice = helper.make_node("If", ["is_16k"], ["Y"], name="rate", then_branch=then, else_branch=otherwise)
    return model(
        [equal, *first, choice],
        [value("x", None, B, D), value("rate", kind=I64)],
        [value("Y", None, 1, B, None)],
        [rate, *tensors],
    )


Y = value("y", None, 1, B, None)


@pytest.mark.isa
@pytest.mark.parametrize("place", ["initializers of the body", "constant nodes of the body", "outer", "outer nodes"])
def test_one_network_per_branch_as_voice_activity_models_have(place):
    """There are two networks for two sampling rates. Their sizes differ."""
    weights = "Constant" if "nodes" in place else "initializer"
    wide, wide_nodes, wide_tensors = lstm("decoder", weights=weights)
    slim, slim_nodes, slim_tensors = lstm("decoder8k", hidden=7, seed=8, weights=weights)
    if "outer" in place:
        outside = {"tensors": wide_tensors + slim_tensors, "first": wide_nodes[:-1] + slim_nodes[:-1]}
        made = by_rate(body(wide_nodes[-1:], [Y]), body(slim_nodes[-1:], [Y]), **outside)
    else:
        made = by_rate(body(wide_nodes, [Y], wide_tensors), body(slim_nodes, [Y], slim_tensors))
    networks = convert.onnx_networks(made.SerializeToString())
    assert list(networks) == ["rate/else_branch/decoder8k", "rate/then_branch/decoder"]
    for name, given, rate in (("rate/then_branch/decoder", wide, 16000), ("rate/else_branch/decoder8k", slim, 8000)):
        (theirs,) = run(made, ["Y"], x=X, rate=np.array(rate))
        holds(networks[name], given)
        agrees(networks[name], theirs)
        for chosen in (name, [name], name.rpartition("/")[2]):
            assert convert.from_onnx(made, nodes=chosen).nodes == (name,)
        assert (networks[name].nodes, networks[name].from_graph, networks[name].state) == ((name,), {}, None)


def test_the_names_in_an_error_choose():
    made = by_rate(body(lstm("a")[1], [Y], lstm("a")[2]), body(lstm("b")[1], [Y], lstm("b")[2]))
    with pytest.raises(
        ValueError,
        match=r"the model has 2 LSTM networks: nodes=\['rate/else_branch/b'\] reads the input 'x' of the model; "
        r"nodes=\['rate/then_branch/a'\] .* or read all of them with convert\.onnx_networks\.",
    ):
        convert.from_onnx(made)
    with pytest.raises(ValueError, match="nodes has 'c'; the LSTM nodes of the model are 'rate/else_branch/b', 'rate/"):
        convert.from_onnx(made, nodes=["c"])


def test_names_are_unique_whatever_a_file_says():
    """Two nodes of one graph and one of a body have the same name. Another node already has a numbered name."""
    nodes, tensors = [], []
    for number, name in enumerate(["a", "a", "a#1", "rate"]):
        _, made, given = lstm(name, seed=number, y=f"y{number}")
        for tensor in given:
            made[-1].input[list(made[-1].input).index(tensor.name)] = tensor.name = f"{number}{tensor.name}"
        nodes, tensors = nodes + made, tensors + given
    inner = body(lstm("a", y="y")[1], [Y], lstm("a")[2])
    made = by_rate(inner, inner, tensors, nodes)
    names = ["a#2", "a#3", "a#1", "rate", "rate/else_branch/a", "rate/then_branch/a"]
    assert list(convert.onnx_networks(made)) == names
    for name in names:
        assert convert.from_onnx(made, nodes=name).nodes == (name,)
    with pytest.raises(ValueError, match="nodes has 'a', which 4 LSTM nodes of the model have: 'a#2', 'a#3', 'rate/el"):
        convert.from_onnx(made, nodes="a")


def looped(name, states=("h", "c"), **changed):
    """Return a body that, in every iteration, runs an LSTM on one step of X from the states of the step before."""
    given, nodes, tensors = lstm(name, x="step", y="y_step", states=states, **changed)
    squeezed = helper.make_node("Squeeze", ["y_step", "zero"], ["y_now"])
    zero = onnx.numpy_helper.from_array(np.array([0]), "zero")
    return given, [*nodes, squeezed], [*tensors, zero]


def a_loop():
    given, nodes, tensors = looped("cell")
    pick = helper.make_node("Gather", ["x", "number"], ["row"], axis=0)
    nodes = [pick, helper.make_node("Unsqueeze", ["row", "zero"], ["step"]), *nodes]
    nodes.append(helper.make_node("Identity", ["more"], ["still"]))
    inputs = [value("number", kind=I64), value("more", kind=BOOL), value("h", *STEP), value("c", *STEP)]
    outputs = [value("still", kind=BOOL), value("cell.h", *STEP), value("cell.c", *STEP), value("y_now", 1, B, H)]
    inner = body(nodes, outputs, tensors, inputs)
    loop = helper.make_node("Loop", ["steps", "", "h0", "c0"], ["h_n", "c_n", "Y"], name="each", body=inner)
    ends = [value("h0", *STEP), value("c0", *STEP)]
    steps = onnx.numpy_helper.from_array(np.array(T), "steps")
    return given, model([loop], [value("x", T, B, D), *ends], [value("Y", T, 1, B, H)], [steps])


def a_scan():
    given, nodes, tensors = looped("cell")
    nodes = [helper.make_node("Unsqueeze", ["row", "zero"], ["step"]), *nodes]
    inputs = [value("h", *STEP), value("c", *STEP), value("row", B, D)]
    outputs = [value("cell.h", *STEP), value("cell.c", *STEP), value("y_now", 1, B, H)]
    inner = body(nodes, outputs, tensors, inputs)
    scan = helper.make_node("Scan", ["h0", "c0", "x"], ["h_n", "c_n", "Y"], name="each", body=inner, num_scan_inputs=1)
    ends = [value("h0", *STEP), value("c0", *STEP)]
    return given, model([scan], [value("x", T, B, D), *ends], [value("Y", T, 1, B, H)])


@pytest.mark.isa
@pytest.mark.parametrize("made", [a_loop, a_scan])
def test_a_node_that_is_called_once_per_step_has_its_states_from_the_graph(made):
    given, made = made()
    read = convert.from_onnx(made)
    assert read.nodes == ("each/body/cell",)
    assert (read.state, dict(read.from_graph)) == (None, {"initial_h": ("h",), "initial_c": ("c",)})
    holds(read, given)
    h0, c0 = (np.random.default_rng(n).normal(size=STEP).astype("f") for n in (2, 3))
    (theirs,) = run(made, ["Y"], x=X, h0=h0, c0=c0)
    agrees(read, theirs, state=jax_lstm.LSTMState(h=h0.astype(np.float64), c=c0.astype(np.float64)))


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_weights_that_the_node_around_a_body_gives_are_refused(kind):
    """The name means the body's input, also if an outer graph or the body has a constant of that name."""
    _, made = {"Loop": a_loop, "Scan": a_scan}[kind]()
    (node,) = made.graph.node
    inner = node.attribute[0].g
    weights = next(tensor for tensor in inner.initializer if tensor.name == "cell.W")
    made.graph.initializer.append(weights)
    inner.input.append(value("cell.W", 1, 4 * H, D))
    words = (
        "W of LSTM node 'each/body/cell' comes from the input 'cell.W' of the body 'each/body'; supported: constants"
    )
    with pytest.raises(ValueError, match=words):
        convert.from_onnx(made)
    assert convert.onnx_networks(made)["each/body/cell"] == convert.OnnxRefusal(("each/body/cell",), words + ".")


@pytest.mark.isa
def test_a_body_in_a_body_sees_all_graphs_around_it():
    """W is in the model, R in the middle body, and B behind an Identity. Both middle bodies have an R."""
    given, (node,), (w, r, b) = lstm("deep")
    other, _, (_, other_r, _) = lstm("deep", seed=3)
    inner = body([helper.make_node("Identity", ["deep.B"], ["bias"]), node], [Y])
    node.input[3] = "bias"
    inner.node[1].input[3] = "bias"
    choose = lambda: helper.make_node("If", ["yes"], ["y"], name="inner", then_branch=inner, else_branch=inner)
    made = by_rate(body([choose()], [Y], [r, b]), body([choose()], [Y], [other_r]), [w, b])
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    networks = convert.onnx_networks(made)
    for branch, expected, rate in (("then", given, 16000), ("else", given | {"R": other["R"]}, 8000)):
        read = networks[f"rate/{branch}_branch/inner/then_branch/deep"]
        holds(read, expected)
        agrees(read, run(made, ["Y"], x=X, rate=np.array(rate))[0])
    assert len(networks) == 4


def test_the_innermost_value_of_a_name_is_meant():
    """ONNX forbids using a name twice. If a file does so, the name means the nearest value."""
    given, nodes, tensors = lstm("a")
    _, _, others = lstm("a", seed=5)
    made = by_rate(body(nodes, [Y], tensors), body(nodes, [Y]), others)
    networks = convert.onnx_networks(made)
    holds(networks["rate/then_branch/a"], given)
    holds(networks["rate/else_branch/a"], lstm("a", seed=5)[0])


def test_a_stack_in_a_body_is_one_network():
    below, first, weights = lstm("below", y="between")
    above, second, more = lstm("above", inputs=H, seed=2, x="squeezed")
    squeeze = helper.make_node("Squeeze", ["between", "one"], ["squeezed"])
    one = onnx.numpy_helper.from_array(np.array([1]), "one")
    stack = body([*first, squeeze, *second], [Y], weights + more)
    made = by_rate(stack, body(lstm("b")[1], [Y], lstm("b")[2]), [one])
    read = convert.onnx_networks(made)["rate/then_branch/below"]
    assert read.nodes == ("rate/then_branch/below", "rate/then_branch/above")
    holds(read, below)
    holds(read, above, layer=1)
    agrees(read, run(made, ["Y"], x=X, rate=np.array(16000))[0])
    assert convert.from_onnx(made, nodes=["below", "above"]).nodes == read.nodes


def layered(*nodes):
    """Return nodes of (name, hidden size, seed, the node below), with a Squeeze between each two."""
    made, tensors, sizes = [], [onnx.numpy_helper.from_array(np.array([1]), "one")], {"x": D}
    for name, hidden, below, changed in nodes:
        sizes[name] = hidden
        squeezed = below if below == "x" else f"{below}.squeezed.{name}"
        if below != "x":
            made.append(helper.make_node("Squeeze", [f"{below}.y", "one"], [squeezed]))
        _, own, weights = lstm(name, inputs=sizes[below], hidden=hidden, x=squeezed, y=f"{name}.y", **changed)
        made, tensors = made + own, tensors + weights
    return model(made, [value("x", None, B, D)], [value(f"{nodes[-1][0]}.y", *[None] * 4)], tensors)


def test_layers_that_are_no_one_lstm_are_networks_of_their_own():
    """Keras models often halve the hidden size from layer to layer."""
    made = layered(("a", 5, "x", {}), ("b", 5, "a", {}), ("c", 7, "b", {}))
    networks = convert.onnx_networks(made)
    assert {name: read.nodes for name, read in networks.items()} == {"a": ("a", "b"), "c": ("c",)}
    assert networks["c"].params["weight_ih_l0"].shape == (28, 5)
    with pytest.raises(
        ValueError, match=r"nodes=\['a', 'b'\] reads the input 'x' of the model; nodes=\['c'\] reads the L"
    ):
        convert.from_onnx(made)


def test_the_order_of_layers_is_that_of_the_values():
    """ONNX requires nodes in the order of their values. A file with another order is read in the same way."""
    made = layered(("a", 5, "x", {}), ("b", 5, "a", {}), ("c", 7, "b", {}))
    turned = list(made.graph.node)[::-1]
    del made.graph.node[:]
    made.graph.node.extend(turned)
    networks = convert.onnx_networks(made)
    assert {name: read.nodes for name, read in networks.items()} == {"a": ("a", "b"), "c": ("c",)}


def test_operators_of_another_domain_are_not_onnx_s():
    made = layered(("a", 5, "x", {}), ("b", 5, "a", {}))
    made.graph.node[1].domain = "mine"  # of another domain, so it may compute anything
    assert [read.nodes for read in convert.onnx_networks(made).values()] == [("a",), ("b",)]
    made.graph.node[2].domain = "mine"
    assert [read.nodes for read in convert.onnx_networks(made).values()] == [("a",)]


def test_two_nodes_that_read_one_are_networks_of_their_own():
    made = layered(("trunk", 5, "x", {}), ("b", 5, "trunk", {}), ("c", 5, "trunk", {}), ("d", 5, "c", {}))
    networks = convert.onnx_networks(made)
    assert [read.nodes for read in networks.values()] == [("trunk",), ("b",), ("c", "d")]
    assert convert.from_onnx(made, nodes=["trunk", "c", "d"]).params["weight_ih_l2"].shape == (20, 5)


def test_a_refused_network_is_said_and_the_others_are_read():
    made = layered(("a", 5, "x", {}), ("b", 5, "x", {"activations": ["Sigmoid", "Tanh", "Relu"]}), ("c", 5, "x", {}))
    made.graph.node[-1].input[1] = "missing"
    networks = convert.onnx_networks(made)
    assert isinstance(networks["a"], convert.OnnxLSTM)
    for name, words in (
        ("b", "LSTM node 'b' has activations="),
        ("c", "comes from 'missing', which the model does not have"),
    ):
        assert isinstance(networks[name], convert.OnnxRefusal)
        assert (networks[name].nodes, words in networks[name].reason) == ((name,), True)
        with pytest.raises(ValueError, match=words):
            convert.from_onnx(made, nodes=[name])


def test_a_value_may_flow_from_an_outer_network_into_a_body():
    _, first, weights = lstm("below", y="between")
    _, second, more = lstm("above", inputs=H, seed=2, x="squeezed")
    squeeze = helper.make_node("Squeeze", ["between", "one"], ["squeezed"])
    one = onnx.numpy_helper.from_array(np.array([1]), "one")
    then = body([squeeze, *second], [Y], more)
    made = by_rate(then, body([helper.make_node("Identity", ["between"], ["y"])], [Y]), [one, *weights], first)
    assert convert.from_onnx(made).nodes == ("below", "rate/then_branch/above")


def test_a_model_of_one_network_is_listed_as_from_onnx_reads_it():
    params, made = two_layers(["Dropout"])
    ((name, read),) = convert.onnx_networks(made).items()
    assert (name, read.nodes) == ("lstm_l0", ("lstm_l0", "lstm_l1"))
    assert all(np.array_equal(read.params[name], a) for name, a in params.items())
    assert convert.onnx_networks(made, dtype=jnp.float64)[name].params["weight_ih_l0"].dtype == jnp.float64
    with pytest.raises(ValueError, match="source must be a model"):
        convert.onnx_networks({"W": np.ones((1, 20, 3))})


def test_a_node_in_a_function_of_the_model_is_not_lost():
    given, nodes, _ = lstm("inside", weights="Constant")
    function = helper.make_function("mine", "Encoder", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])
    call = helper.make_node("Encoder", ["x"], ["Y"], domain="mine")
    made = model([call], [value("x", T, B, D)], [value("Y", T, 1, B, H)], functions=[function])
    made.opset_import.append(helper.make_opsetid("mine", 1))
    (refused,) = convert.onnx_networks(made).values()
    assert "LSTM node 'Encoder/inside' is in the function 'Encoder' of the model" in refused.reason
    import onnx.inliner

    read = convert.from_onnx(onnx.inliner.inline_local_functions(made))
    holds(read, given)
