"""A model moves from PyTorch to JAX in the middle of its training, with its weights and Adam's moments.

`in_torch.py` is the original: Embedding, nn.LSTM and Linear, trained with torch.optim.Adam (Kingma & Ba, 2015) to
predict the next byte of a text. This script loads its checkpoint into Flax, verifies that outputs and gradients agree,
and continues the training with optax. It also continues the training in torch, and compares the two losses. Two more
runs put the difference in context: one perturbs its weights by a rounding before each step, and one starts with fresh
moments.

    python -m examples.port_a_torch_model.train
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
from examples.files import whole
from examples.port_a_torch_model import in_torch
from examples.port_a_torch_model.report import CARRIED, FRESH, ROUNDED, draw, judge, show
from examples.rounding import perturbed
from examples.run import Metrics, Refused, Run, State, start
from jax_lstm import convert, linen

Params = Any  # a pytree of arrays


def main(
    text: Annotated[
        Path | None, Option(exists=True, dir_okay=False, help="any file. Default: Python's help texts")
    ] = None,
    out: Annotated[Path, Option(help="folder of the run")] = Path("runs/port_a_torch_model"),
    hidden: Annotated[int, Option(min=1)] = 64,
    embedding: Annotated[int, Option(min=1)] = 16,
    batch: Annotated[int, Option(min=1, help="sequences per step")] = 16,
    length: Annotated[int, Option(min=1, help="bytes per sequence")] = 50,
    torch_steps: Annotated[int, Option(min=1, help="steps in torch before the port")] = 200,
    steps: Annotated[int, Option(min=1, help="steps in both after the port")] = 200,
    every: Annotated[int, Option(min=1, help="steps between checkpoints")] = 20,
    learning_rate: Annotated[float, Option(min=0)] = 5e-3,
    dtype: Annotated[Literal["float32", "float64"], Option()] = "float32",
    seed: Annotated[int, Option(min=0)] = 0,
) -> int:
    """Train in torch, load the model in Flax, cross-check it, and continue the training in both."""
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    data, held_out = read(text, length)
    settings = {"hidden": hidden, "embedding": embedding, "batch": batch, "length": length, "torch_steps": torch_steps}
    settings |= {"steps": steps, "every": every, "learning_rate": learning_rate, "dtype": dtype, "seed": seed}
    run = Run(out, {"example": "port_a_torch_model", "text": hashlib.sha256(data).hexdigest()[:16]} | settings)

    def tokens(n: int) -> np.ndarray:
        starts = np.random.default_rng([seed, n]).integers(len(data) - length, size=batch)
        return data[starts[:, None] + np.arange(length + 1)]

    def torch_tokens(n: int) -> torch.Tensor:
        return torch.from_numpy(tokens(n))

    torch.manual_seed(seed)
    torch_model = in_torch.ByteModel(embedding, hidden).to(getattr(torch, dtype))
    adam = torch.optim.Adam(torch_model.parameters(), lr=learning_rate)
    before = in_torch.train(torch_model, adam, torch_tokens, range(torch_steps), run.folder / "trained.pt", every)

    model = linen.SequenceModel(in_torch.BYTES, embedding, hidden, in_torch.BYTES)
    optimizer = optax.adam(learning_rate)
    saved = torch.load(run.folder / "trained.pt", weights_only=True)
    params = convert.from_torch(saved["model"])
    moments = carry_over(
        saved["optimizer"], [name for name, _ in torch_model.named_parameters()], optimizer.init(params)
    )
    print(verdict := cross_check(model, torch_model, params, held_out[:3, :20]))
    if not verdict.ok:
        return 1

    nats, step = make_step(model, optimizer, seed)
    bits = {"at the port": {"torch": bits_in_torch(torch_model, held_out), CARRIED: in_bits(nats(params, held_out))}}
    after = range(torch_steps, torch_steps + steps)
    losses = in_torch.train(torch_model, adam, torch_tokens, after, run.folder / "trained_on.pt", every)

    def train_step(states: State, n: int) -> tuple[State, Metrics]:
        states, jax_losses = step(states, tokens(torch_steps + n), n)
        return states, {"torch": losses[n]} | jax_losses

    states = {CARRIED: (params, moments), ROUNDED: (params, moments), FRESH: (params, optimizer.init(params))}
    states = run.train(jax.tree.map(jnp.copy, states), train_step, steps, every)

    bits["at the end"] = {"torch": bits_in_torch(torch_model, held_out)}
    bits["at the end"] |= {name: in_bits(nats(params, held_out)) for name, (params, _) in states.items()}
    back_in_torch(torch_model, states[CARRIED][0], run.folder / "trained_on.safetensors")
    bits["at the end"]["optax, back in torch"] = bits_in_torch(torch_model, held_out)

    rows = run.metrics()
    difference, limit = judge(rows, np.finfo(dtype).eps)
    run.finish({"held-out bits per byte": bits, "largest difference from torch": difference, "limit": limit})
    draw(run, before, rows, torch_steps, every)
    show(bits, difference, limit)
    return 0 if difference[CARRIED] <= limit else 1


def cross_check(
    model: linen.SequenceModel, torch_model: torch.nn.Module, params: Params, tokens: np.ndarray
) -> crosscheck.Verdict:
    """Compare outputs and gradients of both models with these weights, in float64 and in float32."""

    def in_jax(params: dict[str, jax.Array], tokens: jax.Array) -> Any:  # parameters by dotted name -> logits, (h, c)
        logits, state = model.apply({"params": unflatten_dict(params, sep=".")}, tokens)
        return logits, (state.h, state.c)

    by_name = convert.to_torch(params)
    return crosscheck.check(in_jax, torch_model, by_name, (tokens,), output_names=["logits", "h", "c"])


def make_step(
    model: linen.SequenceModel, optimizer: optax.GradientTransformation, seed: int
) -> tuple[Callable[[Params, np.ndarray], jax.Array], Callable[[State, np.ndarray, int], tuple[State, Metrics]]]:
    """Return the jitted loss ``nats(params, tokens)``, and a jitted training step of all runs at once."""

    def nats(params: Params, tokens: jax.Array) -> jax.Array:
        logits, _ = model.apply({"params": params}, tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(states: State, tokens: jax.Array, n: int) -> tuple[State, Metrics]:
        losses = {}
        for name, (params, moments) in states.items():
            at = perturbed(params, jax.random.fold_in(jax.random.key(seed), n)) if name == ROUNDED else params
            losses[name], gradients = jax.value_and_grad(nats)(at, tokens)
            updates, moments = optimizer.update(gradients, moments, params)
            states = states | {name: (optax.apply_updates(params, updates), moments)}
        return states, losses

    return jax.jit(nats), step


def read(text: Path | None, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first nine tenths as bytes `[N]`, and up to 64 windows `[B, length + 1]` of the last tenth."""
    content = text.read_bytes() if text else "\n".join(topics[name] for name in sorted(topics)).encode()
    data = np.frombuffer(content, np.uint8).astype(np.int64)
    train = len(data) * 9 // 10
    windows = min(64, (len(data) - train) // (length + 1))
    if windows < 1:
        need = 10 * (length + 1)
        raise Refused(f"--text {text}: {len(data)} bytes; --length {length} needs {need}, a tenth of them held out")
    return data[:train], data[train : train + windows * (length + 1)].reshape(windows, length + 1)


def carry_over(adam: dict[str, Any], names: list[str], fresh: optax.OptState) -> optax.OptState:
    """Convert the saved state of torch.optim.Adam into a state of optax.adam, with the structure of ``fresh``.

    torch numbers the moments in the order of the optimizer's parameters. ``names`` are the parameters' names.
    """
    by_name = {name: adam["state"][number] for number, name in enumerate(names)}
    mu, nu = (convert.from_torch({n: a[part] for n, a in by_name.items()}) for part in ("exp_avg", "exp_avg_sq"))
    scale, *rest = fresh
    count = jnp.asarray(int(by_name[names[0]]["step"]), scale.count.dtype)
    return (scale._replace(count=count, mu=mu, nu=nu), *rest)


def back_in_torch(torch_model: torch.nn.Module, params: Params, file: Path) -> None:
    """Load Flax's parameters into the torch model, through a file."""
    with whole(file) as path:
        save_file(convert.to_torch(params), path)
    torch_model.load_state_dict({name: torch.from_numpy(a) for name, a in load_file(file).items()})


def bits_in_torch(model: torch.nn.Module, tokens: np.ndarray) -> float:
    """Return the torch model's loss in bits per byte."""
    with torch.no_grad():
        return in_bits(in_torch.nats(model, torch.from_numpy(tokens)))


def in_bits(nats: jax.Array | torch.Tensor) -> float:
    return float(nats) / np.log(2)


if __name__ == "__main__":
    start(main)
