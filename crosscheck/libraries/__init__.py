"""The libraries: one file each, which serves the cross-check, the benchmark and the tests of `jax_lstm.convert`.

A file here knows how to run a network on its library. It does not judge. A JAX library gives an `Adapter`. STANDARD
holds the implementations of the standard suite. OTHER_LIBRARIES are imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from crosscheck.core.names import unknown_name
from crosscheck.libraries import jax_lstm, torch_nn, torch_ref
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

STANDARD: dict[str, Implementation] = {
    each.name: each
    for each in (
        Implementation("jax_lstm", jax_lstm.runner, "jax-lstm"),
        Implementation("torch_ref", torch_ref.runner, "jax-lstm"),
        Implementation("torch.nn.LSTM", torch_nn.runner, "torch"),
    )
}
MODULES = {"flax_linen": "flax", "flax_nnx": "flax", "jax_cudnn": "jax"}  # of other files it is the file's name
PACKAGES = {"haiku": "dm-haiku"}  # of other modules it is the module's name


def load_library(file: str) -> ModuleType:
    """Return a file of this folder, by its name.

    Raises:
      NotInstalled: its library is not installed.
    """
    module = MODULES.get(file, file)
    if find_spec(module) is None:
        raise NotInstalled(f"{PACKAGES.get(module, module)} is not installed; pip install 'jax-lstm[peers]' brings it")
    return import_module(f"{__name__}.{file}")


def _run_adapter(file: str, options: Mapping[str, str], case: Case) -> Runner:
    library = load_library(file)
    return adapter_runner(case, library.LACKING, partial(library.adapter, **options))


def _run_onnxruntime(case: Case) -> Runner:
    return load_library("onnxruntime").runner(case)


def _jax_library(name: str, file: str, **options: str) -> Implementation:
    module = MODULES.get(file, file)
    return Implementation(name, partial(_run_adapter, file, options), PACKAGES.get(module, module))


OTHER_LIBRARIES: dict[str, Implementation] = {
    each.name: each
    for each in (
        Implementation("torch.nn.LSTM/native", torch_nn.native_runner, "torch"),
        _jax_library("flax.linen", "flax_linen"),
        _jax_library("flax.linen.LSTMCell", "flax_linen", cell="LSTMCell"),
        _jax_library("flax.nnx", "flax_nnx"),
        _jax_library("flax.nnx.LSTMCell", "flax_nnx", cell="LSTMCell"),
        _jax_library("haiku", "haiku"),
        _jax_library("equinox", "equinox"),
        _jax_library("keras", "keras"),
        Implementation("onnxruntime", _run_onnxruntime, "onnxruntime", dtypes=("float32",), gradients=False),
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
