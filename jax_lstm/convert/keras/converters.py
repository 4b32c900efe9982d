"""Keras's LSTM: layers, cells, stacks and Bidirectional, as objects, as lists of weights and in files.

    kernel [D, 4H]     recurrent_kernel [H, 4H]     bias [4H] or none     gates i f c o (c is g)

Matrices are [in, out] and there is one bias. States are [h, c]; Bidirectional's are [h, c] forward and then reverse.
Keras 2's CuDNNLSTM has another layout, see cell_arrays.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jax.typing import DTypeLike

from jax_lstm._src.recognize import refuse_tree
from jax_lstm.convert.arrays import AnyArray, AnyTree, Array, Params
from jax_lstm.convert.keras.cell_arrays import NAMES, read_cell, write_cell
from jax_lstm.convert.keras.files import open_inventory
from jax_lstm.convert.keras.inventory import Inventory, KerasRefusal, LayerNames, read_each, read_stack
from jax_lstm.convert.keras.layer_configs import ReadCell
from jax_lstm.convert.keras.objects import inventory_of_object, is_keras_object, is_model
from jax_lstm.convert.layers import CellWeights, LayerWeights, group_directions, join_layers, map_cells, split_layers

EXPECTED = (
    "the weights of Keras's LSTM, kernel, recurrent_kernel and bias, as a list or by these names, or a list of such, "
    "or an LSTM, Bidirectional, RNN, LSTMCell or model object, or the path of a .keras, .weights.h5 or .h5 file"
)


def from_keras(
    source: AnyTree,
    *,
    layers: LayerNames = None,
    bidirectional: bool | None = None,
    dtype: DTypeLike | None = None,
) -> Params:
    """Read LSTMs of Keras 3 or 2, of any backend, as a parameter tree of this package. Keras need not be installed.

    The conversion is lossless unless `dtype` is narrower: `jax_lstm.convert.to_keras` returns the same bits.

    **Activations.** Objects and files of whole models say what they compute, and are refused if it is not this LSTM.
    Before Keras 2.3 and in TensorFlow 1, the default was recurrent_activation="hard_sigmoid". Files of weights, and
    arrays, do not say what they compute. This function takes them to have activation="tanh",
    recurrent_activation="sigmoid", go_backwards=False, merge_mode="concat" and layers that follow one another directly.

    **Names.** A `.weights.h5` file does not say the order of its layers. A file of Keras 2 has only the name of a
    class. Therefore a user's own class that is named LSTM, and was not registered, is taken for Keras's.

    **Options.** Dropout (none at inference), return_sequences, return_state, stateful, time_major and unroll are no
    part of the weights. Nor is a mask (mask_zero, Masking): pass the `lengths` that it stands for. The output of
    Bidirectional at return_sequences=False is the last layer's two rows of `state.h`, side by side.

    Args:
      source: one of

        - weights as `get_weights()` returns them: `[kernel, recurrent_kernel, bias]` per cell, or without the bias
          (use_bias=False). There may be any number of cells, forward before reverse, in one list or in lists of lists;
        - a mapping of the names "kernel", "recurrent_kernel" and "bias", or a list of such mappings;
        - a layer: LSTM, LSTMCell, RNN of an LSTMCell or of several, Bidirectional of these; or a list of layers;
        - a Sequential or functional model, or the path of one saved as .keras, or as .h5 or .hdf5 by Keras 2 or 3;
        - the path of a file of weights: .weights.h5, or .h5 or .hdf5 of Keras 2. Its content tells the kind of a file.

        Arrays may be those of Keras 2's CuDNNLSTM. Its bias is `[8H]`, and an LSTM's is `[4H]`.
      layers: for a model or file, the names of the LSTM layers to take, from input to output. A layer of a model within
        the model is "inner/lstm". None takes all. They become one stack. Therefore each must read the output of the one
        before it; only Dropout and similar layers may stand between two.
      bidirectional: whether weights in a list are of two directions, in pairs. None decides it by their shapes, which
        is impossible for just two cells with D = H. All other sources say it themselves, and must agree with it.
      dtype: the dtype to cast to. None keeps each array's own.

    Returns:
      A torch.nn.LSTM state dict as jax arrays. The bias becomes `bias_ih`, and `bias_hh` is zero. With use_bias=False
      there are no biases. CuDNNLSTM's two biases become `bias_ih` and `bias_hh`.

    Raises:
      TypeError: an array is not a floating-point array that JAX can read.
      ValueError: the source is another library's or no LSTM; its layers compute something else (another activation,
        go_backwards outside Bidirectional, another merge_mode), or do not fit one another; `layers` names one that is
        not there; or a file is damaged.
      ImportError: the source is a file and h5py is not installed (extra "files").
      OSError: a file is not there, or may not be read.

    Examples:
      The list has the shapes of `keras.layers.LSTM(5).get_weights()` for inputs of width 3.

      >>> import numpy as np
      >>> from jax_lstm import convert
      >>> weights = [np.zeros(shape, np.float32) for shape in ((3, 20), (5, 20), (20,))]
      >>> params = convert.from_keras(weights)
      >>> params["weight_ih_l0"].shape
      (20, 3)

      A file needs a path, and the names if not all layers are one stack:
      `convert.from_keras("model.keras", layers=("encoder", "top"))`.
    """
    read_layers = _read(source, layers, bidirectional, partial(read_cell, dtype=dtype))
    if bidirectional is not None and any(len(layer) != 1 + bidirectional for layer in read_layers):
        directions = len(read_layers[0])
        raise ValueError(f"bidirectional={bidirectional}, and source has {directions} direction(s) in a layer.")
    return join_layers(read_layers)


def keras_networks(source: AnyTree, *, dtype: DTypeLike | None = None) -> dict[str, Params | KerasRefusal]:
    """Read every LSTM layer of a model or file as a network of its own.

    A GRU, a wrapper such as TimeDistributed around an LSTM, and a layer of a user's own class are refused one by one.
    Layers that are not recurrent are left out.

    Args:
      source: a layer, a model or a path, as for `jax_lstm.convert.from_keras`.
      dtype: the dtype to cast to. None keeps each array's own.

    Returns:
      A dict by Keras's name of the layer, which is "inner/lstm" in a model within the model. A value is a torch.nn.LSTM
      state dict, as `jax_lstm.convert.from_keras` returns it, or a `jax_lstm.convert.KerasRefusal` with the reason why
      the layer cannot be read.

    Raises:
      ValueError: the source is none of these, a model of a user's own class, or a file that is damaged as a whole.
      ImportError: the source is a file and h5py is not installed (extra "files").
      OSError: a file is not there, or may not be read.

    Examples:
      >>> import os
      >>> os.environ["KERAS_BACKEND"] = "jax"
      >>> import keras
      >>> from jax_lstm import convert
      >>> layers = [keras.layers.LSTM(5, return_sequences=True, name="encoder"), keras.layers.GRU(5, name="top")]
      >>> for name, network in convert.keras_networks(keras.Sequential([keras.Input((7, 3)), *layers])).items():
      ...     print(name, "refused" if isinstance(network, convert.KerasRefusal) else network["weight_ih_l0"].shape)
      encoder (20, 3)
      top refused
    """
    with _open(source) as inventory:
        if inventory is None:
            refuse_tree("source", "a layer, a model or a path of Keras's", source)
        return read_each(inventory, partial(read_cell, dtype=dtype))


def to_keras(params: Mapping[str, Array], *, strict: bool = False) -> list[Array]:
    """Write an LSTM as Keras's list of weights; the inverse of `jax_lstm.convert.from_keras`.

    The conversion is lossless unless both biases are not zero: Keras has one bias, their sum.

    Args:
      params: a torch.nn.LSTM state dict without projection, or a torch.nn.LSTMCell's.
      strict: refuse two biases that are not zero, which Keras can keep only as their sum.

    Returns:
      One list with `kernel` `[D, 4H]`, `recurrent_kernel` `[H, 4H]` and `bias` `[4H]` of each cell, layer by layer,
      forward before reverse. There is no bias if `params` have none (use_bias=False). Arrays are NumPy's or jax's, like
      those of `params`.

    Raises:
      TypeError: `params` is not a flat dict of floating-point arrays.
      ValueError: the names or shapes are not those of an LSTM, it has a projection, or `strict` refuses its biases.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> weights = jax_lstm.convert.to_keras(jax_lstm.init_lstm(jax.random.key(0), 3, 5))
      >>> [array.shape for array in weights]
      [(3, 20), (5, 20), (20,)]

      `layer.set_weights(weights)` puts them into a layer. The layer is a built LSTM, LSTMCell, RNN or Bidirectional, or
      a Sequential that has only such layers.
    """
    cells = map_cells(split_layers(params, "Keras"), partial(write_cell, strict=strict))
    return [array for layer in cells for cell in layer for array in cell]


@contextmanager
def _open(source: AnyTree) -> Iterator[Inventory | None]:
    """Yield the layers of a file, model or layer; None if the source is none of these."""
    if isinstance(source, (str, os.PathLike)):
        with open_inventory(Path(source)) as inventory:
            yield inventory
    else:
        yield inventory_of_object(source) if is_keras_object(source) else None


def _read(source: AnyTree, layers: LayerNames, bidirectional: bool | None, read: ReadCell) -> list[LayerWeights]:
    with _open(source) as inventory:
        if inventory is not None and layers is not None and is_keras_object(source) and not is_model(source):
            kind = type(source).__name__
            raise ValueError(f"layers={layers!r} chooses among the layers of a model, and source is a {kind}.")
        if inventory is not None:
            return read_stack(inventory, layers, read)
    if layers is not None:
        raise ValueError(f"layers={layers!r} chooses among the layers of a model or file, and source is neither.")
    if isinstance(source, (list, tuple)) and any(map(is_keras_object, source)):
        return [layer for item in source for layer in _read(item, None, bidirectional, read)]
    arrays = _flatten(source)
    cells: list[CellWeights] = []
    while arrays:
        size = 3 if len(arrays) > 2 and arrays[2].ndim == 1 else 2
        cells.append(read(f"source, cell {len(cells)}", arrays[:size]))
        arrays = arrays[size:]
    return _by_layer(cells, bidirectional)


def _flatten(source: AnyTree) -> list[AnyArray]:
    """Return all weights of lists, lists in lists and mappings by name, in the order of get_weights()."""
    flat: list[Any] = []
    for item in source if isinstance(source, (list, tuple)) and source else [source]:
        if hasattr(item, "shape") and item is not source:
            flat.append(item)
        elif isinstance(item, Mapping) and {*NAMES[:2]} <= set(item) <= {*NAMES}:
            flat += [item[name] for name in NAMES if item.get(name) is not None]
        elif isinstance(item, (list, tuple)) and item is not source:
            flat += _flatten(item)
        else:
            refuse_tree("source", EXPECTED, source)
    return flat


def _by_layer(cells: list[CellWeights], bidirectional: bool | None) -> list[LayerWeights]:
    """Return cells as layers. If ``bidirectional`` is None, the size of each cell's input decides the directions."""
    may_be_one, may_be_two = _fit(cells, 1), _fit(cells, 2)
    if bidirectional is None and may_be_one and may_be_two:
        raise ValueError(
            "source has two cells with D = H, which are two layers or the two directions of one: pass bidirectional="
            "False or True."
        )
    return group_directions(cells, 2 if bidirectional or (bidirectional is None and may_be_two) else 1)


def _fit(cells: list[CellWeights], directions: int) -> bool:
    inputs = [cell["weight_ih"].shape[1] for cell in cells]
    hidden = {cell["weight_hh"].shape[1] for cell in cells}
    is_stack = len(cells) % directions == 0 and len(hidden) == len(set(inputs[:directions])) == 1
    return is_stack and set(inputs[directions:]) <= {directions * size for size in hidden}
