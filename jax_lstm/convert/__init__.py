"""Weights of other libraries, in and out: pure functions on arrays.

Here live the converters: one file per library, ``keras`` and ``onnx`` as folders, and what they share (``arrays``,
``gates``, ``layers``, ``nesting``, ``joint``). Every ``from_x`` returns a torch.nn.LSTM state dict as jax arrays, which
all of jax_lstm takes. Every ``to_x`` returns the other library's own structure. The docstring says what cannot be
converted without loss, and ``strict=True`` refuses it. No file here may import the library whose weights it converts,
nor compute with weights: a converter only moves, orders and adds numbers.
"""

from jax_lstm.convert.cudnn import from_cudnn, to_cudnn
from jax_lstm.convert.equinox import from_equinox, to_equinox
from jax_lstm.convert.flax_linen import from_flax, to_flax
from jax_lstm.convert.flax_models import cells_from_flax, cells_from_nnx, cells_to_flax, cells_to_nnx
from jax_lstm.convert.flax_nnx import from_nnx, to_nnx
from jax_lstm.convert.haiku import from_haiku, to_haiku
from jax_lstm.convert.keras import KerasRefusal, from_keras, keras_networks, to_keras
from jax_lstm.convert.layers import cell, stack
from jax_lstm.convert.onnx import OnnxLSTM, OnnxRefusal, from_onnx, onnx_networks, to_onnx
from jax_lstm.convert.safetensors import load_safetensors, save_safetensors
from jax_lstm.convert.tf1 import from_tf1
from jax_lstm.convert.torch import from_torch, to_torch

__all__ = [
    "KerasRefusal", "OnnxLSTM", "OnnxRefusal", "cell", "cells_from_flax", "cells_from_nnx", "cells_to_flax",
    "cells_to_nnx", "from_cudnn", "from_equinox", "from_flax", "from_haiku", "from_keras", "from_nnx", "from_onnx",
    "from_tf1", "from_torch", "keras_networks", "load_safetensors", "onnx_networks", "save_safetensors", "stack",
    "to_cudnn", "to_equinox", "to_flax", "to_haiku", "to_keras", "to_nnx", "to_onnx", "to_torch",
]  # fmt: skip
