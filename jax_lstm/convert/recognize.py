"""Whose tree is it? For errors alone: a converter that got another library's weights says whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

# The first of these that fits a tree. (pattern of one of its paths, whose it is, what reads it; "" where it is no LSTM)
_SIGNS = (
    (r"(?i)(^|[/._ ])gru", "a GRU", ""),
    (r"(^|/)(ir|hr|in|hn)/kernel", "a GRU of flax.linen", ""),
    (r"(^|/)bias_n\b", "a GRU of Equinox", ""),
    (r"(^|/)dense_i/bias", "a GRU or simple cell of flax.nnx", ""),
    (r"(^|[/.])weight_(ih|hh)_l\d+", "a torch.nn.LSTM state dict", "from_torch"),
    (r"(^|[/.])bias_(ih|hh)\b", "a torch.nn.LSTMCell state dict", "from_torch"),
    (r"(^|/| )torch\.", "torch's", "from_torch(module.state_dict())"),
    (r"(^|/| )equinox\.|(^|/)weight_(ih|hh)\b", "equinox's", "from_equinox"),
    (r"(^|/| )flax\.nnx\.", "flax.nnx's", "from_nnx(nnx.state(module, nnx.Param))"),
    (r"(^|/)if_/kernel|(^|/)dense_[ih]/kernel", "flax.nnx's", "from_nnx"),
    (r"(^|/)if/kernel", "flax.linen's", "from_flax"),
    (r"(^|/)linear/[wb]\b", "Haiku's", "from_haiku"),
    (r"(^|/)recurrent_kernel\b|(^|/| )keras\.", "Keras's", "from_keras"),
    (r"^\d+ \(", "Keras's", "from_keras(layer.get_weights())"),
    (r"(^|/)[WRB] \(", "ONNX's", "from_onnx"),
    (r"^(numpy|jax\w*)\.\S+ \(\d+,\)", "cuDNN's", "from_cudnn"),
)


def refuse_tree(argument: str, expected: str, tree: Any) -> NoReturn:
    """ValueError: ``argument`` is not ``expected``; what it has, and whose that looks like where it is another's."""
    paths = list(_paths(tree))
    advice = ""
    for pattern, whose, call in _SIGNS:
        if any(re.search(pattern, path) for path in paths):
            if whose.removesuffix("'s") not in expected:
                advice = f" It looks like {whose}" + (f": read it with convert.{call}." if call else ", not an LSTM.")
            break
    raise ValueError(f"{argument} must be {expected}; got {_listed(paths)}.{advice}")


def _listed(paths: list[str], most: int = 8) -> str:
    return ", ".join(paths[:most]) + (f", ... ({len(paths)} in all)" if len(paths) > most else "") or "nothing"


def _paths(tree: Any, above: str = "") -> Iterator[str]:
    """The leaves of a tree by their paths, with shapes, or with types where there are none."""
    if isinstance(tree, (Mapping, list, tuple)):
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from _paths(value, f"{above}/{key}" if above else str(key))
        return
    kind = type(tree)
    named = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    shape = f"{tuple(tree.shape)}" if hasattr(tree, "shape") else ""
    yield " ".join(filter(None, (above, named if not (above and shape) else "", shape)))
