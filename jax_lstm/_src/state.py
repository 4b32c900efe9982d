"""The recurrent state, by name.

Flax carries ``(c, h)`` and torch ``(h, c)``. A swap raises nothing, and only the numbers are wrong. Therefore the state
here is no tuple: it cannot be unpacked, and no function takes a pair for it. Write ``LSTMState(h=..., c=...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import jax
from jax import export


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LSTMState:
    """The hidden state ``h`` and the cell state ``c`` of an LSTM; a JAX pytree.

    `jax_lstm.lstm` returns h ``[R, *batch, P]`` and c ``[R, *batch, H]``, rows in torch's order (layer 0 forward, layer
    0 reverse, layer 1 forward, ...). P is the width of the projection, or H without one. `jax_lstm.lstm_cell` returns h
    ``[*batch, P]`` and c ``[*batch, H]``.

    A state has no order, so that h and c cannot be swapped by accident: unpacking and indexing raise TypeError. The
    constructor takes anything that JAX puts into a tree: NumPy arrays, jax.ShapeDtypeStruct, shardings, axes of
    jax.vmap. (Inside this package, the state of an RNN has None as ``c``. No public function returns such a state.)

    Attributes:
      h: the hidden state, a jax.Array.
      c: the cell state, a jax.Array.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> state = jax_lstm.LSTMState(h=jnp.zeros((1, 4, 16)), c=jnp.ones((1, 4, 16)))
      >>> detached = jax.tree.map(jax.lax.stop_gradient, state)
      >>> detached.h.shape, float(detached.c[0, 0, 0])
      ((1, 4, 16), 1.0)
    """

    h: jax.Array
    c: jax.Array

    if TYPE_CHECKING:

        def __init__(self, h: Any, c: Any) -> None: ...

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "an LSTMState has no order and cannot be unpacked; write state.h and state.c. For code that unpacks Flax's "
            "(c, h), make the cell with Flax's names, LSTMCell(features=...)."
        )

    def __getitem__(self, index: Any) -> NoReturn:
        iter(self)


# jax.export can then write functions that take or return a state. A process that reads them imports jax_lstm first.
export.register_pytree_node_serialization(
    LSTMState,
    serialized_name="jax_lstm.LSTMState",
    serialize_auxdata=lambda _: b"",
    deserialize_auxdata=lambda _: (),
)
