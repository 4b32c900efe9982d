"""The implementations that the benchmark times. A new one is an entry in `IMPLEMENTATIONS` of a file here."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.implementation import TimedImplementation
from benchmarks.implementations import jax_libraries, jax_lstm, torch_lstm
from crosscheck.core.names import unknown_name

KNOWN: dict[str, TimedImplementation] = {
    each.name: each for each in (*jax_lstm.IMPLEMENTATIONS, *torch_lstm.IMPLEMENTATIONS, *jax_libraries.IMPLEMENTATIONS)
}


def choose(names: Iterable[str]) -> list[TimedImplementation]:
    """Return the implementations of these names, or all of them if there are no names.

    "jax_lstm OPTION=VALUE ..." is ours with these options.

    Raises:
      ValueError: a name or an option is unknown.
    """
    chosen = []
    for name in dict.fromkeys(names) or KNOWN:
        first, _, options = name.strip().partition(" ")
        if name in KNOWN:
            chosen.append(KNOWN[name])
        elif first == jax_lstm.NAME and options.strip():
            chosen.append(jax_lstm.ours(options.strip()))
        else:
            raise ValueError(unknown_name("implementation", name, list(KNOWN)))
    return chosen
