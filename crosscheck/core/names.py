"""Lists of names that an option gives: split at commas, each name known, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def split_names(given: Iterable[str]) -> list[str]:
    """Return the names of ``--option a,b --option c``, in order, each once.

    Raises:
      ValueError: a name is empty.
    """
    names = [name.strip() for value in given for name in value.split(",")]
    if "" in names:
        raise ValueError("a name is empty; write NAME[,NAME...]")
    return list(dict.fromkeys(names))


def known_names(given: Iterable[str], kind: str, known: Sequence[str]) -> list[str]:
    """Return the names of ``split_names``, which must all be in ``known``.

    Args:
      given: the values of the option.
      kind: what the names name, for the message.
      known: the names that exist.

    Raises:
      ValueError: a name is empty or unknown.
    """
    names = split_names(given)
    for name in names:
        if name not in known:
            raise ValueError(unknown_name(kind, name, known))
    return names


def unknown_name(kind: str, name: str, known: Sequence[str]) -> str:
    """Return the message about an unknown name: the closest known one, and all known ones."""
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown {kind} {name!r}{hint}; known: {', '.join(known)}"
