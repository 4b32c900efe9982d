"""Finds LSTMs among named arrays: by torch's names at any prefix, checked by shape, dtype and value.

An array belongs to a network if its name ends in one of torch's recurrent entries, "weight_ih_l0" (nn.LSTM) or
"weight_ih" (nn.LSTMCell), after a dot, an underscore or nothing. What stands before is the network's prefix. So
"module." and "_orig_mod." of wrapped modules are parts of prefixes like any other. What lies beside a network's entries
under the same prefix is of the same module, and then that module computes something that the names do not tell.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import jax.numpy as jnp
import numpy as np

from crosscheck.core.problem import Arrays
from crosscheck.studies.checkpoint.errors import first_line, listed, printable
from crosscheck.studies.checkpoint.flat import Checkpoint, Refusal
from crosscheck.studies.checkpoint.fold import Folded, Stored, fold, is_stretched, stored_networks
from jax_lstm._src.network import Network, read_cell, read_network

TOP = "(top level)"
_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta"}
_TREE_MOMENTS = {"mu", "nu", "trace"}  # optax's; names of a model's too, but not below an optimizer
_GATES = {4: "nn.LSTM", 3: "nn.GRU", 1: "nn.RNN"}
_BESIDE = 4  # names that are told
_QUANTIZED = tuple(f"torch.{home}.quantized.dynamic.modules.rnn" for home in ("nn", "ao.nn"))  # before 1.13, and since
_PLAIN = {
    *(f"{home}.{name}" for home in ("torch.nn.modules.rnn", *_QUANTIZED) for name in ("LSTM", "LSTMCell")),
    *(f"{home}.PackedParameter" for home in _QUANTIZED),
}
_OPTIMIZER = re.compile(r"opts?|optims?|optimizers?|(opt|optim|optimizer)_states?(_dict)?")


@dataclass(frozen=True, eq=False)
class Found:
    """An LSTM that can be run.

    ``kind`` is "nn.LSTM" or "nn.LSTMCell", ``params`` has that module's names and ``network`` the sizes and options
    read off it. ``prefix`` is what stood before the names, without the dot; "" at the top level. ``notes`` say which of
    the params are not stored as they are, and how they were computed.
    """

    prefix: str
    kind: str
    params: dict[str, np.ndarray] = field(repr=False)
    network: Network
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The prefix, for people."""
        return printable(self.prefix) or TOP

    @property
    def stack_params(self) -> dict[str, np.ndarray]:
        """``params`` by nn.LSTM's names: a cell is one layer."""
        return {name if self.kind == "nn.LSTM" else f"{name}_l0": array for name, array in self.params.items()}


@dataclass(frozen=True)
class Skipped:
    """A recurrent network, by its names, that is no LSTM or cannot be run, and the reason.

    ``kind`` is torch's class as far as shapes tell, "optimizer state", or "unknown". If it is "nn.LSTM" or
    "nn.LSTMCell", an LSTM of the file is left unchecked (``is_lstm``).
    """

    prefix: str
    kind: str
    reason: str

    @property
    def name(self) -> str:
        return printable(self.prefix) or TOP

    @property
    def is_lstm(self) -> bool:
        return self.kind.startswith("nn.LSTM")


def find_lstms(source: Checkpoint | Mapping[str, np.ndarray], prefix: str = "") -> list[Found]:
    """Return every LSTM that can be run, in the order of the arrays; with ``prefix`` those at it or below it.

    ``source`` is what :func:`read_checkpoint` gives, or only arrays by dotted name. :func:`look` also tells what was
    left out.
    """
    return [entry for entry in look(source, prefix) if isinstance(entry, Found)]


def look(source: Checkpoint | Mapping[str, np.ndarray], prefix: str = "") -> list[Found | Skipped]:
    """Return what :func:`find_lstms` does, and every other recurrent network with the reason why it is not run."""
    read = source if isinstance(source, Checkpoint) else Checkpoint(dict(source))
    names = sorted(read.arrays)
    networks = stored_networks(read.arrays)
    everyones = {name for network in networks for name in network.names}
    entries = [
        *(_read(network, _beside(network, names, everyones), read) for network in networks),
        *(_skipped(name, refusal) for name, refusal in read.refused.items()),
    ]
    wanted = prefix.replace("/", ".").rstrip(".")
    return [e for e in entries if not wanted or e.prefix == wanted or e.prefix.startswith(f"{wanted}.")]


def _skipped(name: str, refusal: Refusal) -> Skipped:
    return Skipped(name, "nn.LSTM" if refusal.is_lstm else "unknown", printable(refusal.reason.rstrip(".")))


def _read(network: Stored, beside: Sequence[str], read: Checkpoint) -> Found | Skipped:
    folded = fold(network)
    kind = _kind(network, folded.params)
    shown = kind if network.is_stack or kind == "unknown" else f"{kind}Cell"
    if _is_moment(network.prefix):
        reason = "the moments of an optimizer have a model's names and are no weights"
        return Skipped(network.prefix, "optimizer state", reason)
    if kind not in ("nn.LSTM", "unknown"):
        return Skipped(network.prefix, shown, "only LSTMs are checked here")
    found = _network(folded, network.is_stack)
    if isinstance(found, str):
        return Skipped(network.prefix, shown, found)
    if beside:
        return Skipped(network.prefix, shown, _not_plain(shown, beside))
    if classes := _other_classes(network, read.holders):
        reason = f"this is no plain {shown}: its class is {listed(classes)}, which may compute anything"
        return Skipped(network.prefix, shown, reason)
    notes = [f"{printable(name)} is {read.notes[name]}" for name in sorted(network.names & read.notes.keys())]
    # Copies: the file may change while it is mapped.
    params = {name: np.array(array) for name, array in folded.params.items()}
    return Found(network.prefix, shown, params, found, (*folded.notes, *(() if network.cells else notes)))


def _other_classes(network: Stored, holders: Mapping[str, str]) -> list[str]:
    """The classes that the file names for the module, if they are not torch's. WeightDrop's has the raw weight only."""
    named = {holders[name] for name in network.names & holders.keys() if not name.endswith("_raw")}
    return sorted(named - _PLAIN)


def _network(folded: Folded, is_stack: bool) -> Network | str:
    """The sizes and options of a network that can be run, or why it cannot."""
    if reason := folded.refused or _unusable(folded.params):
        return reason
    try:
        network = (read_network if is_stack else read_cell)(folded.params, "lstm")
    except (TypeError, ValueError) as error:
        return printable(first_line(error))
    return _not_finite(folded.params) or network


def _kind(network: Stored, params: Arrays) -> str:
    """torch's class, by how many gates the recurrent weight has; an LSTM if no weight can tell."""
    end = "_l0" if network.is_stack else ""
    if f"weight_hr{end}" in network.forms:
        return "nn.LSTM"
    if f"weight_hh{end}" in params:
        return _by_gates(params[f"weight_hh{end}"])
    forms = network.forms.get(f"weight_hh{end}", {}) or network.cells.get(0, {})
    kinds = map(_by_gates, forms.values())
    return next((kind for kind in kinds if kind != "unknown"), "nn.LSTM")


def _by_gates(recurrent: np.ndarray) -> str:
    """By a matrix [gates * H, H]."""
    if recurrent.ndim != 2 or not recurrent.size or recurrent.shape[0] % recurrent.shape[1]:
        return "unknown"
    return _GATES.get(recurrent.shape[0] // recurrent.shape[1], "unknown")


def _is_moment(prefix: str) -> bool:
    parts = prefix.split(".")
    return not _MOMENTS.isdisjoint(parts) or (_is_below_optimizer(parts) and not _TREE_MOMENTS.isdisjoint(parts))


def _is_below_optimizer(parts: Sequence[str]) -> bool:
    return any(_OPTIMIZER.fullmatch(part) for part in parts)


def _beside(network: Stored, names: Sequence[str], everyones: set[str]) -> list[str]:
    """The first of the sorted ``names`` that lie under the network's prefix and are none of its own entries.

    Below "encoder." lies what the module "encoder" has. "encoder_" is no module's name, so another network may have it.
    ``everyones`` are the entries of all networks.
    """
    before = network.before
    own = everyones if before.endswith("_") else network.names
    found: list[str] = []
    for name in islice(names, bisect_left(names, before), None):
        if not name.startswith(before) or len(found) == _BESIDE + 1:
            break
        if name not in own and not _is_an_optimizers(name.removeprefix(before).split(".")):
            found.append(name)
    return found


def _is_an_optimizers(parts: Sequence[str]) -> bool:
    return _is_below_optimizer(parts) or not _MOMENTS.isdisjoint(parts)


def _not_plain(kind: str, beside: Sequence[str]) -> str:
    more = ", ..." if len(beside) > _BESIDE else ""
    return (
        f"this is no plain {kind}: under the same prefix lie {listed(list(beside[:_BESIDE]))}{more}, and the file does "
        "not say what the module does with them. If they are no part of it, save the state dict of the LSTM by itself"
    )


def _unusable(params: Arrays) -> str:
    """Why these arrays cannot be a network's, before their shapes are compared; "" if they can."""
    for name, array in params.items():
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize > 8:
            return f"{name!r} is {array.dtype}, not floating point of at most 64 bits; save it as float32 (dequantized)"
        if not array.size:
            return f"{name!r} has shape {array.shape}, so no numbers"
        if is_stretched(array):
            return f"{name!r} is a few numbers stretched to shape {array.shape}; save it with .contiguous()"
    layers = [int(layer) for name in params for layer in re.findall(r"_l(\d+)", name)]
    if (top := max(layers, default=0)) >= len(params):  # before anything loops over layers that a name claims
        return f"there is a layer {top} and not every layer below it"
    return ""


def _not_finite(params: Arrays) -> str:
    bad = {name: int(np.count_nonzero(~np.isfinite(array))) for name, array in params.items()}
    said = [f"{name!r} ({count} of {params[name].size})" for name, count in bad.items() if count]
    return f"NaN or inf in {', '.join(said)}: nothing can be compared. Is it from a run that diverged?" if said else ""
