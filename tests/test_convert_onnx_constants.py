"""ONNX: what stands between a constant and an LSTM node gives the bits that ONNX Runtime computes, in every opset."""

from __future__ import annotations

import numpy as np
import pytest

from jax_lstm.convert.onnx_constants import Constants
from jax_lstm.convert.onnx_graphs import nodes_of
from tests.onnx_models import helper, onnx
from tests.requirements import need

F32, F16, F64, I64 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "DOUBLE", "INT64"))
OPSETS = (11, 17, 26)
A = np.random.default_rng(0).normal(size=(4, 6, 1)).astype("f")


class Chain:
    """Nodes of one opset that end in "v", and the constants that they read."""

    def __init__(self, opset):
        self.opset, self.nodes, self.constants = opset, [], {}

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def node(self, kind, *inputs, outputs=("v",), since=0, named=None, **attributes):
        """Append a node. ``named`` are attributes that became inputs in opset ``since``, by position, or None."""
        given = {name: value for name, value in (named or {}).items() if value is not None}
        if self.opset < since:
            attributes |= given
        elif given:  # one that is missing before the last is an input without a name
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
        runtime = need("onnxruntime")
        session = runtime.InferenceSession(self.model(kind).SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {})[0]


def same_bits(ours, theirs):
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert np.ascontiguousarray(ours).tobytes() == theirs.tobytes()


def axes(kind, data, value):
    return lambda chain: chain.node(kind, chain.constant(data), since=13, named={"axes": value})


def sliced(starts, ends, axes=None, steps=None):
    def add(chain):
        named = {"starts": starts, "ends": ends, "axes": axes} | ({} if steps is None else {"steps": steps})
        chain.node("Slice", chain.constant(A), since=10, named=named)

    return add


def split(data, axis, parts, which):
    def add(chain):
        outputs = ["v" if n == which else f"part{n}" for n in range(len(parts))]
        chain.node("Split", chain.constant(data), outputs=outputs, since=13, named={"split": parts}, axis=axis)

    return add


def evenly_split(chain):
    more = {"num_outputs": 3} if chain.opset >= 18 else {}
    size = 5 if more else 6  # older opsets have no smaller last part
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
    "constant, sparse": None,
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", [name for name, add in CASES.items() if add])
def test_every_operator_gives_the_bits_of_onnx_runtime(case, opset):
    chain = Chain(opset)
    CASES[case](chain)
    same_bits(chain.ours(), chain.theirs())


@pytest.mark.parametrize("case", [{"value_floats": [0.1, 2.0]}, {"value_float": 0.1}])
def test_constant_nodes_of_numbers(case):
    chain = Chain(17)
    constant(**case)(chain)
    same_bits(chain.ours(), chain.theirs())
