"""ONNX Runtime: a model by jax_lstm.convert.to_onnx, on the CPU, whose kernel computes in float32 and forward alone."""

from __future__ import annotations

import numpy as np
import onnxruntime

from crosscheck.core.problem import Problem, Results
from crosscheck.libraries.implementation import require
from crosscheck.libraries.layers import NO_PROJECTION, NO_RNN
from crosscheck.lstm.cases import Case, RecurrentCase
from jax_lstm import convert

LACKING = {
    "RNN": NO_RNN,
    "projection": NO_PROJECTION,
    "no batch": "its LSTM wants a batch axis",
    "text": "this side has no embedding and no loss",
}


def runner(case: Case):
    require(case, LACKING)
    assert isinstance(case, RecurrentCase)

    def run(problem: Problem, dtype: str) -> Results:
        params = {name: np.asarray(a, dtype) for name, a in problem.params.items()}
        feed = {name: np.asarray(a, dtype) for name, a in problem.input_leaves.items()}
        if case.lengths is not None:
            feed["lengths"] = np.asarray(case.lengths, np.int32)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        model = convert.to_onnx(
            params, states=True, lengths=case.lengths is not None, time_major=case.time_major
        ).SerializeToString()
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        found = session.run(list(problem.output_names), feed)
        return dict(zip(problem.output_names, found, strict=True))

    return run
