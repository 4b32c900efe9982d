"""Flax linen modules. They declare the parameters and call the functions of `jax_lstm`.

``variables["params"]`` is a torch state dict, so that a torch checkpoint needs no mapping. Initial states are zeros and
need no RNG. As in Flax, ``dtype`` is the dtype of the computation, and ``param_dtype`` the dtype of the weights. Sizes
may be given by position; every other option is given by name.
"""

from jax_lstm.linen.cell import LSTMCell, OptimizedLSTMCell
from jax_lstm.linen.layers import Embedding, Linear
from jax_lstm.linen.lstm import LSTM
from jax_lstm.linen.model import SequenceModel

__all__ = ["LSTM", "Embedding", "LSTMCell", "Linear", "OptimizedLSTMCell", "SequenceModel"]
