"""ONNX: nodes between a constant and an LSTM node give the bits that ONNX Runtime computes, in every opset."""

from __future__ import annotations

import numpy as np
import pytest

from jax_lstm import LSTMState, convert
from jax_lstm.convert.onnx.constants import Constants
from jax_lstm.convert.onnx.graphs import nodes_of
from tests.support.onnx_models import D, H, X, agrees, arrays, built, helper, narrow, onnx, run, without
from tests.support.requirements import need

F32, F16, F64, I64 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "DOUBLE", "INT64"))
OPSETS = (9, 11, 17, 23)  # the oldest ONNX Runtime of pyproject.toml runs opsets up to 23
A = np.random.default_rng(0).normal(size=(4, 6, 1)).astype("f")


class Chain:
    """Nodes of one opset, whose last output is "v", and the constants that they read."""

    def __init__(self, opset):
        self.opset, self.nodes, self.constants = opset, [], {}

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def node(self, kind, *inputs, outputs=("v",), since=0, named=None, **attributes):
        """Append a node. ``named`` are attributes that became inputs in opset ``since``, by position."""
        given = {name: value for name, value in (named or {}).items() if value is not None}
        if self.opset < since:
            attributes |= given
        elif given:  # a missing input before the last has the name ""
            last = list(named).index(list(given)[-1])
            inputs += tuple(self.constant(given[n]) if n in given else "" for n in list(named)[: last + 1])
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def model(self, kind=F32):
        tensors = [onnx.numpy_helper.from_array(a, name) for name, a in self.constants.items()]
        output = helper.make_tensor_value_info("v", kind, None)
        graph = helper.make_graph(self.nodes, "g", [], [output], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def ours(self):
        graph, _ = next(nodes_of(self.model()))
        return Constants().read(graph.find("v"))

    def theirs(self, kind=F32):
        return run(self.model(kind), None)[0]


def same_bits(ours, theirs):
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert np.ascontiguousarray(ours).tobytes() == theirs.tobytes()


def axes(kind, data, value):
    return lambda chain: chain.node(kind, chain.constant(data), since=13, named={"axes": value})


def sliced(starts, ends, axes=None):
    def add(chain):
        chain.node("Slice", chain.constant(A), since=10, named={"starts": starts, "ends": ends, "axes": axes})

    return add


def split(data, axis, parts, which):
    def add(chain):
        outputs = ["v" if n == which else f"part{n}" for n in range(len(parts))]
        chain.node("Split", chain.constant(data), outputs=outputs, since=13, named={"split": parts}, axis=axis)

    return add


def evenly_split(chain):
    more = {"num_outputs": 3} if chain.opset >= 18 else {}
    size = 5 if more else 6  # in older opsets, the last part must have the same size
    chain.node("Split", chain.constant(A.reshape(6, 4)[:size]), outputs=["a", "b", "v"], **more)


def plain(kind, *constants, **attributes):
    return lambda chain: chain.node(kind, *map(chain.constant, constants), **attributes)


def constant(**value):
    return lambda chain: chain.node("Constant", **value)


CASES = {
    "identity": plain("Identity", A),
    "unsqueeze": axes("Unsqueeze", A, [0]),
    "unsqueeze, axes not in order": axes("Unsqueeze", A[0], [1, 0]),
    "unsqueeze, axes from the end": axes("Unsqueeze", A, [-1, 0]),
    "squeeze": axes("Squeeze", A[:, :1], [2, 1]),
    "squeeze, axis from the end": axes("Squeeze", A[:1], [-1]),
    "squeeze, every axis": axes("Squeeze", A[:1], None),
    "reshape": plain("Reshape", A, np.array([2, -1, 3])),
    "reshape, 0 keeps an axis": plain("Reshape", A, np.array([0, 3, 2])),
    "transpose": plain("Transpose", A, perm=[2, 0, 1]),
    "transpose, all": plain("Transpose", A),
    "slice": sliced([1], [3]),
    "slice, to the end": sliced([1, -4], [2**63 - 1, 2**31], [0, 1]),
    "slice, axis from the end": sliced([0, 2], [1, 5], [-1, 1]),
    "concat": plain("Concat", A, 2 * A, 3 * A[:, :2], axis=1),
    "concat, axis from the end": plain("Concat", A, 2 * A, axis=-1),
    "split": split(A, 1, [1, 3, 2], 1),
    "split, axis from the end": split(A, -2, [4, 2], 1),
    "split, even parts": evenly_split,
    "gather": plain("Gather", A, np.array([[2, 0], [1, -1]]), axis=1),
    "gather, one": plain("Gather", A, np.array(3, np.int32)),
    "expand": plain("Expand", A, np.array([2, 1, 1, 5])),
    "expand, to fewer axes": plain("Expand", A, np.array([1])),
    "constant of shape": plain("ConstantOfShape", np.array([2, 3]), value=helper.make_tensor("v", F32, [1], [-0.0])),
    "constant of shape, zeros": plain("ConstantOfShape", np.array([2, 3])),
    "constant": constant(value=onnx.numpy_helper.from_array(A)),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", CASES)
def test_every_operator_gives_the_bits_of_onnx_runtime(case, opset):
    chain = Chain(opset)
    CASES[case](chain)
    same_bits(chain.ours(), chain.theirs())


def test_a_reshape_whose_0_is_a_size():
    chain = Chain(17)
    plain("Reshape", A[:0], np.array([5, 0]), allowzero=1)(chain)
    same_bits(chain.ours(), chain.theirs())


@pytest.mark.parametrize("case", [{"value_floats": [0.1, 2.0]}, {"value_float": 0.1}])
def test_constant_nodes_of_numbers(case):
    chain = Chain(17)
    constant(**case)(chain)
    same_bits(chain.ours(), chain.theirs())


@pytest.mark.parametrize("opset", OPSETS[1:])
@pytest.mark.parametrize(
    ("starts", "ends", "steps"),
    [
        ([-1], [-(2**63)], [-1]),
        ([-9], [-9], [-1]),  # ONNX begins at the first element, and NumPy takes nothing
        ([9], [-9], [-1]),
        ([-9], [9], [2]),
        ([5, 3], [0, 0], [-2, -1]),
        ([1], [6], [2]),
    ],
)
def test_slices_with_steps(starts, ends, steps, opset):
    chain = Chain(opset)
    named = {"starts": starts, "ends": ends, "axes": [1, 0][: len(starts)], "steps": steps}
    chain.node("Slice", chain.constant(A), since=10, named=named)
    same_bits(chain.ours(), chain.theirs())


@pytest.mark.parametrize(("source", "kind"), [("float64", "FLOAT"), ("float32", "FLOAT16")])
def test_a_cast_rounds_as_in_onnx_runtime(source, kind):
    """Return ties, subnormals, values that overflow to infinity, and random bits."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2 ** (63 if source == "float64" else 31), 10000).astype(source.replace("float", "uint"))
    bits = bits.view(source)
    scaled = [rng.normal(size=5000) * scale for scale in (1, 1e-5, 1e-7, 1e-40, 1e39)]
    ties = np.concatenate([(1 + np.arange(64) * 2.0**-25), np.arange(4096) * 2.0**-25, [65504, 65519.9, 65520, -0.0]])
    with np.errstate(over="ignore"):
        drawn = np.concatenate([bits[np.isfinite(bits)], *scaled, ties]).astype(source)
    to = getattr(onnx.TensorProto, kind)
    chain = Chain(17)
    chain.node("Cast", chain.constant(drawn), to=to)
    same_bits(chain.ours(), chain.theirs(to))


@pytest.mark.parametrize(
    ("given", "kind", "back"),
    [
        (A.astype(np.float16), F32, np.float32),
        (A, F64, np.float64),
        (np.array([0.5, np.inf, np.nan]), F32, np.float32),
        (np.array([2.0**24, -3.0]), I64, np.int64),
        (np.array([2**24, -3]), F32, np.float32),
        (np.array([True, False]), I64, np.int64),
        (np.array([0.5, np.nan], "f"), F64, np.float64),
    ],
)
def test_a_cast_that_keeps_all_values(given, kind, back):
    chain = Chain(17)
    chain.node("Cast", chain.constant(given), to=kind)
    np.testing.assert_array_equal(chain.ours(), given.astype(back), strict=True)
    same_bits(chain.ours(), chain.theirs(kind))


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (np.array([2**24 + 1]), F32, "it rounds int64 to float32"),
        (np.array([0.5]), I64, "it rounds float64 to int64"),
        (np.array([np.nan]), I64, "it rounds float64 to int64"),
        (np.array([0.1]), F16, "it rounds float64 to float16"),  # ONNX Runtime rounds twice: first to float32
        (np.array([0.1], "f"), onnx.TensorProto.BFLOAT16, "it rounds float32 to bfloat16"),
        (np.array([1.0]), onnx.TensorProto.STRING, "it makes object; supported: real numbers"),
        (np.array([1.0]), 99, "cannot be read as a constant"),
    ],
)
def test_another_cast_that_rounds_is_refused(given, kind, words):
    chain = Chain(17)
    chain.node("Cast", chain.constant(given), to=kind)
    with pytest.raises(ValueError, match=f"the Cast node 'v' cannot be read as a constant: .*{words}|{words}"):
        chain.ours()


def as_exported(opset):
    """Return a node, and a model with its W, R and B as torch's exporter leaves them without constant folding.

    The gates are sliced, reordered and joined, and get an axis. Here R is also stored in half precision, and W as its
    transpose.
    """
    node = narrow(arrays())
    chain = Chain(opset)
    for name in "WRB":
        halves = np.split(node[name][0], 2) if name == "B" else [node[name][0]]
        joined = []
        for half, stored in enumerate(halves):
            i, o, f, g = np.split(stored, 4)
            torch_order = np.concatenate([i, f, g, o])
            given = chain.constant(torch_order.T.copy() if name == "W" else torch_order)
            if name == "W":
                chain.node("Transpose", given, outputs=["W.T"], perm=[1, 0])
                given = "W.T"
            pieces = []
            for gate in (0, 3, 1, 2):
                pieces.append(f"{name}{half}.{gate}")
                named = {"starts": [gate * H], "ends": [(gate + 1) * H], "axes": [0]}
                chain.node("Slice", given, outputs=[pieces[-1]], since=10, named=named)
            joined.append(f"{name}{half}")
            chain.node("Concat", *pieces, outputs=[joined[-1]], axis=0)
        if len(joined) > 1:
            chain.node("Concat", *joined, outputs=["both"], axis=0)
            joined = ["both"]
        chain.node("Unsqueeze", *joined, outputs=[name], since=13, named={"axes": [0]})
    model = without(built(node, opset=opset, first=chain.nodes), *"WRB")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in chain.constants.items())
    return node, model


@pytest.mark.isa
@pytest.mark.parametrize("opset", OPSETS)
def test_weights_as_exporters_leave_them_without_constant_folding(opset):
    node, model = as_exported(opset)
    read, expected = convert.from_onnx(model), convert.from_onnx(node)
    for name, a in expected.params.items():
        np.testing.assert_array_equal(read.params[name], a, strict=True)
    np.testing.assert_array_equal(read.state.h, node["initial_h"])
    state = LSTMState(h=node["initial_h"].astype(np.float64), c=node["initial_c"].astype(np.float64))
    agrees(read, run(model, ["Y"], x=X)[0], state=state)


def test_half_precision_weights_behind_casts():
    """Converters to float16 leave such Casts before an operator that must compute in float32."""
    node = narrow(arrays())
    half = {name: node[name].astype(np.float16) for name in "WRB"}
    casts = [helper.make_node("Cast", [f"{name}.half"], [name], to=F32) for name in "WRB"]
    model = without(built(node, first=casts), *"WRB")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, f"{name}.half") for name, a in half.items())
    read = convert.from_onnx(model)
    assert read.params["weight_hh_l0"].dtype == np.float32
    np.testing.assert_array_equal(read.params["weight_hh_l0"][:H], half["R"][0, :H].astype("f"))


def test_states_and_lengths_that_are_folded():
    node = narrow(arrays()) | {"sequence_lens": np.array([6, 1, 4, 2], np.int32)}
    shape = onnx.numpy_helper.from_array(np.array(node["initial_h"].shape), "shape")
    first = [
        helper.make_node("ConstantOfShape", ["shape"], ["initial_h"]),
        helper.make_node("Cast", ["long"], ["sequence_lens"], to=onnx.TensorProto.INT32),
        helper.make_node("Expand", ["c0", "shape"], ["initial_c"]),
    ]
    model = without(built(node, first=first), "initial_h", "initial_c", "sequence_lens")
    for name, a in (("long", np.array([6, 1, 4, 2])), ("c0", node["initial_c"][:, :1])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(a, name))
    model.graph.initializer.append(shape)
    read = convert.from_onnx(model)
    np.testing.assert_array_equal(read.lengths, node["sequence_lens"], strict=True)
    np.testing.assert_array_equal(read.state.h, np.zeros_like(node["initial_h"]), strict=True)
    np.testing.assert_array_equal(read.state.c, np.repeat(node["initial_c"][:, :1], 4, axis=1), strict=True)
    assert read.from_graph == {}


@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own code
@pytest.mark.parametrize("folding", [True, False])
@pytest.mark.parametrize("opset", [11, 17])
def test_what_torch_exports_with_and_without_constant_folding(folding, opset, tmp_path):
    torch = need("torch")
    module, file = torch.nn.LSTM(D, H, 2, bidirectional=True), tmp_path / "torch.onnx"
    given = (torch.randn(2, 4, D),)
    torch.onnx.export(module, given, file, dynamo=False, do_constant_folding=folding, opset_version=opset)
    graph = onnx.load(file).graph
    lstm = next(node for node in graph.node if node.op_type == "LSTM")
    assert (lstm.input[1] in {tensor.name for tensor in graph.initializer}) == folding
    ((name, read),) = convert.onnx_networks(file).items()
    assert list(read.params) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(read.params[name], tensor, strict=True)
