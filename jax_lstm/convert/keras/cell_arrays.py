"""The arrays of one cell of Keras's LSTM, and of Keras 2's CuDNNLSTM.

    LSTM         kernel [D, 4H]   recurrent_kernel [H, 4H]   bias [4H] or none
    CuDNNLSTM    kernel [D, 4H]   recurrent_kernel [H, 4H]   bias [8H]: the input's [4H], then the state's [4H]

Gates are i f c o (c is g). LSTM's matrices are [in, out]. CuDNNLSTM's have these shapes too, but the block of each gate
holds the numbers of cuDNN's matrix [out, in], row by row: cuDNN reads the memory of the block unchanged.
Source: Keras 2's ``CuDNNLSTM._process_batch``, and ``_convert_rnn_weights``, which loads such a layer into LSTM.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from jax.typing import DTypeLike

from jax_lstm.convert import gates
from jax_lstm.convert.arrays import AnyArray, Array, namespace, read_array
from jax_lstm.convert.layers import CellWeights, folded_bias, make_cell

Shape: TypeAlias = tuple[int, ...]
ORDER = "ifgo"
NAMES = ("kernel", "recurrent_kernel", "bias")
_OTHER_CELLS = {3: "a GRU's", 1: "a SimpleRNN's"}  # by gates


def misfit(shapes: Sequence[Shape]) -> str:
    """Return what is wrong with the shapes of a cell's two or three arrays, or "" if nothing is."""
    recurrent = shapes[1] if len(shapes) > 1 else ()
    wide = 4 * recurrent[0] if len(recurrent) == 2 else 0
    if (
        wide
        and len(shapes[0]) == 2
        and shapes[0][1] == recurrent[1] == wide
        and list(shapes[2:]) in ([], [(wide,)], [(2 * wide,)])
    ):
        return ""
    other = _OTHER_CELLS.get(recurrent[1] // recurrent[0] if wide else 0)
    return (
        "must be Keras's LSTM: kernel [D, 4H], recurrent_kernel [H, 4H], bias [4H] or none, or CuDNNLSTM's [8H]; got "
        f"{', '.join(map(str, shapes))}." + (f" These look like {other}, which is no LSTM." if other else "")
    )


def are_recurrent(shapes: Sequence[Shape]) -> bool:
    """Return whether the shapes belong to a recurrent cell, LSTM or not: [D, nH], [H, nH] and biases."""
    matrices = shapes[:2]
    return (
        len(matrices) == 2
        and all(len(shape) == 2 and all(shape) for shape in matrices)
        and matrices[0][1] == matrices[1][1]
        and matrices[1][1] % matrices[1][0] == 0
    )


def may_be_lstm(shapes: Sequence[Shape]) -> bool:
    """Return False if the shapes of a recurrent cell say that it is a GRU or a simple RNN."""
    return shapes[1][1] // shapes[1][0] not in _OTHER_CELLS


def are_cudnn(arrays: Sequence[Array]) -> bool:
    """Return whether a cell's arrays are CuDNNLSTM's. It always has a bias, of another size than LSTM's."""
    return len(arrays) > 2 and tuple(arrays[2].shape) == (8 * arrays[1].shape[0],)


def read_cell(where: str, arrays: Sequence[AnyArray], dtype: DTypeLike | None) -> CellWeights:
    """Return a cell from its two or three arrays, losslessly. ValueError, which has ``where``, if the shapes misfit."""
    named = {name: read_array(f"{where}, {name}", a, dtype) for name, a in zip(NAMES, arrays, strict=False)}
    wrong = misfit([tuple(a.shape) for a in named.values()])
    if wrong:
        raise ValueError(f"{where} {wrong}")
    kernel, recurrent, *biases = stored = list(named.values())
    if are_cudnn(stored):
        bias_ih, bias_hh = namespace(*biases).split(biases[0], 2)
        cell = make_cell(_from_cudnn(kernel), _from_cudnn(recurrent), bias_ih) | {"bias_hh": bias_hh}
    else:
        cell = make_cell(kernel.T, recurrent.T, biases[0] if biases else None)
    return {name: gates.reorder(a, ORDER, gates.TORCH) for name, a in cell.items()}


def write_cell(cell: CellWeights, strict: bool) -> list[Array]:
    """Return LSTM's arrays of a cell, with one bias; the inverse of `read_cell`."""
    order = partial(gates.reorder, stored=gates.TORCH, wanted=ORDER)
    bias = folded_bias(cell, "Keras", strict)
    return [order(cell["weight_ih"]).T, order(cell["weight_hh"]).T] + ([] if bias is None else [order(bias)])


def _from_cudnn(stored: Array) -> Array:
    """Return CuDNNLSTM's ``[in, 4H]`` as ``[4H, in]``."""
    xp = namespace(stored)
    return xp.concatenate([block.reshape(block.shape[::-1]) for block in xp.split(stored, len(ORDER), axis=1)])
