"""One step of one layer after its products, for any cell: from the gate sums to the next state.

The loop over time (`recurrence`), the step of a stream (`stream_steps`) and a single call of a cell (`single_step`)
share it. How the gate sums are added stays with each of them: the recurrence has projected the inputs of a whole block
before its loop and adds gate by gate. A stream adds all gates and then splits them. A single cell adds its two biases
one after the other. Another order of these additions and splits gives another compiled program, and other last bits.
"""

from __future__ import annotations

from collections.abc import Callable

from jax_lstm._src.arrays import Array, DTypeLike, Gates
from jax_lstm._src.cell import Cell, CellState
from jax_lstm._src.dtypes import cast_floating
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import in_one_dtype


def next_state(
    cell: Cell, sums: Gates, c_before: CellState, project: Callable[[Array], Array] | None, carry_dtype: DTypeLike
) -> tuple[Gates, LSTMState]:
    """Return the gates and the next state.

    Args:
      cell: the equations.
      sums: the sum inside each gate, ``[*batch, H]``, in at least float32.
      c_before: the cell state before the step, ``[*batch, H]``, or None.
      project: the product with weight_hr, or None without a projection.
      carry_dtype: dtype of the next state.
    """
    gates = cell.activate(sums)
    m, c = cell.advance(*in_one_dtype(gates, c_before))
    h = m if project is None else project(m)
    return gates, cast_floating(LSTMState(h, c), carry_dtype)
