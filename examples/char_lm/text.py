"""Text as numbers: the split, the alphabet, the windows of the text, and two baselines that count characters.

The first nine tenths of the characters are for training. The rest is held out. The alphabet has the characters of the
training part. The network and the baselines see every other character as the symbol UNKNOWN.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.run import Refused

UNKNOWN = 0


@dataclass(frozen=True)
class Text:
    """A text as tokens. ``train`` and ``held_out`` are int32 arrays of numbers below ``size``."""

    name: str
    digest: str
    alphabet: str
    train: np.ndarray
    held_out: np.ndarray

    @property
    def size(self) -> int:
        return len(self.alphabet)

    def decode(self, tokens: np.ndarray) -> str:
        return "".join(self.alphabet[t] for t in np.asarray(tokens))


def read_text(file: Path | None) -> Text:
    """Read a file, or the documentation that comes with CPython. Raises Refused if the file cannot be read."""
    try:
        text = documentation() if file is None else file.read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(f"--text {file}: {error.strerror}; give a text file") from None
    except UnicodeDecodeError as error:
        raise Refused(f"--text {file}: invalid UTF-8 at byte {error.start}; give a text file in UTF-8") from None
    train, held_out = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    alphabet = "\N{REPLACEMENT CHARACTER}" + "".join(sorted(set(train) - {"\N{REPLACEMENT CHARACTER}"}))
    number = {character: n for n, character in enumerate(alphabet)}
    parts = [np.array([number.get(c, UNKNOWN) for c in part], np.int32) for part in (train, held_out)]
    name = "pydoc_data.topics" if file is None else file.name
    return Text(name, hashlib.sha256(text.encode()).hexdigest()[:16], alphabet, *parts)


def documentation() -> str:
    """Return pydoc's topics in alphabetical order. Each paragraph occurs once: some chapters repeat others."""
    from pydoc_data.topics import topics

    once: dict[str, str] = {}
    for _, topic in sorted(topics.items()):
        for paragraph in re.split(r"\n\s*\n", topic):
            once.setdefault(" ".join(paragraph.split()), paragraph)
    return "\n\n".join(once.values())


def windows_of(tokens: np.ndarray, batch: int, length: int, name: str) -> np.ndarray:
    """Cut a text into ``batch`` parallel streams, and each stream into windows.

    Returns:
      Windows `[N, batch, length + 1]`. Window n and window n + 1 of a stream share one character. Characters that do
      not fill a window of all streams are left out.

    Raises:
      Refused: The text is too short for one window.
    """
    windows = (len(tokens) // batch - 1) // length
    if windows < 1:
        raise Refused(
            f"--text {name}: a part of {len(tokens)} characters is too short for --batch {batch} streams of "
            f"--length {length}, which take {batch * (length + 1)}; give a longer text or smaller numbers"
        )
    streams = tokens[: len(tokens) // batch * batch].reshape(batch, -1)
    return np.stack([streams[:, n * length : (n + 1) * length + 1] for n in range(windows)])


def unigram_bits(train: np.ndarray, size: int, windows: np.ndarray) -> float:
    """Return bits per predicted character for the characters' training frequencies, with add-one smoothing."""
    counts = np.bincount(train, minlength=size) + 1.0
    return float(-np.log2(counts / counts.sum())[windows[..., 1:]].mean())


def bigram_bits(train: np.ndarray, size: int, windows: np.ndarray) -> float:
    """Return bits per predicted character for training frequencies that are conditional on the previous character."""
    counts = np.bincount(train[:-1] * size + train[1:], minlength=size**2).reshape(size, size) + 1.0
    return float(-np.log2(counts / counts.sum(1, keepdims=True))[windows[..., :-1], windows[..., 1:]].mean())
