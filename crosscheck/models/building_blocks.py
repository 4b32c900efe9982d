"""What the families share: random inputs and small pieces of ports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Params: TypeAlias = Mapping[str, Any]
GENTLE = ("offset", "quantised", "small", "zeros")


def flip(rng: np.random.Generator, chance: float = 0.5) -> bool:
    """Return True with a probability."""
    return bool(rng.random() < chance)


def draw_input(rng: np.random.Generator, *shape: int, unkind: tuple[str, ...] = GENTLE) -> np.ndarray:
    """Return normal numbers. One draw in seven is less kind, as real data are.

    Args:
      rng: the source.
      shape: the shape of the array.
      unkind: what may happen: "offset" adds 20, "quantised" rounds to halves, "small" and "large" multiply by 1e-3 and
        1e3, "zeros" pads the end of the second axis with zeros.
    """
    x = rng.normal(size=shape)
    kind = str(rng.choice(np.array(unkind))) if unkind and flip(rng, 1 / 7) else ""
    if kind == "offset":
        x = x + 20
    elif kind == "quantised":
        x = np.round(2 * x) / 2
    elif kind in ("small", "large"):
        x = x * (1e-3 if kind == "small" else 1e3)
    elif kind == "zeros" and len(shape) > 1:
        x[:, shape[1] // 2 + 1 :] = 0
    return x


def draw_lengths(rng: np.random.Generator, batch: int, steps: int) -> np.ndarray:
    """Return lengths from 1 to ``steps``. The first is shorter than ``steps``, and the last is ``steps``."""
    lengths = rng.integers(1, steps + 1, batch)
    lengths[0] = rng.integers(1, steps)
    lengths[-1] = steps
    return lengths


def draw_valid(rng: np.random.Generator, batch: int, steps: int) -> np.ndarray:
    """Return a mask of the valid positions, `[batch, steps]`, of sequences that are padded at the end."""
    valid: np.ndarray = np.arange(steps) < draw_lengths(rng, batch, steps)[:, None]
    return valid


def linear(params: Params, name: str, x: Any) -> Any:
    """Return what torch.nn.Linear computes, with or without a bias."""
    y = x @ params[f"{name}.weight"].T
    bias = params.get(f"{name}.bias")
    return y if bias is None else y + bias


def layer_norm(params: Params, name: str, x: Any, eps: float = 1e-5) -> Any:
    """Return what torch.nn.LayerNorm computes over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return normal * params[f"{name}.weight"] + params[f"{name}.bias"]


def split_heads(x: Any, heads: int) -> Any:
    """Return `[B, T, H * D]` as `[B, H, T, D]`."""
    batch, steps, width = x.shape
    return x.reshape(batch, steps, heads, width // heads).transpose(0, 2, 1, 3)


def merge_heads(x: Any) -> Any:
    """Return `[B, H, T, D]` as `[B, T, H * D]`."""
    batch, heads, steps, size = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, steps, heads * size)


def attend(q: Any, k: Any, v: Any, allowed: Any = None, scale: float | None = None, bias: Any = 0.0) -> Any:
    """Return softmax(q kᵀ scale + bias) v over the last two axes.

    Args:
      q: `[..., T, D]`.
      k: `[..., S, D]`.
      v: `[..., S, V]`.
      allowed: what a query may see, `[..., T, S]`; None is everything.
      scale: the factor of the scores; by default one over the root of D.
      bias: what is added to the scores.
    """
    scores = q @ jnp.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ v


def causal(steps: int, offset: int = 0) -> Any:
    """Return the mask of what query t may see: positions up to t + ``offset``."""
    return jnp.tril(jnp.ones((steps, steps), bool), offset)


def exact_gelu(x: Any) -> Any:
    """Return the GELU with the error function."""
    return jax.nn.gelu(x, approximate=False)
