"""Finds LSTMs among named arrays: by torch's names at any prefix, checked by shape, dtype and value.

An array belongs to a network where its name ends in one of torch's recurrent entries, "weight_ih_l0" (nn.LSTM) or
"weight_ih" (nn.LSTMCell), after a dot, an underscore or nothing; what stands before is the network's prefix. So
"module." and "_orig_mod." of wrapped modules are parts of prefixes like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from crosscheck.checkpoint.errors import printable
from crosscheck.problem import Arrays
from jax_lstm.network import Network, read_cell, read_network

TOP = "(top level)"
_ENTRY = re.compile(
    r"(?P<before>(?:.*[._])?)(?P<entry>(?:weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)"
    r"(?P<layer>_l(?:0|[1-9][0-9]{0,3})(?:_reverse)?)?)",
    re.DOTALL,
)
_REWRITTEN = re.compile(  # weight norm, pruning, spectral norm and dropped weights keep a weight under other names
    r"(?P<before>(?:.*\.)?)(?P<entry>weight_(?:ih|hh)_l[0-9]+(?:_reverse)?)"
    r"(?:_raw|_orig|_g|_v|\.original[0-9]*)",
    re.DOTALL,
)
_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta"}
_TREE_MOMENTS = {"mu", "nu", "trace"}  # optax's; names of a model's too, but not below an optimizer
_GATES = {4: "nn.LSTM", 3: "nn.GRU", 1: "nn.RNN"}


@dataclass(frozen=True, eq=False)
class Found:
    """An LSTM that can be run.

    ``kind`` is "nn.LSTM" or "nn.LSTMCell", ``params`` has that module's names and ``network`` the sizes and options
    read off it. ``prefix`` is what stood before the names, without the dot; "" at the top level.
    """

    prefix: str
    kind: str
    params: dict[str, np.ndarray] = field(repr=False)
    network: Network

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

    ``kind`` is torch's class as far as shapes tell, "optimizer state", or "unknown". Where it is "nn.LSTM" or
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


def find_lstms(arrays: Mapping[str, np.ndarray], prefix: str = "") -> list[Found]:
    """Every LSTM that can be run, in the arrays' order; with ``prefix`` those at it or below it.

    ``arrays`` are by dotted name, as :func:`read_arrays` gives them. :func:`look` also tells what was left out.
    """
    return [entry for entry in look(arrays, prefix) if isinstance(entry, Found)]


def look(arrays: Mapping[str, np.ndarray], prefix: str = "") -> list[Found | Skipped]:
    """As :func:`find_lstms`, and with a reason whatever has a recurrent network's names and is no LSTM that can run."""
    groups: dict[tuple[str, bool], Arrays] = {}
    rewritten: dict[tuple[str, bool], Arrays] = {}
    for name, array in arrays.items():
        if match := _ENTRY.fullmatch(name):
            groups.setdefault((match["before"], match["layer"] is not None), {})[match["entry"]] = array
        elif match := _REWRITTEN.fullmatch(name):
            key = (match["before"].removesuffix("parametrizations."), True)
            groups.setdefault(key, {})
            rewritten.setdefault(key, {})[name] = array
    entries = [
        _read(before[:-1], is_stack, params, rewritten.get((before, is_stack), {}))
        for (before, is_stack), params in groups.items()
    ]
    wanted = prefix.replace("/", ".").rstrip(".")
    return [e for e in entries if not wanted or e.prefix == wanted or e.prefix.startswith(f"{wanted}.")]


def _read(prefix: str, is_stack: bool, params: Arrays, rewritten: Arrays) -> Found | Skipped:
    kind = _kind(params, "_l0" if is_stack else "", rewritten)
    shown = kind if is_stack or kind == "unknown" else f"{kind}Cell"
    if _is_moment(prefix):
        return Skipped(prefix, "optimizer state", "the moments of an optimizer have a model's names and are no weights")
    if kind not in ("nn.LSTM", "unknown"):
        return Skipped(prefix, shown, "only LSTMs are checked here")
    reason = _unusable(params)
    if not reason:
        try:
            network = (read_network if is_stack else read_cell)(params, "lstm")
        except (TypeError, ValueError) as error:
            reason = printable(str(error).splitlines()[0])
        else:
            reason = _not_finite(params)
    if rewritten and reason:
        reason = (
            f"a weight is stored as {printable(next(iter(rewritten)))!r}: weight norm, pruning or the like is still "
            "on. Save the model after torch.nn.utils.parametrize.remove_parametrizations or prune.remove"
        )
    return Skipped(prefix, shown, reason) if reason else Found(prefix, shown, params, network)


def _kind(params: Arrays, end: str, rewritten: Arrays) -> str:
    """torch's class, by how many gates the recurrent weight has; an LSTM where no weight can tell."""
    recurrent = params.get(f"weight_hh{end}")
    if f"weight_hr{end}" in params:
        return "nn.LSTM"
    if recurrent is None:
        kinds = (_by_gates(array) for name, array in rewritten.items() if "weight_hh" in name)
        return next((kind for kind in kinds if kind != "unknown"), "nn.LSTM")
    return _by_gates(recurrent)


def _by_gates(recurrent: np.ndarray) -> str:
    """By a matrix [gates * H, H]."""
    if recurrent.ndim != 2 or not recurrent.size or recurrent.shape[0] % recurrent.shape[1]:
        return "unknown"
    return _GATES.get(recurrent.shape[0] // recurrent.shape[1], "unknown")


def _is_moment(prefix: str) -> bool:
    parts = prefix.split(".")
    below_optimizer = any(part.startswith("opt") for part in parts)
    return not _MOMENTS.isdisjoint(parts) or (below_optimizer and not _TREE_MOMENTS.isdisjoint(parts))


def _unusable(params: Arrays) -> str:
    """Why these arrays cannot be a network's, before their shapes are compared; "" where they can."""
    for name, array in params.items():
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize > 8:
            return f"{name!r} is {array.dtype}, not floating point of at most 64 bits; save it as float32 (dequantized)"
        if not array.size:
            return f"{name!r} has shape {array.shape}, so no numbers"
    layers = {match["layer"] for match in map(_ENTRY.fullmatch, params) if match}
    top = max((int(re.sub("[^0-9]", "", layer)) for layer in layers if layer), default=0)
    if top >= len(params):  # before anything loops over layers that a name claims
        return f"there is a layer {top} and not every layer below it"
    return ""


def _not_finite(params: Arrays) -> str:
    bad = {name: int(np.count_nonzero(~np.isfinite(array))) for name, array in params.items()}
    said = [f"{name!r} ({count} of {params[name].size})" for name, count in bad.items() if count]
    return f"NaN or inf in {', '.join(said)}: nothing can be compared. Is it from a run that diverged?" if said else ""
