"""The reference with a fault: torch_ref.LSTM with the fault's hooks in their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import torch_ref
from crosscheck.core.problem import Problem, Results
from crosscheck.core.torch_runner import run_torch
from crosscheck.faults.fault import At, Direction, Fault, Params, SequenceAndState, steps_of
from crosscheck.lstm.cases import RecurrentCase
from torch_ref.cell import State, Step, Weights
from torch_ref.loop import run


class FaultyLSTM(torch_ref.LSTM):
    """``forward(x, (h_0, c_0))`` returns ``y, (h_n, c_n)`` in the layout of the case, with the lengths of the case."""

    def __init__(self, fault: Fault, case: RecurrentCase) -> None:
        super().__init__(
            case.input_size,
            case.hidden_size,
            case.num_layers,
            case.bias,
            bidirectional=case.bidirectional,
            proj_size=case.proj_size,
        )
        self.fault, self.case = fault, case
        self._read: Params = {}

    def forward(self, x: Tensor, hx: State) -> SequenceAndState:  # type: ignore[override]
        fault, case = self.fault, self.case
        self._read = {name: getattr(self, name) for name in case.shapes()}
        if fault.weights is not None:
            self._read = fault.weights(dict(self._read), case)
        x = x.transpose(0, case.time_axis)
        if fault.inputs is not None:
            x, hx = fault.inputs(x, hx, case)
        y, last = super().forward(x, hx, case.lengths)
        if fault.outputs is not None:
            y, last = fault.outputs(y, last, case)
        return y.transpose(0, case.time_axis), last

    def _weights(self, layer: int, suffix: str) -> Weights:
        return Weights(*(self._read.get(f"{name}_l{layer}{suffix}") for name in Weights._fields))  # type: ignore[arg-type]

    def _run_row(self, layer: int, suffix: str, x: Tensor, state: State, valid: Tensor | None) -> SequenceAndState:
        weights = self._weights(layer, suffix)
        at = At(layer, bool(suffix), 0, steps_of(self.case))

        def loop(x: Tensor, state: State, valid: Tensor | None, reverse: bool) -> SequenceAndState:
            return run(self._step_from(at, x, reverse), weights, x, state, valid, reverse)

        return (self.fault.direction or Direction.run)(Direction(at, loop, x, state, valid, at.reverse))

    def _step_from(self, at: At, x: Tensor, reverse: bool) -> Step:
        """Return the step of a loop over ``x``, which tells the fault's own step the time."""
        faulty = self.fault.step
        if faulty is None or (self.fault.precision == "float32" and x.dtype != torch.float32):
            return self._step()
        times = iter(range(len(x))[:: -1 if reverse else 1])
        return lambda weights, x, state: faulty(weights, x, state, at._replace(t=next(times)))


def runner(fault: Fault, case: RecurrentCase) -> Callable[..., Results]:
    """Return the runner of the reference with a fault, for the problem of the case or one of the same shapes.

    Raises:
      ValueError: the fault does not apply to the case.
    """
    lacking = fault.lacks(case)
    if lacking:
        raise ValueError(
            f"fault {fault.name!r} makes no difference in case {case.name!r}, which lacks: {', '.join(lacking)}. "
            "Ask fault.applies(case) first."
        )
    module = FaultyLSTM(fault, case)

    def run_fault(problem: Problem, dtype: str, **options: Any) -> Results:
        results = run_torch(module, problem, dtype, **options)
        return results if fault.gradients is None else fault.gradients(results, case)

    return run_fault
