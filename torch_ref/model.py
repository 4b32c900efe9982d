"""Embedding -> LSTM -> fully connected layer, the notebook's model."""

from __future__ import annotations

from torch import Tensor, nn

from torch_ref.modules import LSTM


class SequenceModel(nn.Module):
    """Scores at every step of a sequence of tokens.

    ``forward(tokens, hx=None, lengths=None)``: tokens int ``[B, T]`` or ``[T]`` -> logits ``[B, T, output_size]`` and
    the LSTM's ``(h_n, c_n)``. ``lstm`` replaces the LSTM module, such as by torch.nn.LSTM; its state dict is the same.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        bidirectional: bool = False,
        lstm: type[nn.Module] = LSTM,
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = lstm(
            embedding_size, hidden_size, num_layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
        )
        self.fc = nn.Linear(hidden_size * (2 if bidirectional else 1), output_size)

    def forward(self, tokens: Tensor, hx=None, **options):
        y, state = self.lstm(self.embedding(tokens), hx, **options)
        return self.fc(y), state
