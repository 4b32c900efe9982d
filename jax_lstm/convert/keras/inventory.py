"""What a file or model of Keras's has: its LSTM layers by name, each to be read on its own or several as one stack."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from jax_lstm.convert.keras.layers import SUPPORTED, ReadCell
from jax_lstm.convert.layers import Layer, joined

DAMAGE = (
    OSError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError, UnicodeError,
    json.JSONDecodeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """An LSTM layer. ``load`` reads its weights, when they are wanted: what is not chosen may lack them.

    ``reads`` is the name of the layer whose output it reads; None if the source does not say. ``is_lstm`` is False for
    a layer object of another kind, which ``load`` refuses.
    """

    load: Callable[[ReadCell], list[Layer]]
    reads: str | None = None
    is_lstm: bool = True


@dataclass(frozen=True)
class KerasRefusal:
    """A recurrent layer that :func:`jax_lstm.convert.keras_networks` found and cannot read, and why.

    ``is_lstm`` is False if its class or its shapes say that it is a GRU or a simple RNN.
    """

    reason: str
    is_lstm: bool = True


@dataclass(frozen=True)
class Inventory:
    """LSTM layers by name, from input to output.

    ``others`` are all other layers, with what they are; errors name them. ``refused`` are those of ``others`` that are
    recurrent, with the reason why they are not read. ``unordered`` says why the order of the LSTM layers is not known,
    and is "" if it is.
    """

    found: Mapping[str, Found]
    others: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, KerasRefusal] = field(default_factory=dict)
    unordered: str = ""


def take(inventory: Inventory, names: Any, read: ReadCell) -> list[Layer]:
    """Return the layers chosen by ``names``, all for None, as one stack. ValueError if they are none."""
    chosen = _choose(inventory, names)
    if names is None and len(chosen) > 1 and inventory.unordered:
        raise ValueError(inventory.unordered)
    layers = [layer for _, found in chosen for layer in found.load(read)]
    _check_stack(layers, list(inventory.found))
    for (below, _), (above, found) in pairwise(chosen):
        if found.reads not in (None, below):
            raise ValueError(
                f"{above!r} reads {found.reads}, and not {below!r}, so that they are no stack of layers: "
                f"convert them one by one, layers=({above!r},)."
            )
    return layers


def each_network(inventory: Inventory, read: ReadCell) -> dict[str, dict[str, Any] | KerasRefusal]:
    """Return every LSTM layer as a network of its own, or the reason why it cannot be read."""
    networks: dict[str, dict[str, Any] | KerasRefusal] = {}
    for name, found in inventory.found.items():
        try:
            networks[name] = joined(found.load(read))
        except (ValueError, *DAMAGE) as error:
            networks[name] = KerasRefusal(reason(error), found.is_lstm)
    return networks | dict(inventory.refused)


def reason(error: Exception) -> str:
    """Return what an error says. One of a reader that met nonsense says that the file is damaged."""
    if isinstance(error, DAMAGE):
        said = " ".join(str(error).split()).rstrip(".")
        return f"is damaged, or not as Keras writes it: {type(error).__name__}{f', {said}' * bool(said)}."
    return str(error)


def _choose(inventory: Inventory, names: Any) -> list[tuple[str, Found]]:
    found, others = inventory.found, inventory.others
    listed = ", ".join(map(repr, found)) or "none"
    if names is None:
        if not found:
            told = ", ".join(f"{name} ({kind})" for name, kind in others.items()) or "none"
            raise ValueError(f"there is no LSTM layer; the layers are: {told}. Supported: {SUPPORTED}.")
        return list(found.items())
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(f"layers is empty; the LSTM layers are: {listed}.")
    for name in names:
        if name not in found:
            what = f"{name!r} is a {others[name]}, no LSTM" if name in others else f"there is no layer {name!r}"
            raise ValueError(f"layers: {what}; the LSTM layers are: {listed}.")
    return [(name, found[name]) for name in names]


def _check_stack(layers: list[Layer], names: Sequence[str]) -> None:
    """ValueError, with the names of all LSTM layers that there are, if those chosen do not fit one another."""
    try:
        joined(layers)
    except ValueError as error:
        raise ValueError(
            f"{error} The LSTM layers, of which layers= chooses: {', '.join(map(repr, names))}."
        ) from error
