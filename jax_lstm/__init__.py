"""Run, train and check LSTMs in JAX, on the weights of torch.nn.LSTM.

Axes, in all docstrings: T steps, B or *batch batch axes, D inputs, H hidden units, P output width (proj_size or H), G =
4H gate rows (H for an RNN), L layers, R = L * directions rows of a state.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING

from jax_lstm import convert
from jax_lstm._src.backends import BackendChoice
from jax_lstm._src.gradient_flow import GradientFlow, gradient_flow
from jax_lstm._src.init import init_lstm, init_rnn
from jax_lstm._src.initial_state import zero_state
from jax_lstm._src.lstm import choose_backend, lstm, lstm_cell, lstm_states
from jax_lstm._src.rnn import rnn, rnn_cell
from jax_lstm._src.state import LSTMState
from jax_lstm._src.streaming import lstm_step, lstm_stream

if TYPE_CHECKING:
    from jax_lstm import linen as linen
    from jax_lstm import nnx as nnx

try:
    __version__ = version("jax-lstm")
except PackageNotFoundError:  # the source without an installation
    __version__ = "0+unknown"

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

_WITH_FLAX = ("linen", "nnx")  # imported at their first use, so that the package works without Flax


def __getattr__(name: str) -> ModuleType:
    if name in _WITH_FLAX:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_WITH_FLAX})
