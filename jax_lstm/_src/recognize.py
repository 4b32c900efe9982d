"""Recognize which library a tree of weights comes from. This is for error messages only.

A function that cannot read its weights asks `advice`, or `refuse_tree`, what they look like and what to
write instead. The signs are data: a new kind of tree is one line in a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn


@dataclass(frozen=True)
class Sign:
    """A mark of one kind of tree.

    ``pattern`` is searched in the paths of the tree's leaves. ``whose`` says what the tree looks like, and ``write``
    what to do about it. ``write`` is empty if nothing can be done, since the tree is not an LSTM's. In both,
    ``{entry}`` is the group of that name in ``pattern``.
    """

    pattern: str
    whose: str
    write: str = ""

    @property
    def is_lstm(self) -> bool:
        return bool(self.write)

    def sentence(self, leaves: list[str]) -> str:
        """Return the advice, or "" if no leaf has this mark."""
        match = next(filter(None, (re.search(self.pattern, leaf) for leaf in leaves)), None)
        if match is None:
            return ""
        hint = f" It looks like {self.whose}" + (f": {self.write}" if self.write else "")
        return f"{hint}.".format(**{name: entry.replace("/", ".") for name, entry in match.groupdict().items()})


# The library that a tree comes from: the first sign that fits.
LIBRARIES = (
    Sign(r"(?i)(^|[/._ ])gru", "a GRU, not an LSTM"),
    Sign(r"(^|/)(ir|hr|in|hn)/kernel", "a GRU of flax.linen, not an LSTM"),
    Sign(r"(^|/)bias_n\b", "a GRU of Equinox, not an LSTM"),
    Sign(r"(^|/)dense_i/bias", "a GRU or simple cell of flax.nnx, not an LSTM"),
    Sign(r"(^|[/.])weight_(ih|hh)_l\d+", "a torch.nn.LSTM state dict", "read it with convert.from_torch"),
    Sign(r"(^|[/.])bias_(ih|hh)\b", "a torch.nn.LSTMCell state dict", "read it with convert.from_torch"),
    Sign(r"(^|/| )torch\.", "torch's", "read it with convert.from_torch(module.state_dict())"),
    Sign(r"(^|/| )equinox\.|(^|/)weight_(ih|hh)\b", "equinox's", "read it with convert.from_equinox"),
    Sign(r"(^|/| )jax_lstm\.nnx\.", "a module of jax_lstm.nnx", "call it, or pass nnx.state(module, nnx.Param)"),
    Sign(r"(^|/| )flax\.nnx\.", "flax.nnx's", "read it with convert.from_nnx(nnx.state(module, nnx.Param))"),
    Sign(r"(^|/)if_/kernel|(^|/)dense_[ih]/kernel", "flax.nnx's", "read it with convert.from_nnx"),
    Sign(r"(^|/)if/kernel", "flax.linen's", "read it with convert.from_flax"),
    Sign(r"(^|/)linear/[wb]\b", "Haiku's", "read it with convert.from_haiku"),
    Sign(r"(^|/)recurrent_kernel\b|(^|/| )keras\.", "Keras's", "read it with convert.from_keras"),
    Sign(r"(^|/)\w*lstm\w*cell/(kernel|bias)\b", "TensorFlow 1's", "read it with convert.from_tf1"),
    Sign(r"^\d+ \(", "Keras's", "read it with convert.from_keras(layer.get_weights())"),
    Sign(r"(^|/)[WRB] \(", "ONNX's", "read it with convert.from_onnx"),
    Sign(r"^(numpy|jax\w*)\.\S+ \(\d+,\)", "cuDNN's", "read it with convert.from_cudnn"),
)

_ENTRY = r"(?P<entry>(?:weight|bias)_(?:ih|hh|hr)(?:_l\d+)?(?:_reverse)?)"
_BEFORE_SAVING = "before you take module.state_dict()"
# A torch module that stores its weights in another form: the first sign that fits.
FORMS = (
    Sign(
        rf"(^|[/.])parametrizations[/.]{_ENTRY}[/.]original",
        "a torch module with a parametrization, such as weight_norm, on '{entry}'",
        f"call torch.nn.utils.parametrize.remove_parametrizations(module, '{{entry}}') {_BEFORE_SAVING}",
    ),
    Sign(
        rf"(^|[/.]){_ENTRY}_g\b",
        "a torch module with weight_norm on '{entry}'",
        f"call torch.nn.utils.remove_weight_norm(module, '{{entry}}') {_BEFORE_SAVING}",
    ),
    Sign(
        rf"(^|[/.]){_ENTRY}_u\b",
        "a torch module with spectral_norm on '{entry}'",
        f"call torch.nn.utils.remove_spectral_norm(module, '{{entry}}') {_BEFORE_SAVING}",
    ),
    Sign(
        rf"(^|[/.]){_ENTRY}_(mask|orig)\b",
        "a torch module with pruning on '{entry}'",
        f"call torch.nn.utils.prune.remove(module, '{{entry}}') {_BEFORE_SAVING}",
    ),
    Sign(
        rf"(^|[/.]){_ENTRY}_raw\b",
        "a WeightDrop module, whose whole weight is '{entry}_raw'",
        "rename that entry to '{entry}'",
    ),
    Sign(
        r"(^|[/.])_(all_weight_values|packed_(params|weight))",
        "a quantized torch module, whose weights are packed",
        "take the state dict before the quantization",
    ),
    Sign(
        rf"(^|[/.]){_ENTRY}[/._](absmax|SCB|quant\w*|q?scales?|q?zeros|zero_points?|qweight|qdata)\b",
        "quantized weights",
        "dequantize them first, and pass '{entry}' in floating point",
    ),
    Sign(
        r"(^|[/.])(?P<entry>layers[/.]\d+[/.]layer_\w+[/.]cell)[/.][ih]gates[/.]",
        "a torch.ao.nn.quantizable.LSTM",
        "rename '{entry}.igates.weight' to 'weight_ih_l0', '{entry}.hgates.weight' to 'weight_hh_l0', and so on",
    ),
)

# Names that wrappers put around the names of a model.
WRAPPERS = {
    "module": "torch.nn.DataParallel and DistributedDataParallel",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "torch's FSDP",
    "_checkpoint_wrapped_module": "torch's activation checkpointing",
    "_module": "Opacus",
    "params": "a Flax variables dict",
}

_GATES = {4: "lstm", 3: "gru", 1: "rnn"}
_OWNERS = {"lstm": "an LSTM", "gru": "a GRU", "rnn": "an RNN"}
_PLACE = re.compile(r"(?P<prefix>(?:.*\.)?)weight_hh(?P<layer>(?:_l0)?)", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """The place of the weights of one recurrent network in a tree, by torch's names.

    ``keys`` lead down to a mapping, in which ``prefix`` stands before the names. ``kind`` is "lstm", "gru" or "rnn".
    """

    keys: tuple[Any, ...]
    prefix: str
    kind: str
    is_cell: bool

    @property
    def is_top(self) -> bool:
        """Return whether the weights are at the top of the tree, without a prefix."""
        return not self.keys and not self.prefix

    def spelled(self, argument: str) -> str:
        """Return what to write for these weights if ``argument`` is the whole tree."""
        node = argument + "".join(f"[{key!r}]" for key in self.keys)
        if self.prefix:
            return f"convert.from_torch({node if self.keys else 'state_dict'}, prefix={self.prefix!r})"
        if "params" in self.keys or argument == "state_dict":
            return node
        return f"{node}, or convert.from_torch(state_dict, prefix={'.'.join(map(str, self.keys)) + '.'!r})"

    @property
    def wrappers(self) -> list[str]:
        """Return a sentence, without its full stop, about every name on the way that a wrapper added."""
        names = [*map(str, self.keys), *self.prefix.split(".")]
        return [f"{name!r} comes from {WRAPPERS[name]}" for name in dict.fromkeys(names) if name in WRAPPERS]


def advice(argument: str, tree: Any, kind: str, *, is_cell: bool = False) -> str:
    """Return what a tree looks like that is not a ``kind`` by torch's names, and what to write instead.

    Args:
      argument: the name of the tree in the error message.
      tree: what came.
      kind: what is expected, "lstm" or "rnn".
      is_cell: whether the names of a single cell are expected, without a layer.

    Returns:
      Sentences to append to an error message, each with a space before it; "" if the tree resembles nothing known.
    """
    sentences = stored_form(tree) + elsewhere(argument, tree, kind, is_cell=is_cell)
    return sentences or _library_of_a_cell(tree, "a torch.nn.LSTM state dict, a torch.nn.LSTMCell state dict")


def stored_form(tree: Any) -> str:
    """Return a sentence on the other form in which a torch module stores its weights, and how to undo it; or ""."""
    leaves = list(paths(tree))
    return next(filter(None, (sign.sentence(leaves) for sign in FORMS)), "")


def refuse_tree(argument: str, expected: str, tree: Any, more: str = "") -> NoReturn:
    """Raise ValueError: ``argument`` is not ``expected``. The message says what it has and what that looks like."""
    leaves = list(paths(tree))
    hint = more or _library(leaves, expected)
    raise ValueError(f"{argument} must be {expected}; got {listed(leaves)}.{hint}")


def places(tree: Any, keys: tuple[Any, ...] = ()) -> Iterator[Place]:
    """Yield the place of every recurrent network in a tree that has torch's names, nested or joined by dots."""
    if not isinstance(tree, Mapping):
        return
    for name, weight in tree.items():
        match = _PLACE.fullmatch(name) if isinstance(name, str) else None
        if match:
            before, layer = match["prefix"], match["layer"]
            equinox = not layer and f"{before}bias" in tree
            shape = tuple(getattr(weight, "shape", ()))
            kind = _kind(shape, f"{before}weight_hr{layer}" in tree)
            if kind and f"{before}weight_ih{layer}" in tree and not equinox:
                yield Place(keys, before, kind, is_cell=not layer)
        yield from places(weight, (*keys, name))


def _kind(shape: tuple[int, ...], is_projected: bool) -> str | None:
    if is_projected:
        return "lstm"
    if len(shape) != 2 or not shape[1] or shape[0] % shape[1]:
        return None
    return _GATES.get(shape[0] // shape[1])


def elsewhere(argument: str, tree: Any, kind: str, *, is_cell: bool = False) -> str:
    """Return a sentence that says where a network of this kind is in a tree, or which other kind is there; or "".

    Arguments as for `advice`.
    """
    networks = list(places(tree))
    wanted = [p for p in networks if (p.kind, p.is_cell) == (kind, is_cell) and not p.is_top]
    if wanted:
        ways = "; or ".join(place.spelled(argument) for place in wanted[:3])
        owner = f"{_OWNERS[kind]}'s weights" if len(wanted) == 1 else f"the weights of {len(wanted)} {kind.upper()}s"
        wrapped = dict.fromkeys(clause for place in wanted for clause in place.wrappers)
        return f" Inside it are {owner}: pass {ways}." + "".join(f" {clause}." for clause in wrapped)
    others = [p for p in networks if (p.kind, p.is_cell) != (kind, is_cell)]
    if not others:
        return ""
    other = others[0]
    subject = "These" if other.is_top else f"Those at {'.'.join(map(str, other.keys)) or other.prefix!r}"
    owner = f"{_OWNERS[other.kind]}{'Cell' * other.is_cell}'s weights by torch's names"
    return f" {subject} are {owner}: {_use(other, kind, is_cell)}."


def _use(place: Place, kind: str, is_cell: bool) -> str:
    """Return what to do with weights of another kind or form than the expected one."""
    if place.kind == "gru":
        return "there is no GRU here, only LSTMs and Elman RNNs"
    call = f"use jax_lstm.{place.kind}{'_cell' * place.is_cell}"
    if place.kind != kind or kind != "lstm":
        return call
    other = "convert.cell(...), one layer of them" if is_cell else "convert.stack([...]), a network of such cells"
    return f"{call}, or pass {other}"


def _library_of_a_cell(tree: Any, expected: str) -> str:
    """Return which library a tree comes from. If the model has both an LSTM and a GRU, the LSTM decides."""
    cells: dict[str, list[str]] = {}  # the leaves by what they are inside of, "net" for "net/if/kernel (4, 5)"
    for leaf in paths(tree):
        cells.setdefault("/".join(leaf.partition(" ")[0].split("/")[:-2]), []).append(leaf)
    signs = [(sign, leaves) for leaves in cells.values() if (sign := _sign(leaves))]
    judged = next((leaves for sign, leaves in signs if sign.is_lstm), list(paths(tree)))
    return _library(judged, expected)


def _library(leaves: list[str], expected: str) -> str:
    """Return which library a tree comes from, or "" if that is the expected one."""
    sign = _sign(leaves)
    if sign is None or re.search(re.escape(sign.whose.removesuffix("'s")) + r"(?![\w.])", expected):
        return ""
    return sign.sentence(leaves)


def _sign(leaves: list[str]) -> Sign | None:
    return next((sign for sign in LIBRARIES if sign.sentence(leaves)), None)


def listed(names: list[str], most: int = 8) -> str:
    """Return the first names, and how many there are."""
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "") or "nothing"


def paths(tree: Any, above: str = "") -> Iterator[str]:
    """Yield each leaf of a tree as its path and its shape, or its type if it has no shape."""
    if isinstance(tree, (Mapping, list, tuple)):
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from paths(value, f"{above}/{key}" if above else str(key))
        return
    kind = type(tree)
    named = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    shape = f"{tuple(tree.shape)}" if hasattr(tree, "shape") else ""
    yield " ".join(filter(None, (above, named if not (above and shape) else "", shape)))
