"""The same networks in plain PyTorch: equations in a Python loop, state dicts interchangeable with torch.nn's.

Written to be read and to be right, not to be fast; shares no code with ``jax_lstm``, only weights.
"""

from torch_ref.gradient_flow import GradientFlow, gradient_flow
from torch_ref.model import SequenceModel
from torch_ref.modules import LSTM, RNN
from torch_ref.notebook import NotebookLSTM

__all__ = ["LSTM", "RNN", "GradientFlow", "NotebookLSTM", "SequenceModel", "gradient_flow"]
