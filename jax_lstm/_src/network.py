"""The sizes of a network, read from its weights so that nothing is configured twice.

A parameter tree is a torch state dict: a flat dict of arrays under torch's names, shapes and gate order.

    weight_ih_l{k}{_reverse} [G, D_k]     weight_hh_l{k}{_reverse} [G, P]     weight_hr_l{k}{_reverse} [P, H]
    bias_ih_l{k}{_reverse} [G]            bias_hh_l{k}{_reverse} [G]

G = 4H for an LSTM and H for an RNN; P = H without a projection; D_0 = D, and D_k = directions * P for later layers. A
single cell has the same names without ``_l{k}``. Both biases are kept. Each receives the full gradient, so that their
sum moves twice as far as one merged bias would.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jax_lstm._src.cell import LSTM
from jax_lstm._src.checks import require_floating
from jax_lstm._src.recognize import advice, listed

KINDS = {"lstm": LSTM.num_gates, "rnn": 1}
_ENTRY = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d+)(_reverse)?")


@dataclass(frozen=True)
class Network:
    """The sizes and options of a stack of recurrent layers, and the shapes that follow from them."""

    kind: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0

    @property
    def num_gates(self) -> int:
        return KINDS[self.kind]

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Return P, the width of h."""
        return self.proj_size or self.hidden_size

    @property
    def rows(self) -> list[tuple[int, str]]:
        """Return (layer, suffix) of each layer and direction, in torch's order."""
        suffixes = ("", "_reverse")[: self.directions]
        return [(layer, suffix) for layer in range(self.num_layers) for suffix in suffixes]

    def input_size_of(self, layer: int) -> int:
        """Return the width of the inputs of a layer."""
        return self.input_size if layer == 0 else self.directions * self.output_size

    def cell_shapes(self, layer: int = 0) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one layer in one direction by names without the layer, in torch's order."""
        wide = self.num_gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (wide, self.input_size_of(layer)),
            "weight_hh": (wide, self.output_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (wide,), "bias_hh": (wide,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name, in the order of torch's state dict."""
        return {
            f"{name}_l{layer}{suffix}": shape
            for layer, suffix in self.rows
            for name, shape in self.cell_shapes(layer).items()
        }


def read_network(params: Mapping[str, object], kind: str) -> Network:
    """Return the `Network` that ``params`` belong to. ``kind`` is "lstm" or "rnn".

    Raises:
      TypeError: ``params`` is not a flat dict of real floating-point arrays.
      ValueError: an entry is unknown, missing or misshapen, or the weights are of the other kind.
    """
    _check_arrays(params, kind)
    for name in params:
        if not _ENTRY.fullmatch(name):
            raise ValueError(
                f"params has an unknown entry {name!r}; expected names like 'weight_ih_l0' or 'bias_hh_l1_reverse'."
                + advice("params", params, kind)
            )
    entries = [match for match in map(_ENTRY.fullmatch, params) if match]
    hint = functools.partial(advice, "params", params, kind)
    network = _first_layer(params, kind, hint)
    network = Network(
        kind,
        network.input_size,
        network.hidden_size,
        num_layers=1 + max(int(match[2]) for match in entries),
        bias=any(match[1].startswith("bias") for match in entries),
        bidirectional=any(match[3] for match in entries),
        proj_size=network.proj_size,
    )
    _check_shapes(params, network.shapes(), hint)
    return network


def read_kind(params: Mapping[str, object]) -> str:
    """Return "rnn" if weight_hh is square without a projection, else "lstm"; `read_network` checks the rest."""
    _check_arrays(params, "lstm")
    suffix = "" if is_cell(params) else "_l0"
    shape = tuple(getattr(params.get(f"weight_hh{suffix}"), "shape", ()))
    return "rnn" if shape[:1] * 2 == shape != () and f"weight_hr{suffix}" not in params else "lstm"


def is_cell(params: Mapping[str, object]) -> bool:
    """Return whether ``params`` have the names of a single cell, without ``_l0``."""
    return isinstance(params, Mapping) and "weight_hh" in params


def read_cell(params: Mapping[str, object], kind: str) -> Network:
    """Return the `Network` of one cell, by the names of torch.nn.LSTMCell, without ``_l0``.

    Raises:
      TypeError, ValueError: as `read_network`.
    """
    _check_arrays(params, kind, is_cell=True)
    hint = functools.partial(advice, "params", params, kind, is_cell=True)
    network = _first_layer({f"{name}_l0": value for name, value in params.items()}, kind, hint, suffix="")
    network = Network(
        kind,
        network.input_size,
        network.hidden_size,
        bias=any(name.startswith("bias") for name in params),
        proj_size=network.proj_size,
    )
    _check_shapes(params, network.cell_shapes(), hint)
    return network


def _first_layer(params: Mapping[str, Any], kind: str, hint: Callable[[], str], suffix: str = "_l0") -> Network:
    """Return a network of the first layer only, from its matrices. ``hint()`` is the advice of an error."""
    for name in ("weight_ih_l0", "weight_hh_l0"):
        shown = name.removesuffix("_l0") + suffix
        if name not in params:
            names = _listed(name.removesuffix("_l0" if not suffix else "") for name in params)
            raise ValueError(f"params lacks {shown!r}; got {names}. Pass one torch state dict, whole.{hint()}")
        if len(params[name].shape) != 2:
            raise ValueError(f"params[{shown!r}] must be a matrix [G, in]; got shape {tuple(params[name].shape)}.")
    wide, out = params["weight_hh_l0"].shape
    projection = params.get("weight_hr_l0")
    if projection is not None and len(projection.shape) != 2:
        raise ValueError(f"params['weight_hr{suffix}'] must be [P, H]; got shape {tuple(projection.shape)}.")
    hidden = out if projection is None else projection.shape[1]
    kind_of_weights = "lstm" if projection is not None or wide == 4 * out else "rnn" if wide == out else None
    if kind_of_weights is None and wide == 3 * out:
        raise ValueError(
            f"params are a GRU's weights: weight_hh{suffix} is [3H, H] = {(wide, out)}. There is no GRU here, only "
            "LSTMs ([4H, H]) and Elman RNNs ([H, H])."
        )
    if kind_of_weights is None or wide != KINDS[kind_of_weights] * hidden:
        raise ValueError(
            f"params['weight_hh{suffix}'] must be [4H, H] for an LSTM, [4H, P] beside a weight_hr [P, H], or [H, H] "
            f"for an RNN; got shape {(wide, out)}. Is it transposed, or is weight_hr missing?"
        )
    if projection is not None and out >= hidden:
        raise ValueError(f"params['weight_hr{suffix}'] must be [P, H] with P < H; got shape {(out, hidden)}.")
    if kind_of_weights != kind:
        raise ValueError(
            f"params are an {kind_of_weights.upper()}'s (weight_hh{suffix} is {(wide, out)}); use "
            f"jax_lstm.{kind_of_weights} or jax_lstm.{kind_of_weights}_cell, or pass the weights of an {kind.upper()}."
        )
    return Network(kind, params["weight_ih_l0"].shape[1], hidden, proj_size=0 if projection is None else out)


def _check_arrays(params: Any, kind: str, is_cell: bool = False) -> None:
    hint = functools.partial(advice, "params", params, kind, is_cell=is_cell)
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a flat dict of arrays by torch's names; got {type(params).__name__}.{hint()}")
    for name, value in params.items():
        if not isinstance(name, str):
            raise TypeError(f"params must have names as keys; got the key {name!r}.{hint()}")
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise TypeError(f"params[{name!r}] must be an array; got {type(value).__name__}.{hint()}")
        require_floating(f"params[{name!r}]", value, "")


def _check_shapes(params: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], hint: Callable[[], str]) -> None:
    for name, shape in shapes.items():
        if name not in params:
            raise ValueError(
                f"params lacks {name!r} (shape {shape}), which its other entries call for; got {_listed(params)}. "
                "Every layer and direction has the same entries, biases and projection included." + hint()
            )
        if tuple(params[name].shape) != shape:
            raise ValueError(f"params[{name!r}] must have shape {shape}; got {tuple(params[name].shape)}.")
    for name in params:
        if name not in shapes:
            raise ValueError(f"params has an unexpected entry {name!r}; expected only {_listed(shapes)}.{hint()}")


def _listed(names: Iterable[str]) -> str:
    return listed(sorted(map(str, names)))
