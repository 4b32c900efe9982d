"""The same networks in plain PyTorch: equations in a Python loop, with the state dicts of torch.nn.

The code is written to be read and to be right, not to be fast. It shares no code with ``jax_lstm``, only weights.
"""

from importlib.metadata import PackageNotFoundError, version

from torch_ref.adjoint import GradientFlow, gradient_flow
from torch_ref.model import SequenceModel
from torch_ref.modules import LSTM, RNN
from torch_ref.notebook import NotebookLSTM

try:
    __version__ = version("jax-lstm")  # the distribution that this package is a part of
except PackageNotFoundError:  # the source without an installation
    __version__ = "0+unknown"

__all__ = ["LSTM", "RNN", "GradientFlow", "NotebookLSTM", "SequenceModel", "gradient_flow"]
