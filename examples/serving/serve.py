"""Serve an exported character model, one character at a time. Needs only jax, numpy and flatbuffers.

    python serve.py FOLDER --prompt "The " --characters 200
    python serve.py FOLDER --tokens tokens.npy --logits logits.npz

FOLDER holds the files of `export.py`. The first form reads the prompt and continues it. The second form reads int32
tokens [streams, steps] step by step. It saves three results: "logits" has the logits of every step, "whole" has those
of the function that takes all steps at once, and "h" and "c" are the last state. Wrong input ends with one line on
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

State = tuple[jax.Array, jax.Array]  # h and c, each [layers, streams, H]

UNKNOWN = 0  # the token for any character that is not in the alphabet
UNREADABLE = (OSError, ValueError, KeyError, EOFError, struct.error, zipfile.BadZipFile)  # raised for damaged files


class Refused(Exception):
    """Wrong input. The user sees the text as one line."""


class Model:
    """The model in a folder of `export.py`."""

    def __init__(self, folder: Path) -> None:
        try:
            with np.load(folder / "weights.npz") as archive:
                self.weights = {name: jnp.asarray(a) for name, a in archive.items()}
            self.alphabet = json.loads((folder / "alphabet.json").read_text(encoding="utf-8"))
            whole, step = (
                export.deserialize(bytearray((folder / f"{name}.jax").read_bytes())) for name in ("whole", "step")
            )
        except UNREADABLE as error:
            raise Refused(f"{folder}: not a folder that export.py wrote ({error})") from None
        self.state_shape, self.dtype = step.in_avals[-1].shape, step.in_avals[-1].dtype
        self._whole, self._step = jax.jit(whole.call), jax.jit(step.call)

    def start(self, streams: int) -> State:
        """Return the zero state."""
        layers, _, width = self.state_shape
        return (jnp.zeros((layers, streams, width), self.dtype),) * 2

    def step(self, token: np.ndarray, state: State) -> tuple[jax.Array, State]:
        """Return logits `[streams, V]` and the next state for one token per stream."""
        logits, h, c = self._step(self.weights, self.checked(token), *state)
        return logits, (h, c)

    def whole(self, tokens: np.ndarray) -> jax.Array:
        """Return logits `[streams, steps, V]` of all steps at once."""
        return self._whole(self.weights, self.checked(tokens))

    def checked(self, tokens: np.ndarray) -> np.ndarray:
        """Refuse tokens outside the alphabet. An exported function checks only shapes and dtypes."""
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < len(self.alphabet):
            raise Refused(
                f"tokens must lie between 0 and {len(self.alphabet) - 1}; got {tokens.min()} to {tokens.max()}"
            )
        return tokens


def read_tokens(file: Path) -> np.ndarray:
    """Read int32 tokens `[streams, steps]`. Raises Refused."""
    try:
        tokens = np.load(file)
    except UNREADABLE as error:
        raise Refused(f"--tokens {file}: {error}") from None
    if tokens.ndim != 2 or not tokens.size or tokens.dtype != np.int32:
        raise Refused(f"--tokens {file}: int32 [streams, steps] expected; got {tokens.dtype} {tokens.shape}")
    return tokens


def logits_and_state(model: Model, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays that the second form saves."""
    state, logits = model.start(len(tokens)), []
    for t in range(tokens.shape[1]):
        step_logits, state = model.step(tokens[:, t], state)
        logits.append(step_logits)
    arrays = {"logits": np.stack(logits, 1), "whole": model.whole(tokens), "h": state[0], "c": state[1]}
    return {name: np.asarray(a) for name, a in arrays.items()}


def save(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an archive in the folder of ``file`` and then rename it. So no reader sees half a file."""
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.npz")
    try:
        np.savez(temporary, **arrays)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def continue_text(model: Model, prompt: str, characters: int, seed: int) -> None:
    """Read the prompt, then draw and print characters."""
    number = {character: n for n, character in enumerate(model.alphabet)}
    generator, state = np.random.default_rng(seed), model.start(1)
    logits = None
    for character in prompt:
        logits, state = model.step(np.array([number.get(character, UNKNOWN)], np.int32), state)
    for _ in range(characters):
        scores = np.asarray(logits[0], np.float64)
        scores[UNKNOWN] = -np.inf
        weights = np.exp(scores - scores.max())
        token = generator.choice(len(weights), p=weights / weights.sum())
        print(model.alphabet[token], end="", flush=True)
        logits, state = model.step(np.array([token], np.int32), state)
    print()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Serve an exported character model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt", default="The ")
    parser.add_argument("--characters", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=Path, help="int32 [streams, steps] as .npy")
    parser.add_argument("--logits", type=Path, default=Path("logits.npz"), help="file for the logits")
    arguments = parser.parse_args()
    try:
        if not arguments.prompt:
            raise Refused("--prompt must have at least one character")
        model = Model(arguments.folder)
        if arguments.tokens is None:
            return continue_text(model, arguments.prompt, arguments.characters, arguments.seed)
        save(arguments.logits, logits_and_state(model, read_tokens(arguments.tokens)))
        print(json.dumps({"imported": sorted({name.split(".")[0] for name, module in sys.modules.items() if module})}))
    except (Refused, OSError, ValueError) as error:  # jax.export raises ValueError for weights that do not fit
        print(" ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
