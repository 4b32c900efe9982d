"""The weights of one cell of Keras's: LSTM's, and those of Keras 2's CuDNNLSTM.

    LSTM         kernel [D, 4H]   recurrent_kernel [H, 4H]   bias [4H] or none
    CuDNNLSTM    kernel [D, 4H]   recurrent_kernel [H, 4H]   bias [8H]: the input's [4H], then the state's [4H]

Gates are i f c o, which are torch's i f g o. LSTM's matrices are [in, out]. CuDNNLSTM's have these shapes, but the
block of each gate holds the numbers of cuDNN's matrix [out, in], row by row: cuDNN reads the block's memory as it is.
Source: Keras 2's ``CuDNNLSTM._process_batch`` and ``_convert_rnn_weights``, which reads such a layer's file into LSTM.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jax_lstm.convert import gates
from jax_lstm.convert.arrays import namespace, read_array
from jax_lstm.convert.layers import Cell, folded, with_two_biases

ORDER = "ifgo"
NAMES = ("kernel", "recurrent_kernel", "bias")


_OTHERS = {3: "a GRU's", 1: "a SimpleRNN's"}  # by gates


def misfit(shapes: Sequence[tuple[int, ...]]) -> str:
    """Return what is wrong with the shapes of a cell's two or three arrays, "" if nothing is."""
    recurrent = shapes[1] if len(shapes) > 1 else ()
    wide = 4 * recurrent[0] if len(recurrent) == 2 else 0
    if (
        wide
        and len(shapes[0]) == 2
        and shapes[0][1] == recurrent[1] == wide
        and list(shapes[2:]) in ([], [(wide,)], [(2 * wide,)])
    ):
        return ""
    other = _OTHERS.get(recurrent[1] // recurrent[0] if wide else 0)
    return (
        "must be Keras's LSTM: kernel [D, 4H], recurrent_kernel [H, 4H], bias [4H] or none, or CuDNNLSTM's [8H]; got "
        f"{', '.join(map(str, shapes))}." + (f" These look like {other}, which is no LSTM." if other else "")
    )


def may_be_lstm(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether a recurrent cell's arrays are not those of a GRU or of a simple RNN by their shapes."""
    return shapes[1][1] // shapes[1][0] not in _OTHERS


def is_recurrent(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether a cell's arrays are a recurrent one's by their shapes, LSTM or not: [D, nH], [H, nH] and biases."""
    matrices = shapes[:2]
    return (
        len(matrices) == 2
        and all(len(shape) == 2 and all(shape) for shape in matrices)
        and matrices[0][1] == matrices[1][1]
        and matrices[1][1] % matrices[1][0] == 0
    )


def is_cudnn(arrays: Sequence[Any]) -> bool:
    """Whether a cell's arrays are CuDNNLSTM's. LSTM's differ in the size of the bias, and CuDNNLSTM always has one."""
    return len(arrays) > 2 and tuple(arrays[2].shape) == (8 * arrays[1].shape[0],)


def read_cell(where: str, arrays: Sequence[Any], dtype: Any) -> Cell:
    """Return a cell of its two or three arrays; ``where`` names it in errors. Lossless. ValueError if they misfit."""
    named = {name: read_array(f"{where}, {name}", a, dtype) for name, a in zip(NAMES, arrays, strict=False)}
    wrong = misfit([tuple(a.shape) for a in named.values()])
    if wrong:
        raise ValueError(f"{where} {wrong}")
    stored = list(named.values())
    if is_cudnn(stored):
        matrices = [_of_cudnn(a) for a in stored[:2]]
        bias_ih, bias_hh = namespace(stored[2]).split(stored[2], 2)
        cell = {"weight_ih": matrices[0], "weight_hh": matrices[1], "bias_ih": bias_ih, "bias_hh": bias_hh}
    else:
        cell = with_two_biases(stored[0].T, stored[1].T, stored[2] if len(stored) > 2 else None)
    return {name: gates.reordered(a, ORDER, gates.TORCH) for name, a in cell.items()}


def write_cell(cell: Cell, strict: bool) -> list[Any]:
    """Return LSTM's arrays of a cell, with one bias; the other way of :func:`read_cell`."""
    order = partial(gates.reordered, stored=gates.TORCH, wanted=ORDER)
    bias = folded(cell, "Keras", strict)
    return [order(cell["weight_ih"]).T, order(cell["weight_hh"]).T] + ([] if bias is None else [order(bias)])


def _of_cudnn(stored: Any) -> Any:
    """Return [4H, in] of CuDNNLSTM's [in, 4H]."""
    xp = namespace(stored)
    return xp.concatenate([block.reshape(block.shape[::-1]) for block in xp.split(stored, len(ORDER), axis=1)])
