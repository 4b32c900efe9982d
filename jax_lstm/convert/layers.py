"""The form between two layouts: a network as layers, a layer as one or two directions, a direction as one cell.

A cell has torch.nn.LSTMCell's names: ``weight_ih [4H, D]``, ``weight_hh [4H, H]``, ``bias_ih`` and ``bias_hh [4H]``.
Every converter translates a single cell. This module joins cells to a network, splits a network into cells, checks the
whole, and makes one bias of two and two of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import jax
import numpy as np

from jax_lstm._src.checks import is_int
from jax_lstm._src.network import Network, read_cell, read_network
from jax_lstm.convert.arrays import Array, Params, concrete, namespace

CellWeights: TypeAlias = dict[str, Array]
LayerWeights: TypeAlias = tuple[CellWeights, ...]  # one direction, or forward and reverse
T = TypeVar("T")


def join_layers(layers: Sequence[LayerWeights]) -> Params:
    """Return a torch.nn.LSTM state dict of layers that follow one another.

    Raises:
      ValueError: there is no layer, or they do not fit: another hidden size, an input that is not the output of the
        layer below, or directions or biases that only some layers have.
    """
    if not layers:
        raise ValueError("there is no layer; expected at least one.")
    first = _read_cell(layers[0][0], "layer 0")
    params: Params = {}
    for number, layer in enumerate(layers):
        if len(layer) != len(layers[0]):
            raise ValueError(
                f"layer {number} has {len(layer)} direction{'s' * (len(layer) > 1)} and layer 0 has {len(layers[0])}: "
                "one LSTM has the same in every layer. Convert them one by one, into networks of their own."
            )
        for weights, suffix in zip(layer, ("", "_reverse"), strict=False):
            where = f"layer {number}{suffix.replace('_', ', ')}"
            _check_fit(_read_cell(weights, where), first, where, number, len(layer))
            params |= {f"{name}_l{number}{suffix}": value for name, value in weights.items()}
    read_network(params, "lstm")
    return params


def _read_cell(weights: CellWeights, where: str) -> Network:
    try:
        return read_cell(weights, "lstm")
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}, by torch's names: {error}") from None


def _check_fit(cell: Network, first: Network, where: str, number: int, directions: int) -> None:
    expected_input = first.input_size if number == 0 else directions * first.output_size
    for what, has, expected in (
        ("hidden size", cell.hidden_size, first.hidden_size),
        ("input size", cell.input_size, expected_input),
        ("projection", cell.proj_size, first.proj_size),
        ("biases", cell.bias, first.bias),
    ):
        if has != expected:
            raise ValueError(
                f"{where} has {what} {has}, where {expected} is expected beside and above layer 0: one LSTM has one "
                "hidden size, and each layer reads the output of the one below. Convert such layers one by one."
            )


def split_layers(params: Mapping[str, Array], library: str) -> list[LayerWeights]:
    """Return the layers of a network, or the one layer of a cell, for a library without projections.

    Raises:
      TypeError: ``params`` is not a flat dict of floating-point arrays.
      ValueError: ``params`` are no LSTM's, or have a projection.
    """
    if is_cell(params):
        network = read_cell(params, "lstm")
        layers: list[LayerWeights] = [(dict(params),)]
    else:
        network = read_network(params, "lstm")
        cells = [{name: params[f"{name}_l{n}{end}"] for name in network.cell_shapes()} for n, end in network.rows]
        layers = group_directions(cells, network.directions)
    if network.proj_size:
        raise ValueError(
            f"params must have no projection: {library} has no place for weight_hr "
            f"{(network.proj_size, network.hidden_size)}."
        )
    return layers


def group_directions(cells: Sequence[CellWeights], directions: int) -> list[LayerWeights]:
    """Return layers of one direction or two. In ``cells``, each layer's forward cell comes before its reverse cell.

    ValueError if cells of two directions are not in pairs.
    """
    if len(cells) % directions:
        count = f"{len(cells)} cell{'s' * (len(cells) > 1)}"
        raise ValueError(f"bidirectional=True wants cells in pairs, forward and reverse; got {count}.")
    return [tuple(cells[n : n + directions]) for n in range(0, len(cells), directions)]


def is_cell(params: object) -> bool:
    """Return whether ``params`` are one cell's, which have names without a layer."""
    return isinstance(params, Mapping) and "weight_ih" in params


def cell(params: Mapping[str, Array], layer: int = 0, *, reverse: bool = False) -> CellWeights:
    """Return one layer's weights in one direction, by torch.nn.LSTMCell's names.

    `jax_lstm.lstm_cell` and the LSTMCell modules of this package take them.

    Args:
      params: a torch.nn.LSTM state dict of arrays.
      layer: the number of the layer, counted from 0.
      reverse: whether to take the reverse direction of the layer.

    Returns:
      A dict of `weight_ih` `[4H, D]`, `weight_hh` `[4H, H]`, and the biases and projection that the layer has. The
      arrays are not copied.

    Raises:
      TypeError: `params` is not a flat dict of floating-point arrays, or `layer` is not an integer.
      ValueError: the names or shapes are not those of an LSTM, or it has no such layer or direction.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 3, 5, num_layers=2)
      >>> cell = jax_lstm.convert.cell(params, layer=1)
      >>> {name: array.shape for name, array in cell.items()}
      {'weight_ih': (20, 5), 'weight_hh': (20, 5), 'bias_ih': (20,), 'bias_hh': (20,)}
    """
    network = read_network(params, "lstm")
    if not is_int(layer):
        raise TypeError(f"layer must be the number of a layer, counted from 0; got {layer!r}.")
    if not 0 <= layer < network.num_layers:
        raise ValueError(f"params have {network.num_layers} layers, counted from 0; got layer {layer}.")
    if reverse and not network.bidirectional:
        raise ValueError("params have one direction; got reverse=True.")
    return {name: params[f"{name}_l{layer}{'_reverse' * reverse}"] for name in network.cell_shapes(layer)}


def stack(cells: Sequence[CellWeights], *, bidirectional: bool = False) -> Params:
    """Return a network of cells; the inverse of `jax_lstm.convert.cell`.

    Args:
      cells: the weights of each cell by torch.nn.LSTMCell's names, one cell per layer.
      bidirectional: whether there are two cells per layer, forward before reverse.

    Returns:
      A torch.nn.LSTM state dict. The arrays are not copied.

    Raises:
      TypeError: `cells` is not a sequence, or a cell is not a flat dict of floating-point arrays.
      ValueError: there is no cell, the cells do not fit one another, or `bidirectional` is set and they are not in
        pairs.

    Examples:
      >>> import jax
      >>> import jax_lstm
      >>> from jax_lstm import convert
      >>> forward, backward = (jax_lstm.init_lstm(jax.random.key(seed), 3, 5) for seed in (0, 1))
      >>> both = convert.stack([convert.cell(forward), convert.cell(backward)], bidirectional=True)
      >>> both["weight_ih_l0_reverse"].shape
      (20, 3)
    """
    if not isinstance(cells, Sequence):
        got = type(cells).__name__
        raise TypeError(
            f"cells must be a list with one dict of weights per cell, as convert.cell returns it; got {got}."
        )
    return join_layers(group_directions(cells, 2 if bidirectional else 1))


def only_one_direction(layers: Sequence[LayerWeights], library: str) -> list[CellWeights]:
    """Return the cells of layers in one direction. ValueError if there are two: ``library`` has no such network."""
    if len(layers[0]) > 1:
        raise ValueError(
            f"params must have one direction: {library} has no bidirectional network. Convert the layers of each "
            "direction separately: the entries without, and with, '_reverse' in their names."
        )
    return [layer[0] for layer in layers]


def map_cells(layers: Sequence[LayerWeights], translate: Callable[[CellWeights], T]) -> list[tuple[T, ...]]:
    """Return every cell translated, nested as it was."""
    return [tuple(translate(weights) for weights in layer) for layer in layers]


def make_cell(weight_ih: Array, weight_hh: Array, bias: Array | None) -> CellWeights:
    """Return a cell of weights with one bias, which becomes bias_ih beside a zero bias_hh. None means no biases.

    This is exact.
    """
    weights = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    return weights if bias is None else weights | {"bias_ih": bias, "bias_hh": namespace(bias).zeros_like(bias)}


def required_bias(weights: CellWeights, library: str, strict: bool) -> Array:
    """Return a cell's `folded_bias` for a library whose cell always has one. ValueError if there is none."""
    bias = folded_bias(weights, library, strict)
    if bias is None:
        raise ValueError(
            f"params must have biases: {library} always has one. Add zeros as bias_ih and bias_hh to say "
            "that you want it."
        )
    return bias


def folded_bias(weights: CellWeights, library: str, strict: bool) -> Array | None:
    """Return the sum of a cell's two biases, which rounds; None if there are none.

    A bias_hh that is known to be zero is left out, so that bias_ih keeps its bits: in a sum, -0 would become +0, and
    XLA on a CPU takes subnormal numbers for 0.

    Raises:
      ValueError: ``strict``, and bias_hh is not zero, or is not known because of a transformation.
    """
    if "bias_ih" not in weights:
        return None
    bias_ih, bias_hh = weights["bias_ih"], weights["bias_hh"]
    if not strict and isinstance(bias_hh, jax.core.Tracer):
        return bias_ih + bias_hh
    if not np.any(concrete(bias_hh, "strict=True")):
        return bias_ih
    if strict:
        raise ValueError(
            f"strict=True: {library} keeps one bias and these params have two, bias_ih and a bias_hh that is not zero. "
            "Their sum rounds and cannot be taken apart again. Leave strict out to fold them, or put all of it into "
            "bias_ih first."
        )
    return bias_ih + bias_hh
