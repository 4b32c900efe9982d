"""Flax nnx modules. They hold the parameters and call the functions of `jax_lstm`.

The attributes have the names of a torch state dict. Each is an ``nnx.Param`` or, to freeze it, any other
``nnx.Variable``. No module stores an Rngs: parameters are drawn in the constructor, initial states are zeros, and
dropout takes a key per call. Therefore plain ``jax.jit`` and ``jax.grad`` work on these modules, and no dropout mask is
repeated by accident. Sizes may be given by position; every other option is given by name.
"""

from jax_lstm.nnx.cell import LSTMCell, OptimizedLSTMCell
from jax_lstm.nnx.layers import Embedding, Linear
from jax_lstm.nnx.lstm import LSTM
from jax_lstm.nnx.model import SequenceModel

__all__ = ["LSTM", "Embedding", "LSTMCell", "Linear", "OptimizedLSTMCell", "SequenceModel"]
