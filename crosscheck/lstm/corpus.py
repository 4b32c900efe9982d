"""Real text that every CPython carries, the documentation behind ``help("...")``, and any other text as codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pydoc_data import topics

import numpy as np

HELD_OUT = 10  # one part in so many, the last


@cache
def documentation() -> str:
    """All topics, in alphabetical order of their names. The text depends on the Python version."""
    return "\n".join(text for _, text in sorted(topics.topics.items()))


def encoded_text(characters: int) -> tuple[np.ndarray, int]:
    """The first ``characters`` characters as int64 codes, and how many different ones the whole text has."""
    text = documentation()
    alphabet = {character: code for code, character in enumerate(sorted(set(text)))}
    return np.array([alphabet[character] for character in text[:characters]]), len(alphabet)


@dataclass(frozen=True)
class Corpus:
    """A text as int64 codes, its first nine tenths for training and the rest for validation.

    Codes from 1 on are the characters of the training part, in order; 0 is any other.
    """

    train: np.ndarray
    validation: np.ndarray
    vocabulary: int

    @classmethod
    def of(cls, text: str) -> Corpus:
        """ValueError where the text is empty."""
        if not text:
            raise ValueError("the text is empty")
        cut = len(text) - len(text) // HELD_OUT
        alphabet = {character: code for code, character in enumerate(sorted(set(text[:cut])), 1)}
        codes = np.array([alphabet.get(character, 0) for character in text])
        return cls(codes[:cut], codes[cut:], len(alphabet) + 1)

    def longest(self) -> int:
        """The most steps that a stretch of either part can have, with one more character to predict."""
        return min(len(self.train), len(self.validation)) - 1
