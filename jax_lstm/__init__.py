"""An LSTM in JAX, written once as its equations, on torch.nn.LSTM's weights.

Axes, everywhere: T steps, B or *batch batch axes, D inputs, H hidden units, P output width (proj_size or H),
G = 4H gate rows (H for an RNN), L layers, R = L * directions rows of a state.
"""

from jax_lstm import convert
from jax_lstm.backends import BackendChoice
from jax_lstm.gradient_flow import GradientFlow, gradient_flow
from jax_lstm.init import init_lstm, init_rnn
from jax_lstm.initial_state import zero_state
from jax_lstm.lstm import choose_backend, lstm, lstm_cell, lstm_states
from jax_lstm.rnn import rnn, rnn_cell
from jax_lstm.state import LSTMState
from jax_lstm.streaming import lstm_step, lstm_stream

__all__ = [
    "BackendChoice",
    "GradientFlow",
    "LSTMState",
    "choose_backend",
    "convert",
    "gradient_flow",
    "init_lstm",
    "init_rnn",
    "lstm",
    "lstm_cell",
    "lstm_states",
    "lstm_step",
    "lstm_stream",
    "rnn",
    "rnn_cell",
    "zero_state",
]
