"""Whose tree is it? For errors alone: a converter that got another library's weights says whose they are."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from jax_lstm.convert.nesting import keys_of

# The first of these whose pattern is in a tree's paths. (pattern of one path, what it is, what to call)
_SIGNS = (
    (r"(^|/)weight_(ih|hh)_l\d+", "a torch.nn.LSTM state dict", "from_torch"),
    (
        r"(^|/|\.)weight_(ih|hh)\b",
        "a torch.nn.LSTMCell's state dict, or an equinox cell's",
        "from_torch or from_equinox",
    ),
    (r"(^|/)(ir|hr)/kernel|(^|/)(in|hn)/kernel", "a Flax GRUCell's", ""),
    (r"(^|/)if_/kernel|(^|/)dense_[ih]/kernel", "flax.nnx's", "from_nnx"),
    (r"(^|/)if/kernel", "flax.linen's", "from_flax"),
    (r"(^|/)lstm\w*/linear/[wb]\b", "Haiku's", "from_haiku"),
    (r"(^|/)gru\w*/(w_[ih]|b)\b", "a Haiku GRU's", ""),
    (r"(^|/)recurrent_kernel\b", "Keras's", "from_keras"),
    (r"(^|/)[WRB] \(", "ONNX's", "from_onnx"),
)


def refuse_tree(argument: str, expected: str, tree: Any) -> NoReturn:
    """ValueError: ``argument`` is not ``expected``; what it has, and whose that is where it is known."""
    paths = keys_of(tree, most=10**6).split(", ")
    for pattern, whose, call in _SIGNS:
        if any(re.search(pattern, path) for path in paths):
            advice = f" It looks like {whose}" + (f": read it with convert.{call}." if call else ", which is no LSTM.")
            break
    else:
        advice = ""
    raise ValueError(f"{argument} must be {expected}; got {keys_of(tree)}.{advice}")
