"""Small Bert and GPT-2 as Hugging Face writes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import (
    Params,
    attend,
    causal,
    draw_valid,
    exact_gelu,
    layer_norm,
    linear,
    merge_heads,
    split_heads,
)
from crosscheck.models.changing import around, options, with_input
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L = torch.nn.Linear
tanh_gelu = partial(jax.nn.gelu, approximate=True)


def _bert_torch(m: Any, ids: Any, types: Any, valid: Any) -> Any:
    x = m.words(ids) + m.types(types) + m.positions(torch.arange(ids.shape[1]))
    x = m.norm0(x)
    mask = (1.0 - valid[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
    q, k, v = (f(x).unflatten(-1, (m.heads, -1)).transpose(1, 2) for f in (m.query, m.key, m.value))
    weights = (q @ k.mT / q.shape[-1] ** 0.5 + mask).softmax(-1)
    x = m.norm1(m.out((weights @ v).transpose(1, 2).flatten(2)) + x)
    x = m.norm2(m.linear2(F.gelu(m.linear1(x))) + x)
    return x, torch.tanh(m.pooler(x[:, 0]))


def _bert(
    params: Params,
    ids: Any,
    types: Any,
    valid: Any,
    *,
    heads: int,
    eps: float = 1e-12,
    gelu: Callable[[Any], Any] = exact_gelu,
    pooled: int = 0,
) -> Any:
    norm = partial(layer_norm, params, eps=eps)
    tables = (params[f"{name}.weight"] for name in ("words", "types", "positions"))
    words, kinds, positions = tables
    x = norm("norm0", words[ids] + kinds[types] + positions[: ids.shape[1]])
    q, k, v = (split_heads(linear(params, name, x), heads) for name in ("query", "key", "value"))
    out = merge_heads(attend(q, k, v, valid.astype(bool)[:, None, None, :]))
    x = norm("norm1", linear(params, "out", out) + x)
    x = norm("norm2", linear(params, "linear2", gelu(linear(params, "linear1", x))) + x)
    return x, jnp.tanh(linear(params, "pooler", x[:, pooled]))


def _draw_bert(rng: np.random.Generator) -> Drawn:
    batch, heads, steps, size, words = sizes(rng, 5, 2, 9)
    width, hidden = heads * size, int(rng.integers(5, 20))
    with seeded(rng):
        rows = {"words": words, "types": 2, "positions": 12}
        tables = {name: torch.nn.Embedding(n, width) for name, n in rows.items()}
        norms = {f"norm{n}": torch.nn.LayerNorm(width, eps=1e-12) for n in range(3)}
        layers = {name: L(width, width) for name in ("query", "key", "value", "out", "pooler")}
        ends = {"linear1": L(width, hidden), "linear2": L(hidden, width)}
        module = Calls(_bert_torch, **tables, **norms, **layers, **ends, heads=heads)
    valid = draw_valid(rng, batch, steps).astype(np.int64)
    types = np.sort(rng.integers(0, 2, (batch, steps)), 1)
    types[0, -1] = 1
    inputs = (rng.integers(0, words, (batch, steps)), types, valid)
    return Drawn(partial(_bert, heads=heads), module, inputs, {"output_names": ("states", "pooled")})


class _Conv1D(torch.nn.Module):
    """GPT-2's linear layer, whose weight is `[in, out]`."""

    def __init__(self, out: int, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(0.3 * torch.randn(width, out))
        self.bias = torch.nn.Parameter(0.1 * torch.randn(out))

    def forward(self, x: Any) -> Any:
        return x @ self.weight + self.bias


def _gpt2_torch(m: Any, ids: Any) -> Any:
    x = m.wte(ids) + m.wpe(torch.arange(ids.shape[1]))
    q, k, v = (a.unflatten(-1, (m.heads, -1)).transpose(1, 2) for a in m.attn(m.ln_1(x)).chunk(3, -1))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + m.proj(out.transpose(1, 2).flatten(2))
    x = x + m.down(F.gelu(m.up(m.ln_2(x)), approximate="tanh"))
    return m.ln_f(x) @ m.wte.weight.T


def _gpt2(
    params: Params,
    ids: Any,
    *,
    heads: int,
    gelu: Callable[[Any], Any] = tanh_gelu,
    offset: int = 0,
    tied: Callable[[Any], Any] = lambda table: table,
) -> Any:
    def conv(name: str, x: Any) -> Any:
        return x @ params[f"{name}.weight"] + params[f"{name}.bias"]

    x = params["wte.weight"][ids] + params["wpe.weight"][jnp.arange(ids.shape[1])]
    qkv = jnp.split(conv("attn", layer_norm(params, "ln_1", x)), 3, axis=-1)
    q, k, v = (split_heads(a, heads) for a in qkv)
    x = x + conv("proj", merge_heads(attend(q, k, v, causal(ids.shape[1], offset))))
    x = x + conv("down", gelu(conv("up", layer_norm(params, "ln_2", x))))
    return layer_norm(params, "ln_f", x) @ tied(params["wte.weight"]).T


def _draw_gpt2(rng: np.random.Generator) -> Drawn:
    batch, heads, steps, size, words = sizes(rng, 5, 2, 9)
    width = heads * size
    with seeded(rng):
        tables = {"wte": torch.nn.Embedding(words, width), "wpe": torch.nn.Embedding(steps + 2, width)}
        norms = {name: torch.nn.LayerNorm(width) for name in ("ln_1", "ln_2", "ln_f")}
        shapes = {
            "attn": (3 * width, width),
            "proj": (width, width),
            "up": (2 * width, width),
            "down": (width, 2 * width),
        }
        layers = {name: _Conv1D(*shape) for name, shape in shapes.items()}
        module = Calls(_gpt2_torch, **tables, **norms, **layers, heads=heads)
    return Drawn(partial(_gpt2, heads=heads), module, (rng.integers(0, words, (batch, steps)),))


def _first_type(port: Callable[..., Any], params: Params, ids: Any, types: Any, valid: Any) -> Any:
    return port(params, ids, np.zeros_like(types), valid)


PAIRS = (
    ModelPair("bert", "a block of Bert with its embeddings and its pooler", _draw_bert),
    ModelPair("gpt2", "a block of GPT-2 with tied output", _draw_gpt2),
)
MISTAKES = (
    Mistake("bert-tanh-gelu", "bert", "the GELU is the tanh approximation", options(gelu=tanh_gelu)),
    Mistake("bert-pooled-last", "bert", "the last token is pooled", options(pooled=-1)),
    Mistake("bert-first-type", "bert", "token types are ignored", around(_first_type)),
    Mistake(
        "bert-no-types",
        "bert",
        "token types are ignored",
        with_input(1, np.zeros_like, around(_first_type)),
        hidden_by="every token has type 0",
        answer="every number of 'types' is 0",
    ),
    Mistake("gpt2-exact-gelu", "gpt2", "the GELU is exact", options(gelu=exact_gelu)),
    Mistake("gpt2-sees-next", "gpt2", "a token sees the next one", options(offset=1)),
    Mistake("gpt2-untied", "gpt2", "no gradient flows through the tied output", options(tied=jax.lax.stop_gradient)),
)
