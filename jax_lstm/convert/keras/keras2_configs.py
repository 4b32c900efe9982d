"""Configurations of Keras 2 in Keras 3's form, so that all other files read only one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SINGLE = ("layer", "backward_layer", "cell")  # options whose value is one layer
LISTS = ("layers", "cells")  # options whose value is a list of layers


def as_keras3(node: Any) -> Any:
    """Return the configuration of a layer, and of all layers within it, in Keras 3's form.

    Four things differ. Keras 2 writes no "module", since only Keras's own classes have bare names there: a class of the
    user's is ``package>Name``, unless the user did not register it. A Sequential's config was a list of layers until
    Keras 2.2. A Bidirectional's backward layer is often left out: it is the forward one with the other go_backwards.
    An input is ``[name, node, tensor, arguments]``.
    """
    if not isinstance(node, Mapping) or "class_name" not in node:
        return node
    config = node.get("config")
    if isinstance(config, list):
        config = {"name": node.get("name", ""), "layers": config}
    if not isinstance(config, Mapping):
        return node
    config = {"name": node.get("name"), **config}
    for name in SINGLE:
        if name in config:
            config[name] = as_keras3(config[name])
    for name in LISTS:
        if isinstance(config.get(name), list):
            config[name] = [as_keras3(inner) for inner in config[name]]
    if node["class_name"] == "Bidirectional" and config.get("backward_layer") is None:
        config["backward_layer"] = _backward(config["layer"])
    modern = {"module": "keras", **node, "config": config}
    if isinstance(node.get("inbound_nodes"), list):
        modern["inbound_nodes"] = [_as_keras3_call(call) for call in node["inbound_nodes"]]
    return modern


def _backward(layer: Mapping[str, Any]) -> dict[str, Any]:
    config = layer["config"]
    return {**layer, "config": {**config, "go_backwards": not config.get("go_backwards", False)}}


def _as_keras3_call(call: Any) -> Any:
    """Return a call of a layer. Only ``[[name, node, tensor, arguments]]`` is a call with one tensor."""
    if isinstance(call, Mapping) and "args" in call:  # Keras 3's
        return call
    if not isinstance(call, list) or len(call) != 1:  # several tensors, in a list or by names, or an operation's
        return {"args": [call], "kwargs": {}}
    return {"args": [{"config": {"keras_history": call[0]}}], "kwargs": {}}
