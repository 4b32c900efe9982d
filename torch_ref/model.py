"""Embedding -> LSTM -> fully connected layer: the model of the notebook."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from torch_ref.modules import LSTM


class SequenceModel(nn.Module):
    """A model that scores every step of a sequence of tokens.

    Args:
      vocab_size, embedding_size, hidden_size, output_size, num_layers, dropout, bidirectional: as in torch.nn.
      lstm: the class of the LSTM module. torch.nn.LSTM has the same state dict.
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
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = lstm(
            embedding_size, hidden_size, num_layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
        )
        self.fc = nn.Linear(hidden_size * (2 if bidirectional else 1), output_size)

    def forward(
        self, tokens: Tensor, hx: tuple[Tensor, Tensor] | None = None, **options: Any
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return logits ``[B, T, output_size]`` and the LSTM's ``(h_n, c_n)``, for tokens int ``[B, T]`` or ``[T]``.

        ``options`` go to the LSTM, such as ``lengths``.
        """
        y, state = self.lstm(self.embedding(tokens), hx, **options)
        return self.fc(y), state
