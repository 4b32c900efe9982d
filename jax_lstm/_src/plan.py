"""The arguments and the result of a run of one layer in one direction, and of its derivative, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jax_lstm._src.arrays import Array, DType, Precision
from jax_lstm._src.cell import Cell
from jax_lstm._src.state import LSTMState


class Weights(NamedTuple):
    """One layer in one direction: ih ``[G, D]``, hh ``[G, P]``, bias ``[G]`` or None, hr ``[P, H]`` or None."""

    ih: Array
    hh: Array
    bias: Array | None
    hr: Array | None


class Events(NamedTuple):
    """The events of each step. Each field is bool ``[T, *batch or ones, 1]``, or None if it never happens.

    valid: the step takes place. At any other step, the state passes through unchanged. None: all steps are valid.
    reset: the step starts from the origin, and not from the state before it.
    cut:   no derivative passes back from the step to the state before it.
    """

    valid: Array | None = None
    reset: Array | None = None
    cut: Array | None = None


class Path(NamedTuple):
    """The arrays of a run that its derivative needs: c before each step (after cut and reset), and the gates.

    c_before ``[T, *batch, H]``, or None for a cell without c. gates ``[T, *batch, G]``.
    """

    c_before: Array | None
    gates: Array


class Trace(NamedTuple):
    """The result of a run: the last state, and per step h, c and the path. What is not kept is None."""

    last: LSTMState
    h: Array
    c: Array | None
    path: Path | None


class Kept(NamedTuple):
    """The inputs of the derivative: the arguments of `recurrence.recur`, and what its run has kept."""

    weights: Weights
    x: Array
    carry: LSTMState
    origin: LSTMState
    events: Events
    h: Array
    path: Path


class Moved(NamedTuple):
    """Tangents, or cotangents, of the arguments of `recurrence.recur`. An array without one is None.

    ``weights`` is a `Weights`, of which any field may be None.
    """

    weights: Any
    x: Array | None
    carry: LSTMState
    origin: LSTMState | None


@dataclass(frozen=True)
class Plan:
    """How to run: everything that is fixed while tracing.

    Attributes:
      cell: the equations.
      carry_dtype: dtype of the state in the loop.
      reverse: whether the loop runs from the last step to the first.
      states: whether to keep c after every step.
      path: whether to keep the path.
      unroll: steps per iteration of the compiled loop.
      precision: of every product.
      batch_first: whether the caller's arrays have the batch before the steps.
      backend: the kernels that a program may run in the place of the loops: "native" on a CPU, "pallas" on a TPU, or
        "scan" for none.
    """

    cell: Cell
    carry_dtype: DType
    reverse: bool = False
    states: bool = False
    path: bool = False
    unroll: int = 1
    precision: Precision = None
    batch_first: bool = False
    backend: Literal["scan", "native", "pallas"] = "scan"
