"""A character model trained, exported, and served by a process that has neither this package nor Flax nor optax.

Training is a plain one: windows drawn from the first nine tenths of a text, Embedding -> LSTM -> Dense, Adam. What is
written for the server, by `export.py`, is two functions and their weights. Then `serve.py`, in a fresh process that
cannot import this package, reads held-out text one character at a time, and its logits are compared with the model's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from typer import Exit, Option

from examples.char_lm.text import cut, read_text
from examples.rounding import moved
from examples.run import Refused, Run, start
from examples.serving.export import step_of, write
from jax_lstm import LSTMState, linen
from jax_lstm._src.files import whole

Count = Annotated[int, Option(min=1)]
SERVER = Path(__file__).with_name("serve.py")
MISSING = ("jax_lstm", "flax", "optax", "crosscheck", "torch")  # to the server
ALONE = "import runpy, sys; sys.modules.update(dict.fromkeys({missing})); runpy.run_path({server}, run_name='__main__')"
ALLOWED = 8  # times what one rounding of the weights does


def main(
    text: Annotated[Path | None, Option(help="UTF-8 text; the documentation in pydoc_data.topics without it.")] = None,
    out: Path = Path("runs/serving"),
    hidden: Count = 96,
    embedding: Count = 24,
    layers: Count = 2,
    batch: Count = 32,
    length: Annotated[int, Option(min=1, help="Characters per window.")] = 48,
    steps: Count = 400,
    every: Annotated[int, Option(min=1, help="Steps between checkpoints.")] = 100,
    learning_rate: Annotated[float, Option(min=0)] = 4e-3,
    served: Annotated[int, Option(min=1, help="Streams that the server reads at the end.")] = 3,
    seed: int = 0,
) -> None:
    """Trains a character model, exports it, has it served without this package, and compares."""
    data = read_text(text)
    windows, held_out = cut(data.train, batch, length, data.name), cut(data.held_out, served, length, data.name)
    settings = {"example": "serving", "text": data.digest, "hidden": hidden, "embedding": embedding, "layers": layers}
    settings |= {"batch": batch, "length": length, "every": every, "learning_rate": learning_rate, "seed": seed}
    run = Run(out, settings)
    model = linen.SequenceModel(data.size, embedding, hidden, data.size, num_layers=layers)
    params = train(run, model, windows, steps, every, learning_rate, seed)

    write(run.folder / "served", model, params, data.alphabet)
    tokens = held_out[0, :, :-1]
    got = serve(run.folder / "served", tokens)
    rows, same_bits = compare(model, params, tokens, got)
    limit = ALLOWED * rows["the model, its weights moved by a rounding"]
    agrees = max(rows.values()) <= max(limit, float(np.finfo(np.float32).eps))
    run.finish({"difference": rows, "limit": limit, "agrees": agrees, "same_bits": same_bits})

    table = Table("logits, against the model on the whole text", "largest relative difference")
    for name, difference in rows.items():
        table.add_row(name, f"{difference:.1e}")
    Console().print(table)
    print(f"The server's steps and the model's own have {'the same bits' if same_bits else 'other bits'}.")
    print(f"The limit is {limit:.1e}. A server needs {out / 'served'} and nothing else of ours.")
    raise Exit(0 if agrees else 1)


def train(
    run: Run, model: linen.SequenceModel, windows: np.ndarray, steps: int, every: int, learning_rate: float, seed: int
) -> Any:
    """The parameters after ``steps`` of Adam, on windows ``[N, B, T + 1]``."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))
    params = jax.jit(model.init)(jax.random.key(seed), windows[0, :, :-1])["params"]

    @jax.jit
    def update(state, window):

        def loss(params):
            logits, _ = model.apply({"params": params}, window[:, :-1])
            return optax.softmax_cross_entropy_with_integer_labels(logits, window[:, 1:]).mean()

        nats, gradient = jax.value_and_grad(loss)(state["params"])
        updates, moments = optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "optimizer": moments}, {"bits": nats / jnp.log(2)}

    order = np.random.default_rng(seed).permutation(len(windows))
    state = {"params": params, "optimizer": optimizer.init(params)}
    return run.train(state, lambda state, n: update(state, windows[order[n % len(order)]]), steps, every)["params"]


def serve(folder: Path, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """What ``serve.py`` makes of tokens ``[B, T]``, in a process that can import none of :data:`MISSING`."""
    with whole(folder / "tokens.npy") as file, file.open("wb") as handle:
        np.save(handle, tokens)
    code = ALONE.format(missing=MISSING, server=repr(str(SERVER)))
    command = [sys.executable, "-c", code, str(folder), "--tokens", "tokens.npy", "--logits", "logits.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise Refused(f"serve.py ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    said = json.loads(done.stdout)
    assert not set(said["imported"]) & set(MISSING), said
    with np.load(folder / "logits.npz") as archive:
        return dict(archive)


def compare(
    model: linen.SequenceModel, params: Any, tokens: np.ndarray, got: dict[str, np.ndarray]
) -> tuple[dict[str, float], bool]:
    """The logits of the server and of this process, each against those of the model on all tokens at once.

    And whether the server's steps have the bits of the steps here, in the logits and in the last state.
    """
    weights, apply = {"params": params}, jax.jit(model.apply)
    expected, _ = apply(weights, tokens)
    step, zeros = jax.jit(step_of(model)), jnp.zeros((model.num_layers, len(tokens), model.hidden_size), jnp.float32)
    state, logits = LSTMState(h=zeros, c=zeros), []
    for t in range(tokens.shape[1]):
        one, state = step(weights, tokens[:, t], state)
        logits.append(one)
    nudged, _ = apply({"params": moved(params, jax.random.key(0))}, tokens)
    here = {"logits": np.stack(logits, 1), "h": state.h, "c": state.c}
    size = float(jnp.max(jnp.abs(expected)))
    away = lambda a: float(np.max(np.abs(np.asarray(a) - expected))) / size
    rows = {
        "served, step by step": away(got["logits"]),
        "served, all at once": away(got["whole"]),
        "the model here, step by step": away(here["logits"]),
        "the model, its weights moved by a rounding": away(nudged),
    }
    return rows, all(np.array_equal(got[name], a) for name, a in here.items())


if __name__ == "__main__":
    start(main)
