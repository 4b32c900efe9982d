"""The libraries: one file each, which serves the cross-check, the benchmark and the tests of `jax_lstm.convert`.

A file here knows how to run a network on its library. It does not judge. A file of a JAX library has `adapter`, any
other has `runner`. Each is imported when it is asked for, so that no library is needed for another one. STANDARD holds
the implementations of the standard suite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from crosscheck.core.names import unknown_name
from crosscheck.libraries.adapter import Adapter, adapter_runner
from crosscheck.libraries.implementation import Implementation, NotInstalled, NotSupported, Runner
from crosscheck.lstm.cases import Case

__all__ = [
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

MODULES = {"flax_linen": "flax", "flax_nnx": "flax", "jax_cudnn": "jax", "torch_nn": "torch"}  # else the file's name
PACKAGES = {"haiku": "dm-haiku", "jax_lstm": "jax-lstm", "torch_ref": "jax-lstm"}  # else the module's name


def load_library(file: str) -> ModuleType:
    """Return a file of this folder, by its name.

    Raises:
      NotInstalled: its library is not installed.
    """
    if find_spec(MODULES.get(file, file)) is None:
        raise NotInstalled(f"{_package(file)} is not installed; pip install 'jax-lstm[peers]' brings it")
    return import_module(f"{__name__}.{file}")


def _package(file: str) -> str:
    module = MODULES.get(file, file)
    return PACKAGES.get(module, module)


def _run_adapter(file: str, options: Mapping[str, Any], case: Case) -> Runner:
    library = load_library(file)
    return adapter_runner(case, library.LACKING, partial(library.adapter, **options))


def _run_own(file: str, options: Mapping[str, Any], case: Case) -> Runner:
    return load_library(file).runner(case, **options)


def _jax_library(name: str, file: str, **options: Any) -> Implementation:
    return Implementation(name, partial(_run_adapter, file, options), _package(file))


def _library(name: str, file: str, **options: Any) -> Implementation:
    return Implementation(name, partial(_run_own, file, options), _package(file))


STANDARD: dict[str, Implementation] = {
    each.name: each
    for each in (
        _library("jax_lstm", "jax_lstm"),
        _library("torch_ref", "torch_ref"),
        _library("torch.nn.LSTM", "torch_nn"),
    )
}
OTHER_LIBRARIES: dict[str, Implementation] = {
    each.name: each
    for each in (
        _library("torch.nn.LSTM/native", "torch_nn", onednn=False),
        _jax_library("flax.linen", "flax_linen"),
        _jax_library("flax.linen.LSTMCell", "flax_linen", cell="LSTMCell"),
        _jax_library("flax.nnx", "flax_nnx"),
        _jax_library("flax.nnx.LSTMCell", "flax_nnx", cell="LSTMCell"),
        _jax_library("haiku", "haiku"),
        _jax_library("equinox", "equinox"),
        _jax_library("keras", "keras"),
        replace(_library("onnxruntime", "onnxruntime"), dtypes=("float32",), gradients=False),
    )
}


def implementations_named(names: Iterable[str]) -> list[Implementation]:
    """Return the implementations of these names, in order.

    A name also stands for all names that continue it after a dot, as flax for flax.linen.

    Raises:
      ValueError: a name is unknown.
    """
    known = STANDARD | OTHER_LIBRARIES
    chosen: dict[str, Implementation] = {}
    for name in (name.strip() for name in names):
        matches = [name] if name in known else [key for key in known if name and key.startswith(f"{name}.")]
        if not matches:
            raise ValueError(unknown_name("implementation", name, list(known)))
        chosen |= {match: known[match] for match in matches}
    return list(chosen.values())
