"""The recurrent state, by name.

Flax carries ``(c, h)`` and torch ``(h, c)``; a swap raises nothing and only bends the numbers. So the state
here is no tuple: it cannot be unpacked, and no pair is taken for it. Write ``LSTMState(h=..., c=...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import jax
from jax import export


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LSTMState:
    """Hidden state ``h`` and cell state ``c`` of an LSTM; a JAX pytree.

    From :func:`jax_lstm.lstm` both are ``[L*directions, *batch, H]``, rows in torch's order (layer 0 forward,
    layer 0 reverse, layer 1 forward, ...); ``h`` is ``P`` wide when there is a projection. From
    :func:`jax_lstm.lstm_cell` they are ``[*batch, H]``.

    To read, both are arrays. To make one, anything may stand in their place that JAX puts into a tree: NumPy arrays,
    jax.ShapeDtypeStruct, shardings, axes of jax.vmap. (Inside this package an RNN's state has None as ``c``; no public
    function gives one out.)
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


# So that jax.export can write functions that take or return one; a process that reads them imports jax_lstm first.
export.register_pytree_node_serialization(
    LSTMState,
    serialized_name="jax_lstm.LSTMState",
    serialize_auxdata=lambda _: b"",
    deserialize_auxdata=lambda _: (),
)
