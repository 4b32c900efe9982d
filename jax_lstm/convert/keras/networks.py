"""Keras's LSTM: layers, cells, stacks and Bidirectional, as objects, as lists of weights and in files.

    kernel [D, 4H]     recurrent_kernel [H, 4H]     bias [4H] or none     gates i f c o, which are torch's i f g o

Matrices are [in, out] and there is one bias. States are [h, c], of Bidirectional [h, c] forward and then reverse.
Keras 2's CuDNNLSTM keeps its weights in another layout, see keras_cells.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert.keras.cells import NAMES, read_cell, write_cell
from jax_lstm.convert.keras.files import opened
from jax_lstm.convert.keras.inventory import Inventory, KerasRefusal, each_network, take
from jax_lstm.convert.keras.models import inventory_of_object, is_keras_object, is_model
from jax_lstm.convert.layers import Cell, Layer, each, joined, split

EXPECTED = (
    "the weights of Keras's LSTM, kernel, recurrent_kernel and bias, as a list or by these names, or a list of such, "
    "or an LSTM, Bidirectional, RNN, LSTMCell or model object, or the path of a .keras, .weights.h5 or .h5 file"
)


def from_keras(
    source: Any, *, layers: str | Sequence[str] | None = None, bidirectional: bool | None = None, dtype: Any = None
) -> dict[str, Any]:
    """Reads LSTMs of Keras 3 or 2, of any backend, as a parameter tree of this package. Keras need not be there.

    Args:
      source: one of

        - weights as ``get_weights()`` gives them, [kernel, recurrent_kernel, bias] a cell, or without the bias
          (use_bias=False), for as many cells as there are, forward before reverse, in one list or in lists of lists; or
          a mapping of the names "kernel", "recurrent_kernel" and "bias", or a list of such;
        - a layer: LSTM, LSTMCell, RNN of an LSTMCell or of several, Bidirectional of these; or a list of layers;
        - a Sequential or functional model, or the path of one saved as .keras, or as .h5 or .hdf5 by Keras 2 or 3;
        - the path of a file of weights: .weights.h5, or .h5 or .hdf5 of Keras 2. A file is known by its content.

        Arrays may be those of Keras 2's CuDNNLSTM, whose bias has size 8H: an LSTM's has 4H.
      layers: of a model or file, the names of the LSTM layers to take, from input to output; those of a model within
        the model as "inner/lstm". None takes all there are. They become one stack, so each must read the output of the
        one before it: what stands between two is Dropout and its like, or the layers are refused.
      bidirectional: whether weights in a list are of two directions, in pairs. None reads it off their shapes, which
        fails for two cells of D = H alone. All other sources say it themselves, and are held to it.
      dtype: dtype to cast to; None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays. The bias becomes bias_ih, and bias_hh is zero; use_bias=False gives no
      biases. Lossless: :func:`to_keras` gives the same bits back. CuDNNLSTM's two biases become bias_ih and bias_hh,
      which is lossless too.

      Objects and files of whole models say what they compute, and are refused if it is not this LSTM. Keras before
      2.3, and TensorFlow 1's, had recurrent_activation="hard_sigmoid" unless told otherwise. Files of weights, and
      arrays, do not say it: they are taken for activation="tanh", recurrent_activation="sigmoid", go_backwards=False,
      merge_mode="concat", and for layers that follow one another directly. A .weights.h5 file does not say the order of
      its layers either.

      A file of Keras 2 gives a class by its name only: a class of the user's own that is named LSTM, and was not
      registered, is taken for Keras's.

      Dropout (none at inference), return_sequences, return_state, stateful, time_major and unroll are no part of the
      weights, and a mask (mask_zero, Masking) is none either: pass the ``lengths`` that it stands for.
      Bidirectional's output at return_sequences=False is the last layer's two rows of ``state.h``, side by side.

    Raises:
      ValueError, TypeError: the source is another library's or no LSTM; its layers compute something else (another
        activation, go_backwards outside Bidirectional, another merge_mode), or do not fit one another; ``layers`` names
        one that is not there; or a file is damaged.
      ImportError: a file is to be read and h5py is not installed.
      OSError: a file is not there, or may not be read.
    """
    found = _read(source, layers, bidirectional, partial(read_cell, dtype=dtype))
    if bidirectional is not None and any(len(layer) != 1 + bidirectional for layer in found):
        raise ValueError(f"bidirectional={bidirectional}, and source has {len(found[0])} direction(s) in a layer.")
    return joined(found)


def keras_networks(source: Any, *, dtype: Any = None) -> dict[str, dict[str, Any] | KerasRefusal]:
    """Reads every LSTM layer of a model or file on its own.

    Args:
      source: a layer, a model or a path, as for :func:`from_keras`.
      dtype: dtype to cast to; None keeps each array's own.

    Returns:
      By Keras's name of the layer, in a model within the model "inner/lstm": a torch.nn.LSTM state dict, as
      :func:`from_keras` gives it; or a :class:`KerasRefusal` with the reason why the layer cannot be read. A GRU, a
      wrapper such as TimeDistributed around an LSTM, and a layer of the user's own class are among the latter. Layers
      that are not recurrent are left out.

    Raises:
      ValueError, TypeError: the source is none of these, a model of the user's own class or a file that is damaged as
        a whole.
      ImportError, OSError: as for :func:`from_keras`.
    """
    with _inventory(source) as inventory:
        if inventory is None:
            refuse_tree("source", "a layer, a model or a path of Keras's", source)
        return each_network(inventory, partial(read_cell, dtype=dtype))


def to_keras(params: Mapping[str, Any], *, strict: bool = False) -> list[Any]:
    """Writes an LSTM as Keras's list of weights; the other way of :func:`from_keras`.

    ``layer.set_weights(written)`` puts them into a built LSTM, LSTMCell, RNN or Bidirectional, and
    ``model.set_weights(written)`` into a Sequential of such layers alone.

    Args:
      params: a torch.nn.LSTM state dict without projection, or a torch.nn.LSTMCell's.
      strict: refuse to fold two biases that are not zero into Keras's one.

    Returns:
      [kernel, recurrent_kernel, bias] of each cell in one list: by layer, forward before reverse. No bias where there
      is none (use_bias=False). Arrays of the kind that came. Not lossless where both biases are not zero: Keras has
      one, their sum.

    Raises:
      ValueError, TypeError: ``params`` have a projection, or ``strict`` and two biases.
    """
    cells = each(split(params, "Keras"), partial(write_cell, strict=strict))
    return [array for layer in cells for cell in layer for array in cell]


@contextmanager
def _inventory(source: Any) -> Iterator[Inventory | None]:
    """What a file, model or layer has; None if the source is none of these."""
    if isinstance(source, (str, os.PathLike)):
        with opened(Path(source)) as inventory:
            yield inventory
    else:
        yield inventory_of_object(source) if is_keras_object(source) else None


def _read(source: Any, layers: Any, bidirectional: bool | None, read: Any) -> list[Layer]:
    with _inventory(source) as inventory:
        if inventory is not None and layers is not None and is_keras_object(source) and not is_model(source):
            kind = type(source).__name__
            raise ValueError(f"layers={layers!r} chooses among the layers of a model, and source is a {kind}.")
        if inventory is not None:
            return take(inventory, layers, read)
    if layers is not None:
        raise ValueError(f"layers={layers!r} chooses among the layers of a model or file, and source is neither.")
    if isinstance(source, (list, tuple)) and any(map(is_keras_object, source)):
        return [layer for item in source for layer in _read(item, None, bidirectional, read)]
    arrays = _flat(source)
    cells: list[Cell] = []
    while arrays:
        size = 3 if len(arrays) > 2 and arrays[2].ndim == 1 else 2
        cells.append(read(f"source, cell {len(cells)}", arrays[:size]))
        arrays = arrays[size:]
    return _by_layer(cells, bidirectional)


def _flat(source: Any) -> list[Any]:
    """All weights, from lists in lists and from mappings by name, in the order of get_weights()."""
    flat: list[Any] = []
    for item in source if isinstance(source, (list, tuple)) and source else [source]:
        if hasattr(item, "shape") and item is not source:
            flat.append(item)
        elif isinstance(item, Mapping) and {*NAMES[:2]} <= set(item) <= {*NAMES}:
            flat += [item[name] for name in NAMES if item.get(name) is not None]
        elif isinstance(item, (list, tuple)) and item is not source:
            flat += _flat(item)
        else:
            refuse_tree("source", EXPECTED, source)
    return flat


def _by_layer(cells: list[Cell], bidirectional: bool | None) -> list[Layer]:
    """Cells in layers of one direction or of two, by the size of the input that each reads."""
    one, two = _fit(cells, 1), _fit(cells, 2)
    if bidirectional is None and one and two:
        raise ValueError(
            "source has two cells with D = H, which are two layers or the two directions of one: pass bidirectional="
            "False or True."
        )
    if bidirectional or (bidirectional is None and two):
        if len(cells) % 2:
            raise ValueError(f"bidirectional=True wants cells in pairs, forward and reverse; got {len(cells)} cells.")
        return list(zip(cells[::2], cells[1::2], strict=True))
    return [(cell,) for cell in cells]


def _fit(cells: list[Cell], directions: int) -> bool:
    inputs = [cell["weight_ih"].shape[1] for cell in cells]
    hidden = {cell["weight_hh"].shape[1] for cell in cells}
    whole = len(cells) % directions == 0 and len(hidden) == len(set(inputs[:directions])) == 1
    return whole and set(inputs[directions:]) <= {directions * size for size in hidden}
