"""The libraries: one file each, which serves the cross-check, the benchmark and the tests of `jax_lstm.convert`.

A file here knows how to run a network on its library. It does not judge. Other JAX libraries and Keras have `adapter`;
the rest has `runner`. Each file is imported when it is asked for, so that no library is needed for another one.
STANDARD holds the implementations that answer every case, and BACKENDS ours with one backend, which may lack an answer.
The standard suite judges both. OTHER_LIBRARIES is judged if it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from crosscheck.core.missing import what_is_missing
from crosscheck.core.names import unknown_name
from crosscheck.libraries.adapter import Adapter, adapter_runner
from crosscheck.libraries.implementation import Implementation, NotInstalled, NotSupported, Runner
from crosscheck.lstm.cases import Case

__all__ = [
    "BACKENDS",
    "OTHER_LIBRARIES",
    "STANDARD",
    "Adapter",
    "Implementation",
    "NotInstalled",
    "NotSupported",
    "Runner",
    "adapter_runner",
    "implementations_named",
    "load_library",
]


def load_library(file: str) -> ModuleType:
    """Return a file of this folder, by its name.

    Raises:
      NotInstalled: its library is not installed.
    """
    try:
        return import_module(f"{__name__}.{file}")
    except ModuleNotFoundError as error:
        if what_is_missing(error) is not None:  # the cross-check itself needs it
            raise
        raise NotInstalled(f"{error.name} is not installed; pip install 'jax-lstm[libraries]' brings it") from error


def _runner(file: str, options: Mapping[str, Any], case: Case) -> Runner:
    library = load_library(file)
    if hasattr(library, "adapter"):
        return adapter_runner(case, library.LACKING, partial(library.adapter, **options))
    return library.runner(case, **options)


def _library(name: str, package: str, file: str, **options: Any) -> Implementation:
    return Implementation(name, partial(_runner, file, options), package)


STANDARD: dict[str, Implementation] = {
    each.name: each
    for each in (
        _library("jax_lstm", "jax-lstm", "jax_lstm"),
        _library("torch_ref", "jax-lstm", "torch_ref"),
        _library("torch.nn.LSTM", "torch", "torch_nn"),
    )
}
BACKENDS: dict[str, Implementation] = {
    each.name: each
    for each in (
        _library("jax_lstm[native]", "jax-lstm", "jax_lstm", backend="native"),
        _library("jax_lstm[scan]", "jax-lstm", "jax_lstm", backend="scan"),
    )
}
OTHER_LIBRARIES: dict[str, Implementation] = {
    each.name: each
    for each in (
        _library("torch.nn.LSTM/native", "torch", "torch_nn", onednn=False),
        _library("flax.linen", "flax", "flax_linen"),
        _library("flax.linen.LSTMCell", "flax", "flax_linen", cell="LSTMCell"),
        _library("flax.nnx", "flax", "flax_nnx"),
        _library("flax.nnx.LSTMCell", "flax", "flax_nnx", cell="LSTMCell"),
        _library("haiku", "dm-haiku", "haiku"),
        _library("equinox", "equinox", "equinox"),
        _library("keras", "keras", "keras"),
        replace(_library("onnxruntime", "onnxruntime", "onnxruntime"), dtypes=("float32",), gradients=False),
    )
}


def implementations_named(names: Iterable[str]) -> list[Implementation]:
    """Return the implementations of these names, in order.

    A name also stands for all names that continue it after a dot, as flax for flax.linen.

    Raises:
      ValueError: a name is unknown.
    """
    known = STANDARD | BACKENDS | OTHER_LIBRARIES
    chosen: dict[str, Implementation] = {}
    for name in (name.strip() for name in names):
        matches = [name] if name in known else [key for key in known if name and key.startswith(f"{name}.")]
        if not matches:
            raise ValueError(unknown_name("implementation", name, list(known)))
        chosen |= {match: known[match] for match in matches}
    return list(chosen.values())
