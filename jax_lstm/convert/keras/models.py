"""Keras's models: their LSTM layers by name, and whether those are one stack, by which reads the output of which."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from jax_lstm.convert.keras.inventory import Found, Inventory, KerasRefusal
from jax_lstm.convert.keras.layers import (
    MODELS,
    SUPPORTED,
    Container,
    ReadCell,
    Store,
    described,
    group_names,
    is_lstm,
    is_other,
    is_recurrent,
    kind_of,
    read_layer,
)
from jax_lstm.convert.layers import Layer

PASSING = (  # what these let through at inference is what came in
    "Dropout",
    "SpatialDropout1D",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "Identity",
)
INPUT = "the model's input"
# Both look for weights when they are wanted: what is not chosen may lack them.
Locate = Callable[[], Store]
LocateLayers = Callable[[], Container]


def inventory(model: Mapping[str, Any], locate: LocateLayers) -> Inventory:
    """Return the layers of a model, given its configuration and where its weights are."""
    found: dict[str, Found] = {}
    refused: dict[str, KerasRefusal] = {}
    others: dict[str, str] = {}
    for name, node, reads, there in _walk(model, locate, ""):
        if is_lstm(node):
            found[name] = Found(partial(_load, node, there, name), reads)
            continue
        others[name] = kind_of(node)
        if kind_of(node) not in MODELS and is_recurrent(node):
            refused[name] = KerasRefusal(f"{name} is a {described(node)}; supported: {SUPPORTED}.", not is_other(node))
    return Inventory(found, others, refused)


def _load(node: Mapping[str, Any], locate: Locate, where: str, read: ReadCell) -> list[Layer]:
    return read_layer(node, locate(), where, read)


def _walk(model: Mapping[str, Any], locate: LocateLayers, above: str) -> Iterator[tuple[str, Any, str, Locate]]:
    """The layers of a model and of the models within it, in order: name, configuration, what it reads, its weights."""
    nodes = _layers(model)
    inputs = _inputs(model)
    for (name, node), group in zip(nodes.items(), group_names(nodes.values()), strict=True):
        there = partial(_entry, locate, name, group)
        below = inputs[name]
        for _ in nodes:  # and no further, whatever a file says
            below = inputs[below] if below in nodes and kind_of(nodes[below]) in PASSING else below
        yield above + name, node, above + below if below in nodes else below, there
        if kind_of(node) in MODELS:
            yield from _walk(node, there, f"{above}{name}/")


def _entry(locate: LocateLayers, name: str, group: str) -> Store:
    return locate().entry("layers", name, group)


def _layers(model: Mapping[str, Any]) -> dict[str, Any]:
    if kind_of(model) not in MODELS or "layers" not in model["config"]:
        raise ValueError(
            f"the model is a {kind_of(model)}, whose configuration does not say how its layers follow one another. "
            "Pass a list of its LSTM layers as objects, or its .weights.h5 file and the names of the layers."
        )
    layers = {node["config"]["name"]: node for node in model["config"]["layers"]}
    if len(layers) != len(model["config"]["layers"]):
        raise ValueError(f"the model has two layers of one name: {', '.join(layers)}.")
    return layers


def _inputs(model: Mapping[str, Any]) -> dict[str, str]:
    """Of each layer the name of the layer whose output it reads, or in words what else it reads."""
    nodes = _layers(model)
    if kind_of(model) == "Sequential":
        return dict(zip(nodes, [INPUT, *nodes], strict=False))
    return {name: _input(node.get("inbound_nodes") or []) for name, node in nodes.items()}


def _input(calls: list[Any]) -> str:
    if len(calls) != 1:
        return "several layers in turn" if calls else INPUT
    args, kwargs = calls[0]["args"], calls[0]["kwargs"]
    tensor = args[0] if args else kwargs.get("sequences", kwargs.get("inputs"))
    if not isinstance(tensor, Mapping) or "keras_history" not in tensor.get("config", ()):
        return "several tensors"
    return str(tensor["config"]["keras_history"][0])


class _Objects:
    """The weights of layer objects."""

    def __init__(self, layer: Any):
        self.layer = layer

    def attribute(self, name: str) -> Store:
        return _Objects(getattr(self.layer, name))

    def entry(self, container: str, name: str, group: str) -> Store:
        return _Objects({layer.name: layer for layer in getattr(self.layer, container)}[name])

    def weights(self) -> list[Any]:
        found = [getattr(self.layer, name, None) for name in ("kernel", "recurrent_kernel", "bias")]  # None: not built
        return [a for a in found if a is not None]


def is_keras_object(source: Any) -> bool:
    return hasattr(source, "get_config") and hasattr(source, "get_weights")


def is_model(source: Any) -> bool:
    """Whether one of Keras's objects is a model whose configuration lists its layers."""
    kind = {"module": type(source).__module__, "class_name": type(source).__name__}
    return kind_of(kind) in MODELS


def inventory_of_object(source: Any) -> Inventory:
    """Return the layers of a model object, or the one that a layer object is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a lambda, which Keras warns of deserialising
        try:
            config = source.get_config()
        except NotImplementedError:  # a class of the user's, refused by its name
            config = {}
    node = {"module": type(source).__module__, "class_name": type(source).__name__, "config": config}
    store = _Objects(source)
    if is_model(source):
        return inventory(node, lambda: store)
    where = f"the layer {source.name!r}"
    is_other_kind = is_recurrent(node) and is_other(node)
    return Inventory({source.name: Found(partial(_load, node, lambda: store, where), is_lstm=not is_other_kind)})
