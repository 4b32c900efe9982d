"""The LSTM layers of a Keras file or model by name. They are read one by one, or several as one stack."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from jax_lstm.convert.arrays import Params
from jax_lstm.convert.keras.layer_configs import SUPPORTED, ReadCell
from jax_lstm.convert.layers import LayerWeights, join_layers

DAMAGE = (
    OSError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError, UnicodeError,
    json.JSONDecodeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
LayerNames: TypeAlias = str | Sequence[str] | None


@dataclass(frozen=True)
class LayerEntry:
    """An LSTM layer that is not read yet.

    Attributes:
      load: reads the weights. It is called only for a layer that is chosen, since others may lack theirs.
      reads: name of the layer whose output this one reads, or None if the source does not say.
      is_lstm: False for a layer object of another kind, which ``load`` refuses.
    """

    load: Callable[[ReadCell], list[LayerWeights]]
    reads: str | None = None
    is_lstm: bool = True


@dataclass(frozen=True)
class KerasRefusal:
    """A recurrent layer that `jax_lstm.convert.keras_networks` cannot read.

    Attributes:
      reason: why it cannot be read.
      is_lstm: False if its class or its shapes say that it is a GRU or a simple RNN.

    Examples:
      >>> from jax_lstm import convert
      >>> refusal = convert.KerasRefusal("it is a GRU, not an LSTM", is_lstm=False)
      >>> refusal.reason
      'it is a GRU, not an LSTM'
    """

    reason: str
    is_lstm: bool = True


@dataclass(frozen=True)
class Inventory:
    """The layers of a source.

    Attributes:
      lstms: the LSTM layers by name, from input to output.
      others: what each other layer is, by name, for errors.
      refused: the recurrent layers among ``others``, with the reason why they are not read.
      unordered: why the order of the LSTM layers is not known, or "" if it is.
    """

    lstms: Mapping[str, LayerEntry]
    others: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, KerasRefusal] = field(default_factory=dict)
    unordered: str = ""


def read_stack(inventory: Inventory, names: LayerNames, read: ReadCell) -> list[LayerWeights]:
    """Return the layers that ``names`` chooses, or all for None. ValueError if they are no stack."""
    chosen = _choose(inventory, names)
    if names is None and len(chosen) > 1 and inventory.unordered:
        raise ValueError(inventory.unordered)
    layers = [layer for _, entry in chosen for layer in entry.load(read)]
    _check_stack(layers, list(inventory.lstms))
    for (below, _), (above, entry) in pairwise(chosen):
        if entry.reads not in (None, below):
            raise ValueError(
                f"{above!r} reads {entry.reads}, and not {below!r}, so that they are no stack of layers: "
                f"convert them one by one, layers=({above!r},)."
            )
    return layers


def read_each(inventory: Inventory, read: ReadCell) -> dict[str, Params | KerasRefusal]:
    """Return every LSTM layer as a network of its own, or the reason why it cannot be read."""
    networks: dict[str, Params | KerasRefusal] = {}
    for name, entry in inventory.lstms.items():
        try:
            networks[name] = join_layers(entry.load(read))
        except (ValueError, *DAMAGE) as error:
            networks[name] = KerasRefusal(reason_of(error), entry.is_lstm)
    return networks | dict(inventory.refused)


def reason_of(error: Exception) -> str:
    """Return what an error says. If it is one of `DAMAGE`, say that the file is damaged."""
    if isinstance(error, DAMAGE):
        message = " ".join(str(error).split()).rstrip(".")
        return f"is damaged, or not as Keras writes it: {type(error).__name__}{f', {message}' * bool(message)}."
    return str(error)


def _choose(inventory: Inventory, names: LayerNames) -> list[tuple[str, LayerEntry]]:
    lstms, others = inventory.lstms, inventory.others
    listed = ", ".join(map(repr, lstms)) or "none"
    if names is None:
        if not lstms:
            kinds = ", ".join(f"{name} ({kind})" for name, kind in others.items()) or "none"
            raise ValueError(f"there is no LSTM layer; the layers are: {kinds}. Supported: {SUPPORTED}.")
        return list(lstms.items())
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(f"layers is empty; the LSTM layers are: {listed}.")
    for name in names:
        if name not in lstms:
            what = f"{name!r} is a {others[name]}, no LSTM" if name in others else f"there is no layer {name!r}"
            raise ValueError(f"layers: {what}; the LSTM layers are: {listed}.")
    return [(name, lstms[name]) for name in names]


def _check_stack(layers: list[LayerWeights], names: Sequence[str]) -> None:
    """Raise ValueError, with the names of all LSTM layers that there are, if those chosen do not fit one another."""
    try:
        join_layers(layers)
    except ValueError as error:
        raise ValueError(
            f"{error} The LSTM layers, of which layers= chooses: {', '.join(map(repr, names))}."
        ) from error
