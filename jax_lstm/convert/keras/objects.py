"""Layers and models that are objects of Keras: their configurations and their weights."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

from jax_lstm.convert.arrays import AnyArray
from jax_lstm.convert.keras.cell_arrays import NAMES
from jax_lstm.convert.keras.inventory import Inventory, LayerEntry
from jax_lstm.convert.keras.layer_configs import MODELS, WeightStore, is_no_lstm, kind_of, may_be_recurrent
from jax_lstm.convert.keras.model_configs import inventory_of_model, load_layer


def is_keras_object(source: object) -> bool:
    """Return whether this is a layer or a model."""
    return hasattr(source, "get_config") and hasattr(source, "get_weights")


def is_model(source: object) -> bool:
    """Return whether one of Keras's objects is a model whose configuration lists its layers."""
    return kind_of({"module": type(source).__module__, "class_name": type(source).__name__}) in MODELS


def inventory_of_object(source: Any) -> Inventory:
    """Return the layers of a model object, or a layer object as the only one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of a lambda in a configuration, which is not run here
        try:
            config = source.get_config()
        except NotImplementedError:  # a class of the user's, which is refused by its name
            config = {}
    node = {"module": type(source).__module__, "class_name": type(source).__name__, "config": config}
    store = ObjectWeights(source)
    if is_model(source):
        return inventory_of_model(node, partial(store.entry, "layers"))
    load = partial(load_layer, node, lambda: store, f"the layer {source.name!r}")
    return Inventory({source.name: LayerEntry(load, is_lstm=not (may_be_recurrent(node) and is_no_lstm(node)))})


class ObjectWeights(WeightStore):
    """The weights of a layer object."""

    def __init__(self, layer: Any):
        self.layer = layer

    def attribute(self, name: str) -> ObjectWeights:
        return ObjectWeights(getattr(self.layer, name))

    def entry(self, container: str, name: str, group: str) -> ObjectWeights:
        return ObjectWeights({layer.name: layer for layer in getattr(self.layer, container)}[name])

    def arrays(self) -> list[AnyArray]:
        values = [getattr(self.layer, name, None) for name in NAMES]  # None: not built
        return [value for value in values if value is not None]
