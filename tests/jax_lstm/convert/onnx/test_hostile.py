"""ONNX: a file that would waste time or memory, or crash a reader, is an error that names the node."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest

from jax_lstm import convert
from jax_lstm.convert.onnx import constants as folding
from tests.support.onnx_models import B, D, H, T, body, helper, lstm, model, onnx, value

F32, F64 = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
tensor = onnx.numpy_helper.from_array


def weights_by(*nodes, **constants):
    """Return a model whose W is the output of these nodes."""
    _, made, tensors = lstm("a")
    made[-1].input[1] = "W"
    tensors += [a if hasattr(a, "raw_data") else tensor(np.asarray(a), name) for name, a in constants.items()]
    return model([*nodes, *made], [value("x", T, B, D)], [value("y", T, 1, B, H)], tensors)


def peak_of(read):
    """Return the peak memory in bytes, and the message that the call raised."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="W of LSTM node") as caught:
            read()
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


def doubling(times, kind="Concat"):
    return [helper.make_node(kind, [f"d{n}"] * 2, [f"d{n + 1}"], axis=0) for n in range(times)]


def op(kind, *inputs, outputs=("W",), **attributes):
    return helper.make_node(kind, list(inputs), outputs, **attributes)


BOMBS = {
    "doubling": [*doubling(40), helper.make_node("Identity", ["d40"], ["W"])],
    "zeros": [helper.make_node("ConstantOfShape", ["large"], ["W"])],
    "expanded": [helper.make_node("Expand", ["d0", "large"], ["W"])],
    "gathered": [helper.make_node("Expand", ["zero", "wide"], ["i"]), helper.make_node("Gather", ["d0", "i"], ["W"])],
    "joined": [helper.make_node("Expand", ["d0", "wide"], ["i"]), op("Concat", "row", "i", "i", axis=0)],
    "cast": [helper.make_node("Expand", ["d0", "wide"], ["i"]), helper.make_node("Cast", ["i"], ["W"], to=F64)],
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_makes_no_huge_array(bomb):
    wide = [10**5 if bomb == "gathered" else 31000, 256]  # below the limit in bytes or float32, above it in float64
    constants = {"d0": np.ones(256, "f"), "large": [2**31, 256], "zero": np.zeros(1, np.uint8), "wide": wide}
    constants["row"] = np.ones((1, 256), "f")
    made = weights_by(*BOMBS[bomb], **constants)
    peak, said = peak_of(lambda: convert.from_onnx(made))
    last = r"node 'd\d\d'" if bomb == "doubling" else "node 'W'"
    assert re.search(rf"{last} cannot be read as a constant: folding would make \d+ bytes of \d+", said)
    assert peak < 2.5 * folding.FREE


def test_the_limit_is_for_all_constants_of_a_model_together():
    """Each node makes a small array, and no array reaches the limit by itself."""
    casts = [helper.make_node("Cast", ["c"], [f"c{n}"], to=F64) for n in range(100)]
    slices = [helper.make_node("Slice", [f"c{n}", "zero", "one"], [f"s{n}"]) for n in range(100)]
    join = op("Concat", *(f"s{n}" for n in range(100)), axis=0)
    made = weights_by(
        helper.make_node("ConstantOfShape", ["shape"], ["c"]), *casts, *slices, join, shape=[2**18], zero=[0], one=[1]
    )
    peak, said = peak_of(lambda: convert.from_onnx(made))
    assert "folding would make" in said
    assert peak < 2 * folding.FREE


def test_the_limit_grows_with_what_the_file_holds(monkeypatch):
    given, _, (weights, *_) = lstm("a")
    monkeypatch.setattr(folding, "FREE", 0)
    chain = [helper.make_node("Transpose", ["W0"], ["T"]), op("Transpose", "T")]
    read = convert.from_onnx(weights_by(*chain, W0=onnx.numpy_helper.to_array(weights)))
    np.testing.assert_array_equal(read.params["weight_ih_l0"][:H], given["W"][0, :H])


def test_a_negative_size_gives_no_credit():
    """A refused network does not change the limits of the next one."""
    made = weights_by(helper.make_node("ConstantOfShape", ["large"], ["W"]), less=[-1, 2**40], large=[2**12, 2**13])
    _, nodes, tensors = lstm("first")
    nodes[-1].input[1] = "negative"
    made.graph.initializer.extend(tensors)
    for number, node in enumerate([helper.make_node("ConstantOfShape", ["less"], ["negative"]), *nodes]):
        made.graph.node.insert(number, node)
    first, second = convert.onnx_networks(made).values()
    assert "the ConstantOfShape node 'negative' cannot be read as a constant: " in first.reason
    assert "folding would make" in second.reason


def test_a_cycle_is_found():
    one, two = helper.make_node("Identity", ["W"], ["V"]), helper.make_node("Concat", ["V", "V"], ["W"], axis=0)
    with pytest.raises(ValueError, match=r"W of LSTM node 'a': the (Concat node 'W'|Identity node 'V') is comp"):
        convert.from_onnx(weights_by(one, two))


def test_a_cycle_between_layers_ends_and_loses_no_node():
    made = weights_by(helper.make_node("Identity", ["round"], ["again"]), W=np.zeros((1, 4 * H, D), "f"))
    made.graph.node.append(helper.make_node("Identity", ["again"], ["round"]))
    next(node for node in made.graph.node if node.op_type == "LSTM").input[0] = "round"
    assert convert.from_onnx(made).nodes == ("a",)
    _, first, tensors = lstm("a", inputs=H, x="y.b", y="y.a")
    _, second, more = lstm("b", inputs=H, x="y.a", y="y.b")
    networks = convert.onnx_networks(model([*first, *second], [], [value("y.a")], tensors + more))
    assert [name for network in networks.values() for name in network.nodes] == ["a", "b"]


def test_a_long_chain_is_read_without_recursion(monkeypatch):
    weights = lstm("a")[2][0]
    chain = [helper.make_node("Identity", [f"w{n}"], [f"w{n + 1}"]) for n in range(5000)]
    made = weights_by(*chain, helper.make_node("Identity", ["w5000"], ["W"]), w0=onnx.numpy_helper.to_array(weights))
    assert convert.from_onnx(made).params
    monkeypatch.setattr(folding, "STEPS", 5000)
    with pytest.raises(ValueError, match=r"the Identity node 'w\d+' is not read: .* more than 5000 steps"):
        convert.from_onnx(made)


def nested(depth, innermost):
    """Return a model of bodies within bodies. ``innermost`` fills the innermost graph."""
    made = model([], [value("x", T, B, D)], [value("y", T, 1, B, H)])
    graph = made.graph
    for _ in range(depth):
        node = graph.node.add(op_type="Loop", name="n", output=["y"])
        graph = node.attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g
    innermost(graph)
    return made


def test_bodies_a_thousand_deep():
    given, nodes, tensors = lstm("a")
    made = nested(1000, lambda graph: graph.node.extend(nodes))
    made.graph.initializer.extend(tensors)
    ((name, read),) = convert.onnx_networks(made).items()
    assert name == "n/body/" * 1000 + "a"
    np.testing.assert_array_equal(read.params["weight_hh_l0"][:H], given["R"][0, :H])
    with pytest.raises(ValueError, match="the model cannot be read as an ONNX model"):
        convert.onnx_networks(made.SerializeToString())  # protobuf has its own limit


def test_long_names_are_cut():
    """A node with a name of a megabyte has a body of a hundred nodes: their full names would take 100 MB."""
    _, (node,), tensors = lstm("l" * 10**5)
    inner = body([node] * 100, [value("y", T, 1, B, H)], tensors)
    choice = helper.make_node("If", ["yes"], ["y"], name="n" * 10**6, then_branch=inner, else_branch=inner)
    names = list(convert.onnx_networks(model([choice], [value("x", T, B, D)], [value("y", T, 1, B, H)])))
    assert len(set(names)) == 200
    assert max(map(len, names)) < 500


def test_an_error_lists_some_of_many_networks():
    nodes = [node for n in range(50) for node in lstm(f"a{n}", y=f"y{n}")[1]]
    with pytest.raises(ValueError, match=r"has 50 LSTM networks: .*; and 30 more\. Choose one") as caught:
        convert.from_onnx(model(nodes, [value("x", T, B, D)], [value("y0", T, 1, B, H)]))
    assert ("a19" in str(caught.value), "a20" in str(caught.value)) == (True, False)


GRAPH = body([helper.make_node("Identity", ["x"], ["y"])], [value("y")])
MALFORMED = {
    "no input": op("Identity"),
    "an input without a name": op("Concat", "d", "", axis=0),
    "no axes": op("Unsqueeze", "d"),
    "axes that are no integers": op("Unsqueeze", "d", "d"),
    "an axis that is not there": op("Transpose", "d", perm=[5, 0]),
    "an axis twice": op("Slice", "square", "two", "two", "zeros"),
    "a graph for an axis": op("Concat", "d", "d", axis=GRAPH),
    "text for an axis": op("Concat", "d", "d", axis="zero"),
    "no axis": op("Concat", "d", "d"),
    "starts without ends": op("Slice", "d", "two"),
    "a step of 0": op("Slice", "d", "two", "two", "", "zeros"),
    "a size that does not fit": op("Reshape", "d", "two"),
    "a 0 beyond the axes": op("Reshape", "d", "zeros"),
    "sizes over 64 bits": op("Expand", "d", "most"),
    "more axes than there are": op("ConstantOfShape", "many"),
    "many integers": op("Reshape", "d", "thousands"),
    "parts that do not add up": op("Split", "d", "two", outputs=["W", "other"]),
    "another number of parts": op("Split", "d", "two"),
    "an index out of range": op("Gather", "d", "thousands"),
    "an index that is no integer": op("Gather", "d", "d"),
    "an axis of size 0": op("Gather", "none", "two"),
    "three values to fill with": op("ConstantOfShape", "two", value=tensor(np.ones(3, "f"))),
    "no type": op("Cast", "d"),
    "no value": op("Constant"),
    "a text": op("Constant", value_string="1"),
    "texts": op("Constant", value=helper.make_tensor("t", onnx.TensorProto.STRING, [1], [b"1"])),
    "sparse": op(
        "Constant",
        sparse_value=helper.make_sparse_tensor(
            helper.make_tensor("v", F32, [1], [1.0]), helper.make_tensor("i", onnx.TensorProto.INT64, [1], [3]), [10**9]
        ),
    ),
    "more than is stored": op("Constant", value=onnx.TensorProto(data_type=F32, dims=[2**40, 2**40], raw_data=b"1234")),
    "a type that does not exist": op("Constant", value=onnx.TensorProto(data_type=99, dims=[1])),
    "in pieces": op("Constant", value=onnx.TensorProto(data_type=1, dims=[1], segment={"begin": 0, "end": 9})),
}
CONSTANTS = {
    "d": np.arange(5, dtype="f"),
    "two": np.array([3, 3]),
    "square": np.ones((9, 9), "f"),
    "zeros": np.array([0, 0]),
    "none": np.ones((0, 3), "f"),
    "most": np.array([2**62, 2**62, 5]),
    "many": np.ones(100, np.int64),
    "thousands": np.ones(2000, np.int64) * 7,
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_node_is_named(what):
    node = MALFORMED[what]
    with pytest.raises(
        ValueError, match=rf"W of LSTM node 'a': the {node.op_type} node 'W' cannot be read as a const"
    ) as caught:
        convert.from_onnx(weights_by(node, **CONSTANTS))
    assert what != "many integers" or "shape must be at most 1000 integers; got 2000" in str(caught.value)


def test_initializers_that_cannot_be_read_are_named():
    sparse = next(attribute.sparse_tensor for attribute in MALFORMED["sparse"].attribute)
    sparse.values.name = "W"
    made = weights_by()
    made.graph.sparse_initializer.append(sparse)
    words = "W of LSTM node 'a': the initializer 'W' cannot be read as a constant: "
    with pytest.raises(ValueError, match=f"{words}it is sparse; supported: dense tensors"):
        convert.from_onnx(made)
    damaged = onnx.TensorProto(name="W", data_type=F32, dims=[1, 4 * H, D], raw_data=b"1234")
    with pytest.raises(ValueError, match=words):
        convert.from_onnx(weights_by(W=damaged))


def test_attributes_of_another_type_and_states_without_axes():
    for attribute in (
        {"activations": [1, 2, 3]},
        {"direction": ["forward"]},
        {"hidden_size": GRAPH},
        {"layout": 0.5},
        {"clip": "3"},
    ):
        _, nodes, tensors = lstm("a")
        for name, given in attribute.items():
            kept = [entry for entry in nodes[-1].attribute if entry.name != name]
            del nodes[-1].attribute[:]
            nodes[-1].attribute.extend([*kept, helper.make_attribute(name, given)])
            made = model(nodes, [value("x", T, B, D)], [value("y", T, 1, B, H)], tensors)
            with pytest.raises(ValueError, match=f"{name} of LSTM node 'a' must be [A-Z]+"):
                convert.from_onnx(made)
    for layout in (0, 1):
        _, nodes, tensors = lstm("a", states=["h", "h"], layout=layout)
        tensors.append(tensor(np.ones((), "f"), "h"))
        with pytest.raises(ValueError, match=r"initial_h of LSTM node 'a' must be \[dirs, B, H\]"):
            convert.from_onnx(model(nodes, [value("x", T, B, D)], [value("y", T, 1, B, H)], tensors))


def test_weights_that_are_no_floating_point_numbers_are_a_refusal_too():
    whole = np.ones((1, 4 * H, D), np.int32)
    (refused,) = convert.onnx_networks(weights_by(W=whole)).values()
    assert "int32" in refused.reason
    with pytest.raises(TypeError, match="int32"):
        convert.from_onnx(weights_by(W=whole))


def test_names_that_are_no_utf_8():
    """protobuf returns them as bytes, which cannot be sorted with texts."""
    data = model(lstm("a")[1], [value("x", T, B, D)], [value("y", T, 1, B, H)], lstm("a")[2]).SerializeToString()
    for old, new, words in (
        (b"LSTM", b"\xffSTM", r"has no LSTM node; it has b'\\xffSTM'"),
        (b"hidden_size", b"\xffidden_size", r"has b'\\xffidden_size', which is not supported"),
    ):
        with pytest.raises(ValueError, match=words):
            convert.from_onnx(data.replace(old, new))


def test_a_model_without_a_path_has_no_files_beside_it(tmp_path, monkeypatch):
    """Otherwise its weights would come from any file of that name in the current folder of the process."""
    _, nodes, tensors = lstm("a")
    (tmp_path / "weights.bin").write_bytes(tensors[0].raw_data)
    tensors[0].ClearField("raw_data")
    tensors[0].data_location = onnx.TensorProto.EXTERNAL
    tensors[0].external_data.add(key="location", value="weights.bin")
    made = model(nodes, [value("x", T, B, D)], [value("y", T, 1, B, H)], tensors)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"the initializer 'a\.W' cannot be read as a constant: it is in another file; pass"
    ):
        convert.from_onnx(made.SerializeToString())
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    assert convert.from_onnx(tmp_path / "model.onnx").params


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "link.bin"])
def test_weights_in_a_file_outside_of_the_models_folder_are_not_read(location, tmp_path):
    _, nodes, tensors = lstm("a")
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(tensors[0].raw_data)
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    tensors[0].ClearField("raw_data")
    tensors[0].data_location = onnx.TensorProto.EXTERNAL
    tensors[0].external_data.add(key="location", value=location)
    made = model(nodes, [value("x", T, B, D)], [value("y", T, 1, B, H)], tensors)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ValueError, match=r"model\.onnx cannot be read as an ONNX model"):
        convert.from_onnx(folder / "model.onnx")
