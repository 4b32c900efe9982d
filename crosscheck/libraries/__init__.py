"""The implementations of a cross-check: one file per library, and one line in a table below.

STANDARD holds the implementations of the standard suite. OTHER_LIBRARIES are imported when they are asked for. A file
here knows how to run a case on its library. It does not judge.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from crosscheck.core.names import unknown_name
from crosscheck.libraries import jax_lstm, torch_nn, torch_ref
from crosscheck.libraries.implementation import Implementation, NotInstalled, NotSupported, Runner
from crosscheck.lstm.cases import Case

__all__ = [
    "OTHER_LIBRARIES",
    "STANDARD",
    "Implementation",
    "NotInstalled",
    "NotSupported",
    "Runner",
    "implementations_named",
]

STANDARD: dict[str, Implementation] = {
    each.name: each
    for each in (
        Implementation("jax_lstm", jax_lstm.runner, "jax-lstm"),
        Implementation("torch_ref", torch_ref.runner, "jax-lstm"),
        Implementation("torch.nn.LSTM", torch_nn.runner, "torch"),
    )
}


def _run_other(file: str, needs: str, case: Case, **options: Any) -> Runner:
    """Import a file of this folder, and return its runner.

    Raises:
      NotInstalled, NotSupported: there is none.
    """
    if find_spec(needs) is None:
        raise NotInstalled(f"there is no module {needs!r}; pip install 'jax-lstm[peers]' brings it")
    return import_module(f"{__name__}.{file}").runner(case, **options)


def _other(name: str, file: str, needs: str, package: str = "", cell: str = "", **options: Any) -> Implementation:
    """Return an implementation that imports its file, and with it its library, when it runs."""
    cells: dict[str, Any] = {"cell": cell} if cell else {}
    return Implementation(name, partial(_run_other, file, needs, **cells), package or needs, **options)


OTHER_LIBRARIES: dict[str, Implementation] = {
    each.name: each
    for each in (
        Implementation("torch.nn.LSTM/native", torch_nn.native_runner, "torch"),
        _other("flax.linen", "flax_linen", "flax"),
        _other("flax.linen.LSTMCell", "flax_linen", "flax", cell="LSTMCell"),
        _other("flax.nnx", "flax_nnx", "flax"),
        _other("flax.nnx.LSTMCell", "flax_nnx", "flax", cell="LSTMCell"),
        _other("haiku", "haiku", "haiku", "dm-haiku"),
        _other("equinox", "equinox", "equinox"),
        _other("keras", "keras", "keras"),
        _other("onnxruntime", "onnxruntime", "onnxruntime", dtypes=("float32",), gradients=False),
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
        if name in known:
            found = [known[name]]
        else:
            found = [implementation for key, implementation in known.items() if key.startswith(f"{name}.")]
        if not name or not found:
            raise ValueError(unknown_name("implementation", name, list(known)))
        chosen |= {implementation.name: implementation for implementation in found}
    return list(chosen.values())
