"""A model leaves PyTorch in the middle of its training: weights, Adam's moments and the loss go on in JAX.

`in_torch.py` is what there was: Embedding, nn.LSTM and Linear, trained with torch.optim.Adam (Kingma & Ba, 2015) to
foretell the next byte of a text. Here its checkpoint is loaded into Flax, proven to be the same function, outputs and
gradients, and trained on with optax. Beside it torch trains on too, and the two losses stay together. Two more runs say
what that means: one whose weights are moved by a rounding before each step, and one whose moments start anew.

    python -m examples.port_a_torch_model.train
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file, save_file
from typer import Option

import crosscheck
from examples.port_a_torch_model import in_torch
from examples.port_a_torch_model.report import ANEW, CARRIED, ROUNDED, draw, judge, show
from examples.rounding import moved
from examples.run import Refused, Run, start
from jax_lstm import convert, linen


def main(
    text: Annotated[Path | None, Option(exists=True, dir_okay=False, help="any file; default: Python's help")] = None,
    out: Annotated[Path, Option(help="folder of the run")] = Path("runs/port_a_torch_model"),
    hidden: Annotated[int, Option(min=1)] = 64,
    embedding: Annotated[int, Option(min=1)] = 16,
    batch: Annotated[int, Option(min=1, help="sequences a step")] = 16,
    length: Annotated[int, Option(min=1, help="bytes a sequence")] = 50,
    torch_steps: Annotated[int, Option(min=1, help="steps in torch, before the port")] = 200,
    steps: Annotated[int, Option(min=1, help="steps after it, in both")] = 200,
    every: Annotated[int, Option(min=1, help="steps between checkpoints")] = 20,
    learning_rate: Annotated[float, Option(min=0)] = 5e-3,
    dtype: Annotated[Literal["float32", "float64"], Option()] = "float32",
    seed: Annotated[int, Option(min=0)] = 0,
) -> int:
    """Trains in torch, loads in Flax, cross-checks, trains on in both."""
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    data, held_out = read(text, length)
    settings = {"hidden": hidden, "embedding": embedding, "batch": batch, "length": length, "torch_steps": torch_steps}
    settings |= {"steps": steps, "every": every, "learning_rate": learning_rate, "dtype": dtype, "seed": seed}
    run = Run(out, {"example": "port_a_torch_model", "text": hashlib.sha256(data).hexdigest()[:16]} | settings)

    def tokens(n):
        starts = np.random.default_rng([seed, n]).integers(len(data) - length, size=batch)
        return data[starts[:, None] + np.arange(length + 1)]

    def torch_tokens(n):
        return torch.from_numpy(tokens(n))

    torch.manual_seed(seed)
    theirs = in_torch.ByteModel(embedding, hidden).to(getattr(torch, dtype))
    adam = torch.optim.Adam(theirs.parameters(), lr=learning_rate)
    before = in_torch.train(theirs, adam, torch_tokens, range(torch_steps), run.folder / "trained.pt", every)

    model = linen.SequenceModel(in_torch.BYTES, embedding, hidden, in_torch.BYTES)
    optimizer = optax.adam(learning_rate)
    saved = torch.load(run.folder / "trained.pt", weights_only=True)
    params = convert.from_torch(saved["model"])
    moments = carry_over(saved["optimizer"], [name for name, _ in theirs.named_parameters()], optimizer.init(params))
    print(verdict := cross_check(model, theirs, params, held_out[:3, :20]))
    if not verdict.ok:
        return 1

    nats, step = make_step(model, optimizer, seed)
    bits = {"at the port": {"torch": bits_in_torch(theirs, held_out), CARRIED: in_bits(nats(params, held_out))}}
    after = range(torch_steps, torch_steps + steps)
    losses = in_torch.train(theirs, adam, torch_tokens, after, run.folder / "trained_on.pt", every)

    def train_step(states, n):
        states, found = step(states, tokens(torch_steps + n), n)
        return states, {"torch": losses[n]} | found

    states = {CARRIED: (params, moments), ROUNDED: (params, moments), ANEW: (params, optimizer.init(params))}
    states = run.train(jax.tree.map(jnp.copy, states), train_step, steps, every)

    bits["at the end"] = {"torch": bits_in_torch(theirs, held_out)}
    bits["at the end"] |= {name: in_bits(nats(params, held_out)) for name, (params, _) in states.items()}
    back_in_torch(theirs, states[CARRIED][0], run.folder / "trained_on.safetensors")
    bits["at the end"]["optax, back in torch"] = bits_in_torch(theirs, held_out)

    rows = run.metrics()
    difference, limit = judge(rows, np.finfo(dtype).eps)
    run.finish({"held-out bits per byte": bits, "largest difference from torch": difference, "limit": limit})
    draw(run, before, rows, torch_steps, every)
    show(bits, difference, limit)
    return 0 if difference[CARRIED] <= limit else 1


def cross_check(model: linen.SequenceModel, theirs: torch.nn.Module, params: Any, tokens: np.ndarray) -> Any:
    """Outputs and gradients of both models on these weights, compared in float64 and float32."""

    def as_torch_does(params, tokens):  # parameters by dotted name -> logits and (h, c)
        logits, state = model.apply({"params": unflatten_dict(params, sep=".")}, tokens)
        return logits, (state.h, state.c)

    by_name = convert.to_torch(params)
    return crosscheck.check(as_torch_does, theirs, by_name, (tokens,), output_names=["logits", "h", "c"])


def make_step(model: linen.SequenceModel, optimizer: Any, seed: int) -> tuple[Any, Any]:
    """The jitted loss ``nats(params, tokens)``, and one step of training of all runs at once."""

    def nats(params, tokens):
        logits, _ = model.apply({"params": params}, tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(states, tokens, n):
        losses = {}
        for name, (params, moments) in states.items():
            at = moved(params, jax.random.fold_in(jax.random.key(seed), n)) if name == ROUNDED else params
            losses[name], gradients = jax.value_and_grad(nats)(at, tokens)
            updates, moments = optimizer.update(gradients, moments, params)
            states = states | {name: (optax.apply_updates(params, updates), moments)}
        return states, losses

    return jax.jit(nats), step


def read(text: Path | None, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The first nine tenths as bytes [N], and of the last tenth up to 64 windows [B, length + 1]."""
    content = text.read_bytes() if text else "\n".join(topics[name] for name in sorted(topics)).encode()
    data = np.frombuffer(content, np.uint8).astype(np.int64)
    cut = len(data) * 9 // 10
    windows = min(64, (len(data) - cut) // (length + 1))
    if windows < 1:
        need = 10 * (length + 1)
        raise Refused(f"--text {text}: {len(data)} bytes; --length {length} needs {need}, a tenth of them held out")
    return data[:cut], data[cut : cut + windows * (length + 1)].reshape(windows, length + 1)


def carry_over(adam: dict[str, Any], names: list[str], fresh: Any) -> Any:
    """The saved state of torch.optim.Adam as that of optax.adam, whose ``fresh`` state gives the form.

    torch numbers the moments, in the order in which the optimizer got the parameters; ``names`` are theirs.
    """
    by_name = {name: adam["state"][number] for number, name in enumerate(names)}
    mu, nu = (convert.from_torch({n: a[part] for n, a in by_name.items()}) for part in ("exp_avg", "exp_avg_sq"))
    scale, *rest = fresh
    count = jnp.asarray(int(by_name[names[0]]["step"]), scale.count.dtype)
    return (scale._replace(count=count, mu=mu, nu=nu), *rest)


def back_in_torch(theirs: torch.nn.Module, params: Any, file: Path) -> None:
    """Flax's parameters into the torch model, by way of a file."""
    aside = file.with_suffix(".partial")
    save_file(convert.to_torch(params), aside)
    aside.replace(file)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in load_file(file).items()})


def bits_in_torch(model: torch.nn.Module, tokens: np.ndarray) -> float:
    with torch.no_grad():
        return in_bits(in_torch.nats(model, torch.from_numpy(tokens)))


def in_bits(nats: Any) -> float:
    return float(nats) / np.log(2)


if __name__ == "__main__":
    start(main)
