"""The sides of a cross-check. A side is one file with one interface and one line in one of the tables below.

SIDES are the ones of the standard suite; PEERS are other libraries, imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from crosscheck.core.names import unknown_name
from crosscheck.libraries import jax_lstm, torch_nn, torch_ref
from crosscheck.libraries.implementation import NotInstalled, NotSupported, Runner, Side
from crosscheck.lstm.cases import Case

__all__ = ["PEERS", "SIDES", "NotInstalled", "NotSupported", "Runner", "Side", "choose"]

SIDES: dict[str, Side] = {
    side.name: side
    for side in (
        Side("jax_lstm", jax_lstm.runner, "jax-lstm"),
        Side("torch_ref", torch_ref.runner, "jax-lstm"),
        Side("torch.nn.LSTM", torch_nn.runner, "torch"),
    )
}


def _run_peer(file: str, needs: str, case: Case, **options) -> Runner:
    """The runner of a file of this folder, imported now. NotInstalled, NotSupported."""
    if find_spec(needs) is None:
        raise NotInstalled(f"there is no module {needs!r}; pip install 'jax-lstm[peers]' brings it")
    return import_module(f"{__name__}.{file}").runner(case, **options)


def _peer(name: str, file: str, needs: str, package: str = "", cell: str = "", **kind) -> Side:
    """A side that imports its file, and with it its library, when it is run."""
    options: dict[str, Any] = {"cell": cell} if cell else {}
    return Side(name, partial(_run_peer, file, needs, **options), package or needs, **kind)


PEERS: dict[str, Side] = {
    side.name: side
    for side in (
        Side("torch.nn.LSTM/native", torch_nn.native_runner, "torch"),
        _peer("flax.linen", "flax_linen", "flax"),
        _peer("flax.linen.LSTMCell", "flax_linen", "flax", cell="LSTMCell"),
        _peer("flax.nnx", "flax_nnx", "flax"),
        _peer("flax.nnx.LSTMCell", "flax_nnx", "flax", cell="LSTMCell"),
        _peer("haiku", "haiku", "haiku", "dm-haiku"),
        _peer("equinox", "equinox", "equinox"),
        _peer("keras", "keras", "keras"),
        _peer("onnxruntime", "onnxruntime", "onnxruntime", dtypes=("float32",), gradients=False),
    )
}


def choose(names: Iterable[str]) -> list[Side]:
    """The sides of these names, in order; a name also stands for all that go on from it, as flax for flax.linen.

    ValueError where a name is none.
    """
    known = SIDES | PEERS
    chosen: dict[str, Side] = {}
    for name in (name.strip() for name in names):
        found = [known[name]] if name in known else [side for key, side in known.items() if key.startswith(f"{name}.")]
        if not name or not found:
            raise ValueError(unknown_name("side", name, list(known)))
        chosen |= {side.name: side for side in found}
    return list(chosen.values())
