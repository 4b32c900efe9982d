"""Flax linen modules: thin shells that declare the parameters and call the functions.

``variables["params"]`` is a torch state dict, so a torch checkpoint needs no mapping. Initial states are zeros and
need no RNG. ``dtype`` is the compute dtype, ``param_dtype`` that of the weights, as everywhere in Flax. Sizes may be
given by position, every other option is given by name.
"""

from jax_lstm.linen.cell import LSTMCell, OptimizedLSTMCell
from jax_lstm.linen.lstm import LSTM
from jax_lstm.linen.model import Embedding, Linear, SequenceModel

__all__ = ["LSTM", "Embedding", "LSTMCell", "Linear", "OptimizedLSTMCell", "SequenceModel"]
