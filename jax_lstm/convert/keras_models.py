"""Keras's models: their LSTM layers by name, and whether those are one stack, by which reads the output of which."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from jax_lstm.convert.keras_layers import MODELS, SUPPORTED, ReadCell, Store, group_names, is_lstm, kind_of, read_layer
from jax_lstm.convert.layers import Layer, joined

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
Locate = Callable[[], Store]  # looks for weights where they are wanted: what is not chosen may lack them


@dataclass(frozen=True)
class Found:
    """An LSTM layer of a model. ``reads`` is the layer whose output it reads, and ``name`` its own, as "inner/lstm"."""

    name: str
    reads: str
    node: Mapping[str, Any]
    locate: Locate


def read_model(model: Mapping[str, Any], store: Store, names: Any, read: ReadCell) -> list[Layer]:
    """The chosen LSTM layers of a model, which must be one stack; None chooses all. ValueError where they are not."""
    found = list(find_lstms(model, lambda: store))
    chosen = choose({layer.name: layer for layer in found}, names, dict(_kinds(model)))
    layers = [layer for one in chosen for layer in read_layer(one.node, one.locate(), one.name, read)]
    check_stack(layers, [one.name for one in found])
    for below, above in pairwise(chosen):
        if above.reads != below.name:
            raise ValueError(
                f"{above.name!r} reads {above.reads}, and not {below.name!r}, so that they are no stack of layers: "
                f"convert them one by one, layers=({above.name!r},)."
            )
    return layers


def choose(found: Mapping[str, Any], names: Any, kinds: Mapping[str, str]) -> list[Any]:
    """The entries of ``found`` by ``names``, all for None. ``kinds`` says what the other layers are."""
    listed = ", ".join(map(repr, found)) or "none"
    if names is None:
        if not found:
            others = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none"
            raise ValueError(f"there is no LSTM layer; the layers are: {others}. Supported: {SUPPORTED}.")
        return list(found.values())
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(f"layers is empty; the LSTM layers are: {listed}.")
    for name in names:
        if name not in found:
            what = f"{name!r} is a {kinds[name]}, no LSTM" if name in kinds else f"there is no layer {name!r}"
            raise ValueError(f"layers: {what}; the LSTM layers are: {listed}.")
    return [found[name] for name in names]


def check_stack(layers: list[Layer], names: Sequence[str]) -> None:
    """ValueError, with the names of all LSTM layers that there are, where those chosen do not fit one another."""
    try:
        joined(layers)
    except ValueError as error:
        raise ValueError(
            f"{error} The LSTM layers, of which layers= chooses: {', '.join(map(repr, names))}."
        ) from error


def find_lstms(model: Mapping[str, Any], locate: Locate, above: str = "") -> Iterator[Found]:
    """The LSTM layers of a model and of the models within it, in the order of their layers."""
    nodes = _layers(model)
    inputs = _inputs(model)
    for (name, node), group in zip(nodes.items(), group_names(nodes.values()), strict=True):
        there = partial(_entry, locate, name, group)
        if kind_of(node) in MODELS:
            yield from find_lstms(node, there, f"{above}{name}/")
        elif is_lstm(node):
            below = inputs[name]
            for _ in nodes:  # and no further, whatever a file says
                below = inputs[below] if below in nodes and kind_of(nodes[below]) in PASSING else below
            yield Found(above + name, above + below if below in nodes else below, node, there)


def _entry(locate: Locate, name: str, group: str) -> Store:
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


def _kinds(model: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, node in _layers(model).items():
        yield above + name, kind_of(node)
        if kind_of(node) in MODELS:
            yield from _kinds(node, f"{above}{name}/")


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


def read_object(source: Any, names: Any, read: ReadCell) -> list[Layer]:
    """The layers of a layer or model object."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a lambda, which Keras warns of deserialising
        try:
            config = source.get_config()
        except NotImplementedError:  # a class of the user's, refused by its name
            config = {}
    node = {"module": type(source).__module__, "class_name": type(source).__name__, "config": config}
    if kind_of(node) in MODELS:
        return read_model(node, _Objects(source), names, read)
    if names is not None:
        raise ValueError(f"layers={names!r} chooses among the layers of a model, and source is a {kind_of(node)}.")
    return read_layer(node, _Objects(source), f"the layer {source.name!r}", read)
