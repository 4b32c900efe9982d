"""Real text that every CPython carries, the documentation behind ``help("...")``, and any other text as codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pydoc_data import topics

import numpy as np

HELD_OUT = 10  # the last of ten equal parts is for validation


@cache
def documentation() -> str:
    """Return all topics, in alphabetical order of their names. The text depends on the Python version."""
    return "\n".join(text for _, text in sorted(topics.topics.items()))


def encoded_text(characters: int) -> tuple[np.ndarray, int]:
    """Return the first ``characters`` characters as int64 codes, and the number of different ones in the whole text."""
    text = documentation()
    alphabet = {character: code for code, character in enumerate(sorted(set(text)))}
    return np.array([alphabet[character] for character in text[:characters]]), len(alphabet)


@dataclass(frozen=True)
class Corpus:
    """A text as int64 codes: the first nine tenths for training, the rest for validation.

    The characters of the training part have the codes from 1 on, in order. Any other character has code 0.
    """

    train: np.ndarray
    validation: np.ndarray
    vocabulary: int

    @classmethod
    def of(cls, text: str) -> Corpus:
        """Return the corpus of a text.

        Raises:
          ValueError: the text is empty.
        """
        if not text:
            raise ValueError("the text is empty")
        cut = len(text) - len(text) // HELD_OUT
        alphabet = {character: code for code, character in enumerate(sorted(set(text[:cut])), 1)}
        codes = np.array([alphabet.get(character, 0) for character in text])
        return cls(codes[:cut], codes[cut:], len(alphabet) + 1)

    def longest(self) -> int:
        """Return the most steps of a stretch in either part that still has a next character to predict."""
        return min(len(self.train), len(self.validation)) - 1
