"""The sides of a cross-check. A side is one file with one interface and one line in one of the tables below.

SIDES are the ones of the standard suite; PEERS are other libraries, imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib import import_module

from crosscheck.cases import Case
from crosscheck.sides import jax_lstm, torch_nn, torch_ref
from crosscheck.sides.side import NotInstalled, NotSupported, Runner, Side

__all__ = ["PEERS", "SIDES", "NotInstalled", "NotSupported", "Runner", "Side", "choose"]

SIDES: dict[str, Side] = {
    side.name: side
    for side in (
        Side("jax_lstm", jax_lstm.runner),
        Side("torch_ref", torch_ref.runner),
        Side("torch.nn.LSTM", torch_nn.runner),
    )
}


def _peer(file: str, package: str, case: Case, **options) -> Runner:
    """The runner of a file of this folder, imported now. NotInstalled, NotSupported."""
    try:
        module = import_module(f"{__name__}.{file}")
    except ImportError as error:
        raise NotInstalled(f"{package} is not installed (pip install 'jax-lstm[peers]'): {error}") from error
    return module.runner(case, **options)


PEERS: dict[str, Side] = {
    side.name: side
    for side in (
        Side("torch.nn.LSTM/native", torch_nn.native_runner),
        Side("flax.linen", partial(_peer, "flax_linen", "flax")),
        Side("flax.linen.LSTMCell", partial(_peer, "flax_linen", "flax", cell="LSTMCell")),
        Side("flax.nnx", partial(_peer, "flax_nnx", "flax")),
        Side("flax.nnx.LSTMCell", partial(_peer, "flax_nnx", "flax", cell="LSTMCell")),
        Side("haiku", partial(_peer, "haiku", "dm-haiku")),
        Side("equinox", partial(_peer, "equinox", "equinox")),
        Side("keras", partial(_peer, "keras", "keras")),
        Side("onnxruntime", partial(_peer, "onnxruntime", "onnxruntime"), lanes=("B",), gradients=False),
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
            raise ValueError(f"unknown side {name!r}; known: {', '.join(known)}")
        chosen |= {side.name: side for side in found}
    return list(chosen.values())
