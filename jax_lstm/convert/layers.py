"""The form between two layouts: a network as layers, a layer as one or two directions, a direction as a cell.

A cell has torch.nn.LSTMCell's names: ``weight_ih [4H, D]``, ``weight_hh [4H, H]``, ``bias_ih`` and ``bias_hh [4H]``.
Every converter translates a single cell; what nests cells, and the checks of the whole, are here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jax_lstm._src.network import Network, read_cell, read_network
from jax_lstm.convert.arrays import namespace

Cell = dict[str, Any]
Layer = tuple[Cell, ...]  # one direction, or forward and reverse


def joined(layers: Sequence[Layer]) -> dict[str, Any]:
    """One parameter tree, a torch.nn.LSTM state dict, of layers that follow one another.

    Raises:
      ValueError: there is none, or they do not fit: another hidden size, an input that is not the output of the layer
        below, directions or biases that some layers have and others have not.
    """
    if not layers:
        raise ValueError("there is no layer; expected at least one.")
    first = _read(layers[0][0], "layer 0")
    params: dict[str, Any] = {}
    for number, layer in enumerate(layers):
        if len(layer) != len(layers[0]):
            raise ValueError(
                f"layer {number} has {len(layer)} direction{'s' * (len(layer) > 1)} and layer 0 has {len(layers[0])}: "
                "one LSTM has the same in every layer. Convert them one by one, into networks of their own."
            )
        for cell, suffix in zip(layer, ("", "_reverse"), strict=False):
            where = f"layer {number}{suffix.replace('_', ', ')}"
            _check_fits(_read(cell, where), first, where, number, len(layer))
            params |= {f"{name}_l{number}{suffix}": value for name, value in cell.items()}
    read_network(params, "lstm")
    return params


def _read(cell: Cell, where: str) -> Network:
    try:
        return read_cell(cell, "lstm")
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}, by torch's names: {error}") from None


def _check_fits(found: Network, first: Network, where: str, number: int, directions: int) -> None:
    expected = first.input_size if number == 0 else directions * first.output_size
    for what, has, wanted in (
        ("hidden size", found.hidden_size, first.hidden_size),
        ("input size", found.input_size, expected),
        ("projection", found.proj_size, first.proj_size),
        ("biases", found.bias, first.bias),
    ):
        if has != wanted:
            raise ValueError(
                f"{where} has {what} {has}, where {wanted} is expected beside and above layer 0: one LSTM has one "
                "hidden size, and each layer reads the output of the one below. Convert such layers one by one."
            )


def split(params: Mapping[str, Any], library: str) -> list[Layer]:
    """The layers of a parameter tree, or the one of a cell's, for a library without projections.

    Raises ValueError, TypeError: ``params`` are no LSTM's, or have a projection.
    """
    if is_cell(params):
        read = read_cell(params, "lstm")
        layers: list[Layer] = [(dict(params),)]
    else:
        read = read_network(params, "lstm")
        cells = [{name: params[f"{name}_l{n}{end}"] for name in read.cell_shapes()} for n, end in read.rows]
        layers = [tuple(cells[n : n + read.directions]) for n in range(0, len(cells), read.directions)]
    if read.proj_size:
        raise ValueError(
            f"params must have no projection: {library} has no place for weight_hr "
            f"{(read.proj_size, read.hidden_size)}."
        )
    return layers


def is_cell(params: Mapping[str, Any]) -> bool:
    """Whether ``params`` are one cell's, by names without a layer."""
    return isinstance(params, Mapping) and "weight_ih" in params


def cell(params: Mapping[str, Any], layer: int = 0, *, reverse: bool = False) -> Cell:
    """One layer's weights in one direction, by torch.nn.LSTMCell's names: what lstm_cell and our LSTMCells take.

    Args:
      params: a torch.nn.LSTM state dict.
      layer: counted from 0.
      reverse: the layer's reverse direction.

    Returns:
      ``weight_ih``, ``weight_hh`` and what else the layer has; the arrays themselves, not copied.

    Raises:
      ValueError, TypeError: ``params`` are no LSTM's, or have no such layer or direction.
    """
    network = read_network(params, "lstm")
    if not 0 <= layer < network.num_layers:
        raise ValueError(f"params have {network.num_layers} layers, counted from 0; got layer {layer}.")
    if reverse and not network.bidirectional:
        raise ValueError("params have one direction; got reverse=True.")
    return {name: params[f"{name}_l{layer}{'_reverse' * reverse}"] for name in network.cell_shapes(layer)}


def stack(cells: Sequence[Cell], *, bidirectional: bool = False) -> dict[str, Any]:
    """A network of cells, one a layer, or forward and reverse of each layer in turn; the other way of :func:`cell`.

    Raises ValueError, TypeError: they do not fit one another, or are not in pairs where ``bidirectional``.
    """
    if bidirectional and len(cells) % 2:
        raise ValueError(f"bidirectional=True wants cells in pairs, forward and reverse; got {len(cells)}.")
    directions = 2 if bidirectional else 1
    return joined([tuple(cells[n : n + directions]) for n in range(0, len(cells), directions)])


def only_one_direction(layers: Sequence[Layer], library: str) -> list[Cell]:
    """The cells of layers in one direction. ValueError where there are two, which ``library`` has no network for."""
    if len(layers[0]) > 1:
        raise ValueError(
            f"params must have one direction: {library} has no bidirectional network. Convert each direction's layers "
            "alone: the entries without, and with, '_reverse' in their names."
        )
    return [layer[0] for layer in layers]


def with_one_bias(cell: Cell, library: str, strict: bool) -> Any:
    """As :func:`folded`, for a library whose cell always has a bias: ValueError where there is none."""
    if "bias_ih" not in cell:
        raise ValueError(
            f"params must have biases: {library} always has one. Add zeros as bias_ih and bias_hh to say "
            "that you want it."
        )
    return folded(cell, library, strict)


def folded(cell: Cell, library: str, strict: bool) -> Any:
    """Both biases of a cell as one, their sum, which rounds; None where there are none.

    A bias_hh that is known to be zero is left out, so that bias_ih keeps its bits: in a sum, -0 would become +0, and
    XLA on a CPU takes subnormal numbers for 0.

    Raises:
      ValueError: ``strict``, and bias_hh is not zero, or not known because of a transformation.
    """
    if "bias_ih" not in cell:
        return None
    bias_ih, bias_hh = cell["bias_ih"], cell["bias_hh"]
    if not strict and isinstance(bias_hh, jax.core.Tracer):
        return bias_ih + bias_hh
    if not np.any(known(bias_hh, "strict=True")):
        return bias_ih
    if strict:
        raise ValueError(
            f"strict=True: {library} keeps one bias and these params have two, bias_ih and a bias_hh that is not zero. "
            "Their sum rounds and cannot be taken apart again. Leave strict out to fold them, or put all of it into "
            "bias_ih first."
        )
    return bias_ih + bias_hh


def with_two_biases(weight_ih: Any, weight_hh: Any, bias: Any) -> Cell:
    """A cell whose one bias goes whole into bias_ih, beside zeros: exact. None means no biases."""
    cell = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    return cell if bias is None else cell | {"bias_ih": bias, "bias_hh": namespace(bias).zeros_like(bias)}


def known(value: Any, why: str) -> np.ndarray:
    """The values of an array. ValueError under a transformation, where it has none yet."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{why} looks at values, which are not known inside jax.jit, grad or vmap: call it outside.")
    return np.asarray(value)


def each(layers: Sequence[Layer], translate: Callable[[Cell], Any]) -> list[tuple[Any, ...]]:
    """Every cell translated, nested as it was."""
    return [tuple(translate(cell) for cell in layer) for layer in layers]
