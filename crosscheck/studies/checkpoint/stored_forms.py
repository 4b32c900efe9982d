"""The recurrent weights among named arrays, by network. Weights that are stored in another form are folded.

| stored as | the weight is | whose form |
|---|---|---|
| ``W_g``, ``W_v`` | ``torch._weight_norm(v, g, dim)`` | torch.nn.utils.weight_norm |
| ``parametrizations.W.original0``, ``original1`` | the same, of g and v | torch.nn.utils.parametrizations.weight_norm |
| ``W_orig``, ``W_mask`` | their product | torch.nn.utils.prune |
| ``W_raw``, with or without ``W`` | ``W_raw`` | WeightDrop of awd-lstm-lm and fastai |
| ``_all_weight_values.N.param``, ``_packed_weight_ih`` | dequantized on reading | torch.ao.nn.quantized.dynamic |

Any other form is refused by name. torch computes the weight norm here as in its own modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import torch

from crosscheck.core.problem import Arrays
from crosscheck.studies.checkpoint.errors import printable

ENTRY = r"(?P<entry>(?:weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?P<layer>_l(?:0|[1-9][0-9]{0,3})(?:_reverse)?)?)"
STRETCHED = 2**16  # an array with a stride of 0 may have this many elements
_BEFORE = r"(?P<before>(?:.*[._])?)"
_STORED = (
    re.compile(_BEFORE + ENTRY, re.DOTALL),
    re.compile(_BEFORE + ENTRY + r"_(?P<form>g|v|u|orig|mask|raw)", re.DOTALL),
    re.compile(r"(?P<before>(?:.*\.)?)parametrizations\." + ENTRY + r"\.(?P<form>.+)", re.DOTALL),
)
_QUANTIZED = re.compile(
    r"(?P<before>(?:.*\.)?)(?:_all_weight_values\.(?P<cell>\d{1,4})\.param\.|_packed_weight_)(?P<to>ih|hh)\."
    r"(?P<array>weight|bias)",
    re.DOTALL,
)


@dataclass
class StoredNetwork:
    """One recurrent network as it is stored.

    Attributes:
      before: the text before the names, with its dot or underscore.
      is_stack: whether the names have layers, as nn.LSTM's do.
      forms: arrays by entry, such as "weight_hh_l0", and by form: "" is the entry itself.
      cells: arrays of the cells of a quantized network.
      names: the file's names of all these arrays.
    """

    before: str
    is_stack: bool
    forms: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    cells: dict[int, Arrays] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    @property
    def prefix(self) -> str:
        """The text before the names, without its dot or underscore."""
        return self.before[:-1]


@dataclass(frozen=True)
class FoldedNetwork:
    """A network's arrays by torch's names, notes on what was folded, and the reason if that was not possible."""

    params: Arrays
    notes: tuple[str, ...] = ()
    refused: str = ""


def stored_networks(arrays: Mapping[str, np.ndarray]) -> list[StoredNetwork]:
    """Return the recurrent networks in ``arrays``, in their order."""
    networks: dict[tuple[str, bool], StoredNetwork] = {}
    for name, array in arrays.items():
        if match := next(filter(None, (pattern.fullmatch(name) for pattern in _STORED)), None):
            stack = match["layer"] is not None
            network = networks.setdefault((match["before"], stack), StoredNetwork(match["before"], stack))
            network.forms.setdefault(match["entry"], {})[match.groupdict().get("form") or ""] = array
        elif match := _QUANTIZED.fullmatch(name):
            stack = match["cell"] is not None
            network = networks.setdefault((match["before"], stack), StoredNetwork(match["before"], stack))
            network.cells.setdefault(int(match["cell"] or 0), {})[f"{match['array']}_{match['to']}"] = array
        else:
            continue
        network.names.add(name)
    return _with_raw_of_wrappers(networks)


def _with_raw_of_wrappers(networks: dict[tuple[str, bool], StoredNetwork]) -> list[StoredNetwork]:
    """Join networks that fastai stores in two modules: the outer has the raw weights, its ``module`` is the LSTM."""
    for (before, stack), outer in list(networks.items()):
        inner = networks.get((f"{before}module.", stack))
        if inner and outer.forms and all(set(forms) == {"raw"} for forms in outer.forms.values()):
            for entry, forms in outer.forms.items():
                inner.forms.setdefault(entry, {}).update(forms)
            inner.names |= outer.names
            del networks[before, stack]
    return list(networks.values())


def fold(network: StoredNetwork) -> FoldedNetwork:
    """Return the network's arrays by torch's names, with notes on what was folded."""
    if network.cells:
        return _dequantized_stack(network)
    params: Arrays = {}
    notes: list[str] = []
    for entry, forms in network.forms.items():
        kinds = frozenset(forms)
        wrong = next(filter(None, map(_no_numbers, forms.values())), "") if kinds != {""} else ""
        if wrong:
            return FoldedNetwork(params, tuple(notes), f"a part of {entry} {wrong}")
        if kinds == {""}:
            params[entry] = forms[""]
        elif kinds in ({"raw"}, {"raw", ""}):
            params[entry] = forms["raw"]
            copy = " (the copy with dropped weights beside it is not the weight)" if "" in kinds else ""
            notes.append(f"{entry} is WeightDrop's {entry}_raw{copy}")
        elif kinds == {"orig", "mask"} and forms["mask"].shape == forms["orig"].shape:
            params[entry] = forms["mask"].astype(forms["orig"].dtype) * forms["orig"]
            notes.append(f"{entry} is {entry}_orig times its pruning mask")
        elif (weight := _weight_norm(forms)) is not None:
            params[entry] = weight
            parts = " and ".join(f"{entry}_{kind}" if len(kind) == 1 else kind for kind in sorted(forms))
            notes.append(f"{entry} is computed from {parts} as weight_norm does")
        else:
            return FoldedNetwork(params, tuple(notes), _refusal(entry, kinds))
    return FoldedNetwork(params, tuple(notes))


def _no_numbers(array: np.ndarray) -> str:
    """Return why an array cannot be computed with, or "". A hostile file may have any dtype and strides."""
    if array.dtype.kind not in "biuf" and not hasattr(ml_dtypes, array.dtype.name):
        return f"is {array.dtype}, which is no number"
    if not array.size or array.ndim > 2:
        return f"has shape {array.shape}"
    return "is a few numbers stretched: save it with .contiguous()" if is_stretched(array) else ""


def is_stretched(array: np.ndarray) -> bool:
    """Return whether an array has far more elements than numbers: a copy would take far more memory than the file."""
    return array.size > STRETCHED and 0 in array.strides


def _weight_norm(forms: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the weight of weight_norm in its old or new form; None if the arrays are of another form."""
    names = {frozenset("gv"): ("g", "v"), frozenset({"original0", "original1"}): ("original0", "original1")}
    pair = names.get(frozenset(forms))
    if pair is None:
        return None
    g, v = (forms[name] for name in pair)
    if g.dtype != v.dtype or g.dtype not in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        return None
    if g.ndim == 0 and v.ndim:
        axis = -1  # one norm of the whole weight
    elif g.ndim == v.ndim == 2 and g.shape in ((v.shape[0], 1), (1, v.shape[1])):
        axis = 0 if g.shape[0] == v.shape[0] else 1
    elif g.ndim == v.ndim == 1 and g.shape == v.shape:
        axis = 0
    else:
        return None
    weight = torch._weight_norm(_to_torch(v), _to_torch(g), axis)
    return weight.contiguous().view(torch.uint8).numpy().view(v.dtype)  # NumPy takes no bfloat16 from torch


def _to_torch(array: np.ndarray) -> torch.Tensor:
    """Return a copy. Its numbers go as bytes, since torch takes no bfloat16 from NumPy."""
    dtype = getattr(torch, array.dtype.name)
    return torch.frombuffer(bytearray(array.tobytes()), dtype=dtype).reshape(array.shape)


def _refusal(entry: str, kinds: frozenset[str]) -> str:
    before = "before you take module.state_dict()"
    if "u" in kinds:
        return f"{entry} is under spectral_norm: call torch.nn.utils.remove_spectral_norm(module, {entry!r}) {before}"
    if any(kind.startswith("original") or "." in kind for kind in kinds):
        what = next((name for part, name in _PARAMETRIZATIONS.items() if part in kinds), "a parametrization")
        call = f"torch.nn.utils.parametrize.remove_parametrizations(module, {entry!r})"
        stored = f" that the file does not name (it has {', '.join(sorted(kinds))})" * (what == "a parametrization")
        return printable(f"{entry} is under {what}{stored}: call {call} {before}")
    has = ", ".join(sorted(f"{entry}_{kind}" if kind else entry for kind in kinds))
    if kinds & {"orig", "mask"}:
        return f"{entry} is pruned or masked, and its parts do not fit: the file has {has}. Save it after prune.remove"
    return f"{entry} is stored as {has}, which is no form that is known here: save the plain weight as {entry!r}"


_PARAMETRIZATIONS = {
    "0.base": "torch.nn.utils.parametrizations.orthogonal",
    "0._u": "torch.nn.utils.parametrizations.spectral_norm",
}


def _dequantized_stack(network: StoredNetwork) -> FoldedNetwork:
    """Return the arrays of a quantized network. Its cells are stored by layer, forward before reverse."""
    notes = ("its weights are those of a quantized module, dequantized; such a module also rounds when it runs",)
    cells = [network.cells[number] for number in sorted(network.cells)]
    if not network.is_stack:
        return FoldedNetwork(cells[0], notes)
    if network.forms or sorted(network.cells) != list(range(len(cells))):
        return FoldedNetwork({}, notes, "it is quantized, and some of its layers are missing")
    sizes = [cell["weight_ih"].shape[-1] for cell in cells if cell.get("weight_ih", np.zeros(0)).ndim == 2]
    hidden = [cell["weight_hh"].shape[-1] for cell in cells if cell.get("weight_hh", np.zeros(0)).ndim == 2]
    if len(sizes) != len(cells) or len(hidden) != len(cells):
        return FoldedNetwork({}, notes, "it is quantized, and its packed weights are not whole")
    fits = [directions for directions in (1, 2) if _fits(sizes, hidden[0], directions)]
    if len(fits) != 1:
        which = "may be two layers or two directions" if fits else "fit neither one direction nor two"
        reason = f"it is quantized, and its {len(cells)} cells {which}: save it before the quantization"
        return FoldedNetwork({}, notes, reason)
    suffixes = ("", "_reverse")[: fits[0]]
    places = [f"_l{layer}{suffix}" for layer in range(len(cells) // fits[0]) for suffix in suffixes]
    params = {f"{name}{place}": a for place, cell in zip(places, cells, strict=True) for name, a in cell.items()}
    return FoldedNetwork(params, notes)


def _fits(sizes: list[int], hidden: int, directions: int) -> bool:
    first, rest = sizes[:directions], sizes[directions:]
    return len(sizes) % directions == 0 and len(set(first)) == 1 and set(rest) <= {directions * hidden}
