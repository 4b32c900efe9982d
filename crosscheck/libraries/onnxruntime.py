"""ONNX Runtime on the CPU, on a model by `jax_lstm.convert.to_onnx`. Its kernel is float32 and forward only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from crosscheck.core.problem import Problem, Results
from crosscheck.libraries.adapter import NO_PROJECTION, NO_RNN
from crosscheck.libraries.implementation import Runner, require
from crosscheck.lstm.cases import Case, RecurrentCase
from jax_lstm import convert

LACKING = {
    "RNN": NO_RNN,
    "projection": NO_PROJECTION,
    "no batch": "its LSTM needs a batch axis",
    "text": "this implementation has no embedding and no loss",
}


def runner(case: Case) -> Runner:
    """Return the runner.

    Raises:
      NotSupported: the library lacks what the case asks for.
    """
    require(case, LACKING)
    assert isinstance(case, RecurrentCase)

    def run(problem: Problem, dtype: str) -> Results:
        params = {name: np.asarray(a, dtype) for name, a in problem.params.items()}
        feed = {name: np.asarray(a, dtype) for name, a in problem.input_leaves.items()}
        if case.lengths is not None:
            feed["lengths"] = np.asarray(case.lengths, np.int32)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        options: dict[str, Any] = {"states": True, "lengths": case.lengths is not None, "time_major": case.time_major}
        model = convert.to_onnx(params, **options).SerializeToString()
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        outputs = session.run(list(problem.output_names), feed)
        return dict(zip(problem.output_names, outputs, strict=True))

    return run
