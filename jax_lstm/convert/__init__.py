"""Weights in and out: pure functions on arrays, one file a library. None imports the library that it speaks to."""

from jax_lstm.convert.cudnn import to_cudnn
from jax_lstm.convert.torch import from_torch, to_torch

__all__ = ["from_torch", "to_cudnn", "to_torch"]
