"""Runs the installed torch_ref while JAX and Flax cannot be imported."""

from __future__ import annotations

import sys
from pathlib import Path


class Blocked:
    """Raises for each import of a package of JAX, and for our packages that need JAX."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in ("jax", "jaxlib", "flax", "jax_lstm", "crosscheck"):
            raise ModuleNotFoundError(f"blocked: {name}")


sys.meta_path.insert(0, Blocked())  # type: ignore[arg-type]

import torch

import torch_ref

assert Path(torch_ref.__file__).is_relative_to(sys.prefix), f"{torch_ref.__file__} is not the installed package"
y, _ = torch_ref.LSTM(4, 5)(torch.ones(2, 3, 4))
y.sum().backward()
assert y.shape == (2, 3, 5)
assert "jax" not in sys.modules
