"""Embedding -> LSTM -> fully connected layer: the model of the notebook."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from torch_ref.modules import LSTM


class SequenceModel(nn.Module):
    """A model that scores every step of a sequence of tokens: embedding, LSTM, fully connected layer.

    Args:
      vocab_size: the number of tokens, as in torch.nn.Embedding.
      embedding_size: the width of the embedding, and D of the LSTM.
      hidden_size: H of the LSTM.
      output_size: the number of scores per step.
      num_layers: the number of layers of the LSTM.
      dropout: the probability of dropout between the layers of the LSTM, as in torch.nn.LSTM.
      bidirectional: whether each layer of the LSTM has two directions.
      lstm: the class of the LSTM module. torch.nn.LSTM has the same state dict.

    Examples:
      >>> import torch
      >>> import torch_ref
      >>> model = torch_ref.SequenceModel(vocab_size=10, embedding_size=3, hidden_size=5, output_size=4)
      >>> logits, (h_n, c_n) = model(torch.zeros(2, 7, dtype=torch.long))
      >>> logits.shape, h_n.shape
      (torch.Size([2, 7, 4]), torch.Size([1, 2, 5]))
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
        """Run the model over a batch of token sequences, or over one sequence.

        Args:
          tokens: int `[B, T]` or `[T]`.
          hx: the initial state (h_0, c_0) of the LSTM. None means zeros.
          **options: further arguments of the LSTM, such as `lengths`.

        Returns:
          The logits `[B, T, output_size]`, or `[T, output_size]` for one sequence, and the LSTM's (h_n, c_n).

        Examples:
          >>> import torch
          >>> import torch_ref
          >>> model = torch_ref.SequenceModel(10, 3, 5, 4)
          >>> logits, state = model(torch.zeros(2, 7, dtype=torch.long), lengths=[7, 4])
          >>> logits.shape
          torch.Size([2, 7, 4])
        """
        y, state = self.lstm(self.embedding(tokens), hx, **options)
        return self.fc(y), state
