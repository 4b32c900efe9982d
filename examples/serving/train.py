"""Train a character model, export it, and serve it from a process that has neither this package nor Flax nor optax.

The model is Embedding -> LSTM -> Dense, trained with Adam on windows of the first nine tenths of a text. `export.py`
writes two functions and their weights for the server. Then `serve.py` reads held-out text one character at a time, in a
fresh process that cannot import this package, and this script compares its logits with the model's.
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

from examples.char_lm.text import read_text, windows_of
from examples.files import whole
from examples.rounding import perturbed
from examples.run import Metrics, Refused, Run, State, start
from examples.serving.export import step_function, write
from jax_lstm import linen

Count = Annotated[int, Option(min=1)]
SERVER = Path(__file__).with_name("serve.py")
BLOCKED = ("jax_lstm", "flax", "optax", "crosscheck", "torch")  # the server cannot import these
SERVE = "import runpy, sys; sys.modules.update(dict.fromkeys({blocked})); runpy.run_path({server}, run_name='__main__')"
ALLOWED = 8  # times the change by one rounding of the weights
ROUNDED = "the model, its weights moved by a rounding"


def main(
    text: Annotated[Path | None, Option(help="UTF-8 text. Default: the documentation in pydoc_data.topics.")] = None,
    out: Path = Path("runs/serving"),
    hidden: Count = 96,
    embedding: Count = 24,
    layers: Count = 2,
    batch: Count = 32,
    length: Annotated[int, Option(min=1, help="Characters per window.")] = 48,
    steps: Count = 400,
    every: Annotated[int, Option(min=1, help="Steps between checkpoints.")] = 100,
    learning_rate: Annotated[float, Option(min=0)] = 4e-3,
    served: Annotated[int, Option(min=1, help="Number of streams that the server reads.")] = 3,
    seed: int = 0,
) -> None:
    """Train a character model, export it, serve it without this package, and compare."""
    data = read_text(text)
    windows = windows_of(data.train, batch, length, data.name)
    held_out = windows_of(data.held_out, served, length, data.name)
    settings = {"example": "serving", "text": data.digest, "hidden": hidden, "embedding": embedding, "layers": layers}
    settings |= {"batch": batch, "length": length, "every": every, "learning_rate": learning_rate, "seed": seed}
    run = Run(out, settings)
    model = linen.SequenceModel(data.size, embedding, hidden, data.size, num_layers=layers)
    params = train(run, model, windows, steps, every, learning_rate, seed)

    write(run.folder / "served", model, params, data.alphabet)
    tokens = held_out[0, :, :-1]
    rows, same_bits = compare(model, params, tokens, serve(run.folder / "served", tokens))
    limit = ALLOWED * rows[ROUNDED]
    agrees = max(rows.values()) <= max(limit, float(np.finfo(np.float32).eps))
    run.finish({"difference": rows, "limit": limit, "agrees": agrees, "same_bits": same_bits})

    table = Table("logits, compared with the model on the whole text", "largest relative difference")
    for name, difference in rows.items():
        table.add_row(name, f"{difference:.1e}")
    Console().print(table)
    print(f"The server's steps and the model's own have {'the same bits' if same_bits else 'other bits'}.")
    print(f"The limit is {limit:.1e}. A server needs only {out / 'served'}.")
    raise Exit(0 if agrees else 1)


def train(
    run: Run, model: linen.SequenceModel, windows: np.ndarray, steps: int, every: int, learning_rate: float, seed: int
) -> Any:
    """Return the parameters after ``steps`` of Adam on windows `[N, B, T + 1]`."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))
    params = jax.jit(model.init)(jax.random.key(seed), windows[0, :, :-1])["params"]

    @jax.jit
    def update(state: State, window: jax.Array) -> tuple[State, Metrics]:
        def loss(params: Any) -> jax.Array:
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
    """Run ``serve.py`` on tokens `[B, T]` in a process that can import none of BLOCKED, and return its arrays."""
    with whole(folder / "tokens.npy") as file, file.open("wb") as handle:
        np.save(handle, tokens)
    code = SERVE.format(blocked=BLOCKED, server=repr(str(SERVER)))
    command = [sys.executable, "-c", code, str(folder), "--tokens", "tokens.npy", "--logits", "logits.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise Refused(f"serve.py ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    imported = json.loads(done.stdout)["imported"]
    assert not set(imported) & set(BLOCKED), imported
    with np.load(folder / "logits.npz") as archive:
        return dict(archive)


def compare(
    model: linen.SequenceModel, params: Any, tokens: np.ndarray, served: dict[str, np.ndarray]
) -> tuple[dict[str, float], bool]:
    """Compare the logits of the server and of this process with those of the model on all tokens at once.

    Returns:
      The largest relative difference per row of the table, and whether the logits and the last state of the server's
      steps have the same bits as those of the steps in this process.
    """
    weights, apply = {"params": params}, jax.jit(model.apply)
    expected, _ = apply(weights, tokens)
    loop = model.clone(lstm_options={"backend": "scan"})  # what an exported program runs
    step, state, logits = jax.jit(step_function(loop)), model.zero_state(len(tokens), jnp.float32), []
    for t in range(tokens.shape[1]):
        step_logits, state = step(weights, tokens[:, t], state)
        logits.append(step_logits)
    rounded, _ = apply({"params": perturbed(params, jax.random.key(0))}, tokens)
    local = {"logits": np.stack(logits, 1), "h": state.h, "c": state.c}
    size = float(jnp.max(jnp.abs(expected)))
    difference = lambda a: float(np.max(np.abs(np.asarray(a) - expected))) / size
    rows = {
        "served, step by step": difference(served["logits"]),
        "served, all at once": difference(served["whole"]),
        "the model here, step by step": difference(local["logits"]),
        ROUNDED: difference(rounded),
    }
    return rows, all(np.array_equal(served[name], a) for name, a in local.items())


if __name__ == "__main__":
    start(main)
