"""LSTMs among named arrays: found by torch's names at any prefix, and checked by shape, dtype and value.

An array belongs to a network if its name ends in one of torch's recurrent entries, "weight_ih_l0" (nn.LSTM) or
"weight_ih" (nn.LSTMCell), after a dot, an underscore or nothing. The text before it is the network's prefix, so that
"module." and "_orig_mod." of wrapped modules are parts of prefixes. Other arrays under the same prefix belong to the
same module. If there are any, the module computes something that the names do not tell.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import jax.numpy as jnp
import numpy as np

from crosscheck.core.errors import first_line
from crosscheck.core.problem import Arrays
from crosscheck.studies.checkpoint.contents import TOP, Checkpoint, Skipped
from crosscheck.studies.checkpoint.errors import listed, printable
from crosscheck.studies.checkpoint.stored_forms import (
    FoldedNetwork,
    StoredNetwork,
    fold,
    is_stretched,
    stored_networks,
)
from jax_lstm._src.network import Network, read_cell, read_network

_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta"}
_TREE_MOMENTS = {"mu", "nu", "trace"}  # optax's; below an optimizer only, since a model may have these names too
_GATES = {4: "nn.LSTM", 3: "nn.GRU", 1: "nn.RNN"}
_SHOWN = 4  # names of other arrays that a reason lists
# before torch 1.13, and since then
_QUANTIZED = tuple(f"torch.{home}.quantized.dynamic.modules.rnn" for home in ("nn", "ao.nn"))
_PLAIN = {
    *(f"{home}.{name}" for home in ("torch.nn.modules.rnn", *_QUANTIZED) for name in ("LSTM", "LSTMCell")),
    *(f"{home}.PackedParameter" for home in _QUANTIZED),
}
_OPTIMIZER = re.compile(r"opts?|optims?|optimizers?|(opt|optim|optimizer)_states?(_dict)?")


@dataclass(frozen=True, eq=False)
class FoundLSTM:
    """An LSTM that can be run.

    Attributes:
      prefix: the text before the names, without the dot; "" at the top level.
      kind: "nn.LSTM" or "nn.LSTMCell".
      params: the weights by that module's names.
      network: the sizes and options that the weights have.
      notes: which of the params the file stores in another form, and how they were computed.
    """

    prefix: str
    kind: str
    params: dict[str, np.ndarray] = field(repr=False)
    network: Network
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The prefix as text for the user."""
        return printable(self.prefix) or TOP

    @property
    def stack_params(self) -> dict[str, np.ndarray]:
        """``params`` by nn.LSTM's names: a cell is one layer."""
        return {name if self.kind == "nn.LSTM" else f"{name}_l0": array for name, array in self.params.items()}


def find_lstms(source: Checkpoint | Mapping[str, np.ndarray], prefix: str = "") -> list[FoundLSTM]:
    """Return every LSTM that can be run, in the order of the arrays.

    Args:
      source: what `read_checkpoint` returns, or arrays by dotted name.
      prefix: return only the LSTMs at this prefix or below it.
    """
    return [network for network in find_networks(source, prefix) if isinstance(network, FoundLSTM)]


def find_networks(source: Checkpoint | Mapping[str, np.ndarray], prefix: str = "") -> list[FoundLSTM | Skipped]:
    """Return what `find_lstms` does, and every other recurrent network with the reason why it is not run."""
    checkpoint = source if isinstance(source, Checkpoint) else Checkpoint(dict(source))
    names = sorted(checkpoint.arrays)
    stored = stored_networks(checkpoint.arrays)
    all_entries = {name for network in stored for name in network.names}
    networks = [
        *(_check(network, _other_arrays(network, names, all_entries), checkpoint) for network in stored),
        *checkpoint.refused,
    ]
    wanted = prefix.replace("/", ".").rstrip(".")
    return [n for n in networks if not wanted or n.prefix == wanted or n.prefix.startswith(f"{wanted}.")]


def _check(stored: StoredNetwork, others: Sequence[str], checkpoint: Checkpoint) -> FoundLSTM | Skipped:
    folded = fold(stored)
    gates = _kind(stored, folded.params)
    kind = gates if stored.is_stack or gates == "unknown" else f"{gates}Cell"
    if _is_moment(stored.prefix):
        reason = "the moments of an optimizer have a model's names and are no weights"
        return Skipped(stored.prefix, "optimizer state", reason)
    if gates not in ("nn.LSTM", "unknown"):
        return Skipped(stored.prefix, kind, "only LSTMs are checked here")
    skip = partial(Skipped, stored.prefix, kind, is_lstm=gates == "nn.LSTM")
    network = _network(folded, stored.is_stack)
    if isinstance(network, str):
        return skip(network)
    if others:
        return skip(_not_plain(kind, others))
    if classes := _other_classes(stored, checkpoint.holders):
        return skip(f"this is no plain {kind}: its class is {listed(classes)}, which may compute anything")
    converted = sorted(stored.names & checkpoint.notes.keys()) if not stored.cells else []
    notes = [f"{printable(name)} is {checkpoint.notes[name]}" for name in converted]
    # Copies: the file may change while it is mapped.
    params = {name: np.array(array) for name, array in folded.params.items()}
    return FoundLSTM(stored.prefix, kind, params, network, (*folded.notes, *notes))


def _other_classes(network: StoredNetwork, holders: Mapping[str, str]) -> list[str]:
    """Return the module's classes that the file names and that are not torch's.

    WeightDrop's module has only the raw weight, which does not count.
    """
    named = {holders[name] for name in network.names & holders.keys() if not name.endswith("_raw")}
    return sorted(named - _PLAIN)


def _network(folded: FoldedNetwork, is_stack: bool) -> Network | str:
    """Return the sizes and options of a network that can be run, or the reason why it cannot."""
    if reason := folded.refused or _unusable(folded.params):
        return reason
    try:
        network = (read_network if is_stack else read_cell)(folded.params, "lstm")
    except (TypeError, ValueError) as error:
        return printable(first_line(error).rstrip("."))
    return _not_finite(folded.params) or network


def _kind(network: StoredNetwork, params: Arrays) -> str:
    """Return torch's class, by the number of gates of the recurrent weight; nn.LSTM if no weight can tell."""
    end = "_l0" if network.is_stack else ""
    if f"weight_hr{end}" in network.forms:
        return "nn.LSTM"
    if f"weight_hh{end}" in params:
        return _by_gates(params[f"weight_hh{end}"])
    forms = network.forms.get(f"weight_hh{end}", {}) or network.cells.get(0, {})
    kinds = map(_by_gates, forms.values())
    return next((kind for kind in kinds if kind != "unknown"), "nn.LSTM")


def _by_gates(recurrent: np.ndarray) -> str:
    """Return torch's class by a recurrent matrix ``[gates * H, H]``."""
    if recurrent.ndim != 2 or not recurrent.size or recurrent.shape[0] % recurrent.shape[1]:
        return "unknown"
    return _GATES.get(recurrent.shape[0] // recurrent.shape[1], "unknown")


def _is_moment(prefix: str) -> bool:
    parts = prefix.split(".")
    return not _MOMENTS.isdisjoint(parts) or (_is_below_optimizer(parts) and not _TREE_MOMENTS.isdisjoint(parts))


def _is_below_optimizer(parts: Sequence[str]) -> bool:
    return any(_OPTIMIZER.fullmatch(part) for part in parts)


def _other_arrays(network: StoredNetwork, names: Sequence[str], all_entries: set[str]) -> list[str]:
    """Return the first of the sorted ``names`` that lie under the network's prefix and are none of its entries.

    The module "encoder" has everything below "encoder.". "encoder_" is no module's name. Therefore the entries of other
    networks may lie below it; ``all_entries`` has the entries of all networks.
    """
    before = network.before
    entries = all_entries if before.endswith("_") else network.names
    others: list[str] = []
    for name in islice(names, bisect_left(names, before), None):
        if not name.startswith(before) or len(others) == _SHOWN + 1:
            break
        if name not in entries and not _is_optimizer_state(name.removeprefix(before).split(".")):
            others.append(name)
    return others


def _is_optimizer_state(parts: Sequence[str]) -> bool:
    return _is_below_optimizer(parts) or not _MOMENTS.isdisjoint(parts)


def _not_plain(kind: str, others: Sequence[str]) -> str:
    more = ", ..." if len(others) > _SHOWN else ""
    return (
        f"this is no plain {kind}: under the same prefix lie {listed(list(others[:_SHOWN]))}{more}, and the file does "
        "not say what the module does with them. If they are no part of it, save the state dict of the LSTM by itself"
    )


def _unusable(params: Arrays) -> str:
    """Return why these arrays cannot be a network's, before their shapes are compared; "" if they can."""
    for name, array in params.items():
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize > 8:
            return f"{name!r} is {array.dtype}, not floating point of at most 64 bits; save it as float32 (dequantized)"
        if not array.size:
            return f"{name!r} has shape {array.shape}, so no numbers"
        if is_stretched(array):
            return f"{name!r} is a few numbers stretched to shape {array.shape}; save it with .contiguous()"
    layers = [int(layer) for name in params for layer in re.findall(r"_l(\d+)", name)]
    if (top := max(layers, default=0)) >= len(params):  # others loop over the layers, and a name could claim any number
        return f"there is a layer {top} and not every layer below it"
    return ""


def _not_finite(params: Arrays) -> str:
    counts = {name: int(np.count_nonzero(~np.isfinite(array))) for name, array in params.items()}
    bad = [f"{name!r} ({count} of {params[name].size})" for name, count in counts.items() if count]
    return f"NaN or inf in {', '.join(bad)}: nothing can be compared. Is it from a run that diverged?" if bad else ""
