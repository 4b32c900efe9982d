"""Flax nnx modules: thin shells that hold the parameters and call the functions.

The attributes are a torch state dict's names, each an ``nnx.Param`` or, to freeze it, any other ``nnx.Variable``. No
module stores an Rngs: parameters are drawn in the constructor, initial states are zeros, and dropout takes its key per
call. So plain ``jax.jit`` and ``jax.grad`` work on these modules, and no dropout mask repeats unasked. Sizes may be
given by position, every other option is given by name.
"""

from jax_lstm.nnx.cell import LSTMCell, OptimizedLSTMCell
from jax_lstm.nnx.lstm import LSTM
from jax_lstm.nnx.model import Embedding, Linear, SequenceModel

__all__ = ["LSTM", "Embedding", "LSTMCell", "Linear", "OptimizedLSTMCell", "SequenceModel"]
