"""Leaves of what a torch module returns, in the order in which JAX would flatten the same structure."""

from __future__ import annotations

from typing import Any

import jax
import torch


def tensor_leaves(out: Any) -> list[torch.Tensor]:
    leaves = jax.tree.leaves(out)
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            raise TypeError(
                f"the torch module must return tensors in tuples, lists or dicts; got a {type(leaf).__name__}. "
                "Unpack such a thing with torch_fn=lambda module, *inputs: ..."
            )
    return leaves
