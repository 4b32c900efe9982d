"""jax_lstm: some named ways to run it, and any other way by its options.

"jax_lstm unroll=4 truncate_every=8" is jax_lstm with these options of `jax_lstm.lstm`. `sqrt` means about √T.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import jax_lstm
from benchmarks.implementation import Ready, TimedImplementation
from benchmarks.jax_program import ready_jax
from benchmarks.work import Work
from crosscheck.libraries import NotSupported
from crosscheck.libraries.adapter import Weights
from jax_lstm._src.cpu_library import load_library
from jax_lstm._src.options import BACKENDS

NAME = "jax_lstm"
# The options that text can express. The others are arrays, or change the work.
SETTABLE = ("backend", "carry_dtype", "checkpoint_every", "precision", "truncate_every", "unroll")
SHORT = {"chunks": "checkpoint_every=sqrt"}


def ours(words: str = "") -> TimedImplementation:
    """Return ours with options such as "unroll=4", or with a short name of SHORT.

    Raises:
      ValueError: an option is unknown.
    """
    options = {}
    for word in words.split():
        key, given, value = SHORT.get(word, word).partition("=")
        if not given or key not in SETTABLE:
            raise ValueError(
                f"{word!r} is no option of jax_lstm here; write {' or '.join(SHORT)}, or OPTION=VALUE with one of "
                f"{', '.join(SETTABLE)}"
            )
        options[key] = value
    spelled = ", ".join(f"{key}={value}" for key, value in options.items()) or "with its defaults"
    return TimedImplementation(
        f"{NAME} {words}".strip(), "jax-lstm", f"jax_lstm.lstm, {spelled}", partial(_ready, options)
    )


def _ready(options: Mapping[str, str], work: Work) -> Ready:
    if options.get("backend") == "pallas" and jax.devices()[0].platform != "tpu":
        raise NotSupported("needs a TPU: a program for another platform runs scan")
    if options.get("backend") == "native" and (missing := load_library().missing):
        raise NotSupported(missing)
    values = {key: _value(text, work.shape.steps) for key, text in options.items()}
    lengths = None if work.lengths is None else jnp.asarray(work.lengths.numpy())

    def apply(weights: Weights, x: jax.Array) -> jax.Array:
        return jax_lstm.lstm(weights, x, lengths=lengths, time_major=True, **values)[0]

    return ready_jax(work, apply)


def _value(text: str, steps: int) -> Any:
    if text == "sqrt":
        return math.isqrt(steps - 1) + 1
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# The default comes first: it is the unit of the ratios.
IMPLEMENTATIONS = (
    ours(),
    *map(ours, SHORT),
    *(ours(f"backend={name}") for name in BACKENDS if name != "auto"),
)
