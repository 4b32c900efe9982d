"""Sentences for parameters of another kind than a dict of torch's names: how to map them inside jax_fn."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

_RULE = "params must map names to arrays"
_MAP = "Keep torch's names in params, and map them inside jax_fn"
NNX = "lambda p, x: nnx.merge(graphdef, {'dense': {'kernel': p['weight'].T, 'bias': p['bias']}})(x)"
EQUINOX = (
    "lambda p, x: jax.vmap(eqx.tree_at(lambda m: (m.weight, m.bias), model, (p['weight'], p['bias'])))(x); "
    "eqx.combine puts whole trees together"
)
FLAX = "lambda p, x: model.apply({'params': {'dense': {'kernel': p['weight'].T, 'bias': p['bias']}}}, x)"


def require_flat(params: Any) -> None:
    """Check that parameters are a mapping of names to arrays.

    Raises:
      TypeError: they are not a mapping. The message says what came, and how to map it inside jax_fn.
    """
    came, example = _kind(params)
    if came:
        advice = f" {_MAP}, such as {example}." if example else ""
        raise TypeError(f"{_RULE}; got {came}.{advice}")


def _kind(params: Any) -> tuple[str, str]:
    """Return what ``params`` is and an example for it; two empty strings if it is a flat mapping."""
    name = type(params).__name__
    if _is(params, "flax.nnx", "Module", "State", "GraphState"):
        return f"an nnx.{'State' if _is(params, 'flax.nnx', 'State', 'GraphState') else 'Module'} ({name})", NNX
    if _is(params, "equinox", "Module"):
        return f"an eqx.Module ({name})", EQUINOX
    if isinstance(params, torch.nn.Module):
        return f"a torch module ({name}): write dict(torch_module.named_parameters())", ""
    if not isinstance(params, Mapping):
        return name, ""
    nested = [key for key, value in params.items() if isinstance(value, Mapping)]
    if not nested:
        return "", ""
    if "batch_stats" in params:
        return "nested dicts with batch_stats, as Flax has them", f"{FLAX} with 'batch_stats' beside 'params'"
    return f"nested dicts, such as at {nested[0]!r}", FLAX


def _is(value: Any, library: str, *classes: str) -> bool:
    """Return whether a value is of one of these classes of a library. A library that is not loaded made no value."""
    module = sys.modules.get(library)
    kinds = tuple(getattr(module, name) for name in classes if hasattr(module, name))
    return isinstance(value, kinds)
