"""Real text that every CPython carries: the documentation behind ``help("...")``."""

from __future__ import annotations

from functools import cache
from pydoc_data import topics

import numpy as np


@cache
def documentation() -> str:
    """All topics, in alphabetical order of their names. The text depends on the Python version."""
    return "\n".join(text for _, text in sorted(topics.topics.items()))


def encoded_text(characters: int) -> tuple[np.ndarray, int]:
    """The first ``characters`` characters as int64 codes, and how many different ones the whole text has."""
    text = documentation()
    alphabet = {character: code for code, character in enumerate(sorted(set(text)))}
    return np.array([alphabet[character] for character in text[:characters]]), len(alphabet)
