"""Measures the time and memory of a check of an encoder with 12.4 million parameters, or of only its two programs.

``python -m tests.support.encoder programs`` or ``check`` prints the seconds of all its threads, and the peak of memory
in bytes beyond the use at the start.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import crosscheck
from tests.support.memory import own_peak

WIDTH, HEADS, HIDDEN, LAYERS = 384, 6, 1536, 7
BATCH, STEPS = 4, 64


def module() -> torch.nn.Module:
    """Return torch's own encoder."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True)
    return torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)


def port(params: dict[str, Any], x: Any) -> Any:
    """Return the encoding of ``x``."""

    def linear(name: str, x: Any) -> Any:
        return x @ params[f"{name}weight"].T + params[f"{name}bias"]

    def normal(name: str, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        unit = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return unit * params[f"{name}.weight"] + params[f"{name}.bias"]

    def heads(a: Any) -> Any:
        return a.reshape(*a.shape[:2], HEADS, -1).swapaxes(1, 2)

    for n in range(LAYERS):
        name = f"layers.{n}"
        q, k, v = map(heads, jnp.split(linear(f"{name}.self_attn.in_proj_", x), 3, -1))
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(WIDTH // HEADS), -1)
        attended = (weights @ v).swapaxes(1, 2).reshape(x.shape)
        x = normal(f"{name}.norm1", x + linear(f"{name}.self_attn.out_proj.", attended))
        hidden = jax.nn.gelu(linear(f"{name}.linear1.", x), approximate=False)
        x = normal(f"{name}.norm2", x + linear(f"{name}.linear2.", hidden))
    return x


def programs(encoder: torch.nn.Module, params: dict[str, Any], x: np.ndarray) -> None:
    """Run both programs once with their gradients, in float64."""
    wide = encoder.double()
    given = torch.tensor(x, requires_grad=True)
    torch.autograd.grad(wide(given).sum(), [given, *wide.parameters()])
    with jax.enable_x64(True):
        exact = {name: jnp.asarray(a, jnp.float64) for name, a in params.items()}
        jax.block_until_ready(jax.jit(jax.grad(lambda p, x: port(p, x).sum(), (0, 1)))(exact, jnp.asarray(x)))


def check(encoder: torch.nn.Module, params: dict[str, Any], x: np.ndarray) -> None:
    """Check the port."""
    crosscheck.assert_agree(port, encoder, params, (x,))


def main(run: Callable[..., None]) -> None:
    """Print seconds, and bytes."""
    encoder = module()
    params = {name: p.detach().numpy() for name, p in encoder.named_parameters()}
    x = np.random.default_rng(0).normal(size=(BATCH, STEPS, WIDTH))
    before, started = own_peak(), time.process_time()
    run(encoder, params, x)
    print(f"{time.process_time() - started:.1f} {own_peak() - before}")


if __name__ == "__main__":
    main({"programs": programs, "check": check}[sys.argv[1]])
