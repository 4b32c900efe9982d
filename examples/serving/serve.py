"""Serves an exported character model, one character at a time. Needs jax, numpy and flatbuffers, and nothing else.

    python serve.py FOLDER --prompt "The " --characters 200
    python serve.py FOLDER --tokens tokens.npy --logits logits.npz

FOLDER holds what `export.py` wrote. The first form reads the prompt and writes on, character by character. The second
reads int32 tokens [streams, steps], feeds them step by step, and saves the logits of every step ("logits", and as
"whole" those of the function that takes all steps at once) and the last state ("h", "c"). Wrong input is one line on
stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

UNKNOWN = 0  # the token of every character that the alphabet lacks

DAMAGED = (OSError, ValueError, KeyError, EOFError, struct.error, zipfile.BadZipFile)  # what unreadable files raise


class Refused(Exception):
    pass


class Model:
    """The four files of a folder. ``step(token [b], state) -> logits [b, V], state``; a state is (h, c)."""

    def __init__(self, folder: Path):
        try:
            with np.load(folder / "weights.npz") as archive:
                self.weights = {name: jnp.asarray(a) for name, a in archive.items()}
            self.alphabet = json.loads((folder / "alphabet.json").read_text(encoding="utf-8"))
            whole, step = (
                export.deserialize(bytearray((folder / f"{name}.jax").read_bytes())) for name in ("whole", "step")
            )
        except DAMAGED as error:
            raise Refused(f"{folder}: not a folder that export.py wrote ({error})") from None
        self.state_shape, self.dtype = step.in_avals[-1].shape, step.in_avals[-1].dtype
        self._whole, self._step = jax.jit(whole.call), jax.jit(step.call)

    def start(self, streams: int):
        layers, _, width = self.state_shape
        return (jnp.zeros((layers, streams, width), self.dtype),) * 2

    def step(self, token, state):
        logits, *state = self._step(self.weights, self.checked(token), *state)
        return logits, tuple(state)

    def whole(self, tokens):
        return self._whole(self.weights, self.checked(tokens))

    def checked(self, tokens):
        """An exported function checks shapes and dtypes; that a token is one of the alphabet is for us to check."""
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < len(self.alphabet):
            raise Refused(
                f"tokens must lie between 0 and {len(self.alphabet) - 1}; got {tokens.min()} to {tokens.max()}"
            )
        return tokens


def read_tokens(file: Path) -> np.ndarray:
    try:
        tokens = np.load(file)
    except DAMAGED as error:
        raise Refused(f"--tokens {file}: {error}") from None
    if tokens.ndim != 2 or not tokens.size or tokens.dtype != np.int32:
        raise Refused(f"--tokens {file}: int32 [streams, steps] expected; got {tokens.dtype} {tokens.shape}")
    return tokens


def follow(model: Model, tokens: np.ndarray) -> dict[str, np.ndarray]:
    state, logits = model.start(len(tokens)), []
    for t in range(tokens.shape[1]):
        one, state = model.step(tokens[:, t], state)
        logits.append(one)
    found = {"logits": np.stack(logits, 1), "whole": model.whole(tokens), "h": state[0], "c": state[1]}
    return {name: np.asarray(a) for name, a in found.items()}


def save(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Aside, then renamed: whole or not at all."""
    aside = file.with_name(f".{file.stem}.{os.getpid()}.npz")
    try:
        np.savez(aside, **arrays)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def write_on(model: Model, prompt: str, characters: int, seed: int) -> None:
    number = {character: n for n, character in enumerate(model.alphabet)}
    draw, state = np.random.default_rng(seed), model.start(1)
    logits = None
    for character in prompt:
        logits, state = model.step(np.array([number.get(character, UNKNOWN)], np.int32), state)
    for _ in range(characters):
        chances = np.asarray(logits[0], np.float64)
        chances[UNKNOWN] = -np.inf
        chances = np.exp(chances - chances.max())
        token = draw.choice(len(chances), p=chances / chances.sum())
        print(model.alphabet[token], end="", flush=True)
        logits, state = model.step(np.array([token], np.int32), state)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves an exported character model without the package that made it.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt", default="The ")
    parser.add_argument("--characters", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=Path, help="int32 [streams, steps] as .npy")
    parser.add_argument("--logits", type=Path, default=Path("logits.npz"), help="where the logits go")
    given = parser.parse_args()
    try:
        if not given.prompt:
            raise Refused("--prompt must have at least one character")
        model = Model(given.folder)
        if given.tokens is None:
            return write_on(model, given.prompt, given.characters, given.seed)
        save(given.logits, follow(model, read_tokens(given.tokens)))
        print(json.dumps({"imported": sorted({name.split(".")[0] for name, module in sys.modules.items() if module})}))
    except (Refused, OSError, ValueError) as error:  # a ValueError is jax.export's, of weights that do not fit
        print(" ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
