"""A fault: one mistake that a port of an LSTM can have, as data.

It departs from the reference in one or two of six places, its hooks. Every hook gets tensors in one layout, whatever
the case's: x [T, *batch, D], y [T, *batch, O], states [R, *batch, P] and [R, *batch, H], a layer's state without R.
The first five are torch operations that autograd goes through, so that a fault in the outputs has the gradients which
a port with that mistake would have; one in the backward pass alone is made of ``detach`` and of custom derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from crosscheck.core.finding import Precision
from crosscheck.core.problem import Results
from crosscheck.lstm.cases import Case, RecurrentCase
from torch_ref.cell import Weights

State = tuple[Tensor, ...]
Params = dict[str, Tensor]
Run = Callable[[Tensor, State, Tensor | None, bool], tuple[Tensor, State]]


class At(NamedTuple):
    """Where a hook is called: layer, direction, time t (0 for a whole direction), and the longest row's length."""

    layer: int
    reverse: bool
    t: int
    steps: int


def steps_of(case: RecurrentCase) -> int:
    """The length of the longest row: what comes after it is padding."""
    return case.steps if case.lengths is None else max(case.lengths, default=0)


def _filled_rows(case: RecurrentCase) -> int:
    lengths = case.lengths
    return (case.batch or 1) if lengths is None else sum(length > 0 for length in lengths)


def _out(case: RecurrentCase) -> int:
    return case.proj_size or case.hidden_size


NEEDS: dict[str, Callable[[RecurrentCase], bool]] = {
    "bias": lambda case: case.bias,
    "two layers": lambda case: case.num_layers > 1,
    "both directions": lambda case: case.bidirectional,
    "several rows of states": lambda case: case.rows > 1,
    "projection": lambda case: case.proj_size > 0,
    "no projection": lambda case: case.proj_size == 0,
    "two units": lambda case: _out(case) > 1,
    "two features": lambda case: case.input_size > 1,
    "two steps": lambda case: steps_of(case) > 1,
    "a batch": lambda case: _filled_rows(case) > 1,
    "padding": lambda case: case.lengths is not None and any(0 < n < case.steps for n in case.lengths),
    "rows that end early": lambda case: case.lengths is not None and any(n < case.steps for n in case.lengths),
    "cotangents on states": lambda case: case.loss == "all",
}


@dataclass(frozen=True)
class Fault:
    """A mistake by name. ``description`` completes "behaves exactly like ...".

    kind: "outputs", or "gradients" for one that leaves every output bit for bit as it is. precision: "float64" if float64
    shows it, "float32" for reduced precision of float32. layout: a mistake of layout or of states, such as a gate order,
    which must change the outputs unless the inputs are degenerate. homogeneity: to be seen only where cotangents are
    2^20 times their size. needs: keys of ``NEEDS``, what a case must have for the mistake to make a difference.

    weights(params, case): what the network reads in the place of its parameters.
    inputs(x, (h_0, c_0), case): the same, before the first layer.
    direction(run, x, state, valid, at): y and the last state of one layer in one direction. ``run(x, state, valid,
        reverse)`` is the right one; valid is bool [T, *batch, 1], or None where there is no padding.
    step(weights, x, state, at): the state after one time step.
    outputs(y, (h_n, c_n), case): the same, after the last layer.
    gradients(arrays, case): all named NumPy results after the run, of which it may change those named Gradient("...").
    """

    name: str
    description: str
    kind: Literal["outputs", "gradients"]
    precision: Precision = "float64"
    layout: bool = False
    homogeneity: bool = False
    needs: tuple[str, ...] = ()
    weights: Callable[[Params, RecurrentCase], Params] | None = None
    inputs: Callable[[Tensor, State, RecurrentCase], tuple[Tensor, State]] | None = None
    direction: Callable[[Run, Tensor, State, Tensor | None, At], tuple[Tensor, State]] | None = None
    step: Callable[[Weights, Tensor, Any, At], State] | None = None
    outputs: Callable[[Tensor, State, RecurrentCase], tuple[Tensor, State]] | None = None
    gradients: Callable[[Results, RecurrentCase], Results] | None = None

    def __post_init__(self):
        unknown = [need for need in self.needs if need not in NEEDS]
        if unknown:
            raise ValueError(f"fault {self.name!r} needs {unknown}; expected some of {', '.join(NEEDS)}.")

    def applies(self, case: Case) -> bool:
        """Would the mistake show in this case? Never in one of another kind than an LSTM with at least one step."""
        return not self.lacks(case)

    def lacks(self, case: Case) -> list[str]:
        """What the case would have to have and has not."""
        if not isinstance(case, RecurrentCase) or case.kind != "lstm":
            return ["an LSTM case"]
        if steps_of(case) < 1 or case.batch == 0:
            return ["a step"]
        return [need for need in self.needs if not NEEDS[need](case)]


def wrong_outputs(name: str, departure: str, *needs: str, **more: Any) -> Fault:
    """A fault of kind "outputs": "the reference with ``departure``". ``more`` are its other fields, hooks above all."""
    return Fault(name, f"the reference with {departure}", "outputs", needs=needs, **more)


def wrong_gradients(name: str, departure: str, *needs: str, **more: Any) -> Fault:
    """As :func:`wrong_outputs`, of kind "gradients"."""
    return Fault(name, f"the reference with {departure}", "gradients", needs=needs, **more)
