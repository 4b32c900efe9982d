"""onnx's reference evaluator silently ignores four inputs and attributes of LSTM.

Documented: onnx.reference is a reference implementation of the operators; LSTM's documentation defines sequence_lens,
activations, clip and input_forget.
Seen: a model that uses any of them gives the same bits as without it.
Why it matters: a test of a backend or a converter against the reference evaluator expects wrong results, or reports a
right backend as wrong. ONNX Runtime supports all four.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__)

rng = np.random.default_rng(0)
feed = {"X": rng.normal(size=(5, 2, 3)), "W": rng.normal(size=(1, 16, 3)), "R": rng.normal(size=(1, 16, 4))}
feed = {name: a.astype(np.float32) for name, a in feed.items()}


def run(lengths=None, **attributes):
    names = ["X", "W", "R"] + (["", "lengths"] if lengths is not None else [])
    given = feed | ({"lengths": np.array(lengths, np.int32)} if lengths is not None else {})
    kinds = {name: TensorProto.INT32 if name == "lengths" else TensorProto.FLOAT for name in given}
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    node = helper.make_node("LSTM", names, ["Y"], hidden_size=4, **attributes)
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "lstm", inputs, [output]))
    return ReferenceEvaluator(model).run(None, given)[0]


plain = run()
seen = True
for name, options in {
    "sequence_lens=[2, 5]": {"lengths": [2, 5]},
    "activations=[Sigmoid, Relu, Tanh]": {"activations": ["Sigmoid", "Relu", "Tanh"]},
    "clip=0.1": {"clip": 0.1},
    "input_forget=1": {"input_forget": 1},
}.items():
    same = np.array_equal(run(**options), plain)
    print(f"{name}: the same output as without it: {same}, expected False")
    seen = seen and same
print("seen" if seen else "not seen any more")
raise SystemExit(0 if seen else 1)
