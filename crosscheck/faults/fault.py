"""A fault: one mistake that a port of an LSTM can have, as data.

A fault departs from the reference in one or two of six places, its hooks. Every hook gets tensors in one layout,
whatever the layout of the case: x ``[T, *batch, D]``, y ``[T, *batch, O]``, h ``[R, *batch, P]`` and
c ``[R, *batch, H]`` with R layers times directions. The states of one layer have no axis R.

Autograd differentiates the first five hooks. Therefore a fault in the outputs has the gradients of a port with this
mistake. A fault that is only in the backward pass uses ``detach`` or a derivative of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from crosscheck.core.finding import Precision
from crosscheck.core.problem import Results
from crosscheck.lstm.cases import Case, RecurrentCase
from torch_ref.cell import State, Weights


class At(NamedTuple):
    """Where a hook is called.

    Attributes:
      layer: the layer.
      reverse: the direction.
      t: the time step; 0 for a whole direction.
      steps: the length of the longest row.
    """

    layer: int
    reverse: bool
    t: int
    steps: int


Params: TypeAlias = dict[str, Tensor]
SequenceAndState: TypeAlias = tuple[Tensor, State]


@dataclass(frozen=True)
class Direction:
    """One layer in one direction, as the reference is about to run it.

    Attributes:
      at: where it is.
      loop: runs ``(x, state, valid, reverse)`` as the reference does.
      x: its inputs.
      state: its initial state.
      valid: bool ``[T, *batch, 1]``, or None without padding.
      reverse: whether to run from the last step to the first.
    """

    at: At
    loop: Callable[[Tensor, State, Tensor | None, bool], SequenceAndState]
    x: Tensor
    state: State
    valid: Tensor | None
    reverse: bool

    def run(self, **changes: Any) -> SequenceAndState:
        """Return y and the last state, with other values in some fields."""
        it = replace(self, **changes)
        return it.loop(it.x, it.state, it.valid, it.reverse)


WeightsHook: TypeAlias = Callable[[Params, RecurrentCase], Params]
EndsHook: TypeAlias = Callable[[Tensor, State, RecurrentCase], SequenceAndState]
DirectionHook: TypeAlias = Callable[[Direction], SequenceAndState]
StepHook: TypeAlias = Callable[[Weights, Tensor, State, At], State]
GradientsHook: TypeAlias = Callable[[Results, RecurrentCase], Results]


class Wrong(StrEnum):
    """The part of a program that is wrong. The value is its name in results."""

    OUTPUTS = "outputs"
    GRADIENTS = "gradients"  # every output equals the reference's, bit for bit
    NOTHING = "right"


def steps_of(case: RecurrentCase) -> int:
    """Return the length of the longest row. What comes after it is padding."""
    return case.steps if case.lengths is None else max(case.lengths, default=0)


def _filled_rows(case: RecurrentCase) -> int:
    lengths = case.lengths
    return (case.batch or 1) if lengths is None else sum(length > 0 for length in lengths)


NEEDS: dict[str, Callable[[RecurrentCase], bool]] = {
    "bias": lambda case: case.bias,
    "two layers": lambda case: case.num_layers > 1,
    "both directions": lambda case: case.bidirectional,
    "several rows of states": lambda case: case.rows > 1,
    "projection": lambda case: case.proj_size > 0,
    "no projection": lambda case: case.proj_size == 0,
    "two units": lambda case: case.output_size > 1,
    "two features": lambda case: case.input_size > 1,
    "two steps": lambda case: steps_of(case) > 1,
    "a batch": lambda case: _filled_rows(case) > 1,
    "padding": lambda case: case.lengths is not None and any(0 < n < case.steps for n in case.lengths),
    "rows that end early": lambda case: case.lengths is not None and any(n < case.steps for n in case.lengths),
    "cotangents on states": lambda case: case.loss == "all",
}


@dataclass(frozen=True)
class Fault:
    """One mistake.

    Attributes:
      name: its name.
      description: what a program with it behaves exactly like.
      kind: what is wrong, outputs or only gradients.
      precision: "float32" if the mistake is reduced precision of float32, which float64 cannot show. ``step`` is then
        the right one in float64.
      layout: a mistake of layout or of states, such as a gate order. It changes the outputs unless the inputs are
        degenerate.
      homogeneity: only cotangents of 2^20 times their size show it.
      needs: keys of ``NEEDS``: what a case must have for the mistake to make a difference.
      weights: ``(params, case)`` -> what the network reads in place of its parameters.
      inputs: ``(x, (h_0, c_0), case)`` -> the same, before the first layer.
      direction: ``(one)`` -> y and the last state of ``one``, a `Direction`. ``one.run()`` is the right one.
      step: ``(weights, x, state, at)`` -> the state after one time step.
      outputs: ``(y, (h_n, c_n), case)`` -> the same, after the last layer.
      gradients: ``(results, case)`` -> all NumPy results after the run. It may change only the gradients.
    """

    name: str
    description: str
    kind: Wrong
    precision: Precision = "float64"
    layout: bool = False
    homogeneity: bool = False
    needs: tuple[str, ...] = ()
    weights: WeightsHook | None = None
    inputs: EndsHook | None = None
    direction: DirectionHook | None = None
    step: StepHook | None = None
    outputs: EndsHook | None = None
    gradients: GradientsHook | None = None

    def __post_init__(self) -> None:
        unknown = [need for need in self.needs if need not in NEEDS]
        if unknown:
            raise ValueError(f"fault {self.name!r} needs {unknown}; expected some of {', '.join(NEEDS)}.")

    def applies(self, case: Case) -> bool:
        """Return whether the mistake shows in a case. It does only in an LSTM case with at least one step."""
        return not self.lacks(case)

    def lacks(self, case: Case) -> list[str]:
        """Return what the mistake needs and the case does not have."""
        if not isinstance(case, RecurrentCase) or case.kind != "lstm":
            return ["an LSTM case"]
        if steps_of(case) < 1 or case.batch == 0:
            return ["a step"]
        return [need for need in self.needs if not NEEDS[need](case)]


def wrong_outputs(name: str, departure: str, *needs: str, **fields: Any) -> Fault:
    """Return a fault in the outputs, described as "the reference with ``departure``".

    Args:
      name: its name.
      departure: what is different, in words.
      *needs: keys of ``NEEDS``.
      **fields: other fields of the fault, above all hooks.
    """
    return Fault(name, f"the reference with {departure}", Wrong.OUTPUTS, needs=needs, **fields)


def wrong_gradients(name: str, departure: str, *needs: str, **fields: Any) -> Fault:
    """Return a fault that is only in the gradients, as `wrong_outputs` does."""
    return Fault(name, f"the reference with {departure}", Wrong.GRADIENTS, needs=needs, **fields)
