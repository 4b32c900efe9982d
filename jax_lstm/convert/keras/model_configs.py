"""The LSTM layers of a Keras model by name, and which layer's output each of them reads, from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

from jax_lstm.convert.keras.inventory import Inventory, KerasRefusal, LayerEntry
from jax_lstm.convert.keras.layer_configs import (
    MODELS,
    SUPPORTED,
    Config,
    ReadCell,
    WeightStore,
    describe,
    group_names,
    is_lstm,
    is_no_lstm,
    kind_of,
    may_be_recurrent,
    read_layer,
)
from jax_lstm.convert.layers import LayerWeights

TRANSPARENT = (  # layers whose output at inference is their input
    *("Dropout", "SpatialDropout1D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *("ActivityRegularization", "Identity"),
)
INPUT = "the model's input"
# Both look for weights only when they are called: layers that are not chosen may lack theirs.
OpenStore: TypeAlias = Callable[[], WeightStore]
OpenLayer: TypeAlias = Callable[[str, str], WeightStore]  # by the layer's name and its group


def inventory_of_model(model: Config, open_layer: OpenLayer) -> Inventory:
    """Return the layers of a model, given its configuration and a function that finds a layer's weights."""
    lstms: dict[str, LayerEntry] = {}
    refused: dict[str, KerasRefusal] = {}
    others: dict[str, str] = {}
    for name, node, reads, open_store in _walk(model, open_layer, ""):
        if is_lstm(node):
            lstms[name] = LayerEntry(partial(load_layer, node, open_store, name), reads)
            continue
        others[name] = kind_of(node)
        if kind_of(node) not in MODELS and may_be_recurrent(node):
            refused[name] = KerasRefusal(f"{name} is a {describe(node)}; supported: {SUPPORTED}.", not is_no_lstm(node))
    return Inventory(lstms, others, refused)


def load_layer(node: Config, open_store: OpenStore, where: str, read: ReadCell) -> list[LayerWeights]:
    """Return what `read_layer` does, with weights that are looked for now."""
    return read_layer(node, open_store(), where, read)


def _walk(model: Config, open_layer: OpenLayer, above: str) -> Iterator[tuple[str, Config, str, OpenStore]]:
    """Yield the layers of a model and of the models within it, in order: name, configuration, input and weights."""
    nodes = _layers(model)
    inputs = _inputs(model)
    for (name, node), group in zip(nodes.items(), group_names(nodes.values()), strict=True):
        open_store = partial(open_layer, name, group)
        below = inputs[name]
        for _ in nodes:  # the number of steps is bounded, whatever a file says
            below = inputs[below] if below in nodes and kind_of(nodes[below]) in TRANSPARENT else below
        yield above + name, node, above + below if below in nodes else below, open_store
        if kind_of(node) in MODELS:
            yield from _walk(node, partial(_open_inner, open_store), f"{above}{name}/")


def _open_inner(open_store: OpenStore, name: str, group: str) -> WeightStore:
    return open_store().entry("layers", name, group)


def _layers(model: Config) -> dict[str, Config]:
    if kind_of(model) not in MODELS or "layers" not in model["config"]:
        raise ValueError(
            f"the model is a {kind_of(model)}, whose configuration does not say how its layers follow one another. "
            "Pass a list of its LSTM layers as objects, or its .weights.h5 file and the names of the layers."
        )
    layers = {node["config"]["name"]: node for node in model["config"]["layers"]}
    if len(layers) != len(model["config"]["layers"]):
        raise ValueError(f"the model has two layers of one name: {', '.join(layers)}.")
    return layers


def _inputs(model: Config) -> dict[str, str]:
    """Return, by layer, the name of the layer whose output it reads, or in words what else it reads."""
    nodes = _layers(model)
    if kind_of(model) == "Sequential":
        return dict(zip(nodes, [INPUT, *nodes], strict=False))
    return {name: _input(node.get("inbound_nodes") or []) for name, node in nodes.items()}


def _input(calls: list[Config]) -> str:
    if len(calls) != 1:
        return "several layers in turn" if calls else INPUT
    args, kwargs = calls[0]["args"], calls[0]["kwargs"]
    tensor = args[0] if args else kwargs.get("sequences", kwargs.get("inputs"))
    if not isinstance(tensor, Mapping) or "keras_history" not in tensor.get("config", ()):
        return "several tensors"
    return str(tensor["config"]["keras_history"][0])
