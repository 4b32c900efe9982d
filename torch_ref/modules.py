"""LSTM and RNN as modules: the constructors, state dicts and results of torch.nn, over the plain loop.

There are two departures from torch.nn. Besides a PackedSequence, ``forward`` accepts the ``lengths`` of rows, unsorted,
0 included. Dropout is drawn by torch.nn.functional.dropout, so that masks differ from torch.nn.LSTM's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_ref.cell import State, Step, lstm_step, rnn_relu_step, rnn_tanh_step
from torch_ref.recurrent import Lengths, Recurrent


class LSTM(Recurrent):
    """An LSTM in a plain loop, with the arguments, parameters and results of torch.nn.LSTM.

    Besides a PackedSequence, `forward` accepts the `lengths` of rows. Dropout is drawn by
    torch.nn.functional.dropout, so that its masks differ from those inside torch.nn.LSTM.

    Args:
      input_size: D, the width of x.
      hidden_size: H, the width of the states.
      num_layers: the number of layers.
      bias: whether there are biases, two per layer and direction.
      batch_first: whether x and y are `[B, T, ...]`. Otherwise they are `[T, B, ...]`.
      dropout: the probability of dropout between layers in train mode.
      bidirectional: whether each layer has two directions.
      proj_size: P, the width of a projection of h. 0 means none, and then P = H.
      device: the device of the parameters.
      dtype: the dtype of the parameters.

    Raises:
      ValueError: a size, `dropout` or `proj_size` is out of range.

    Examples:
      >>> import torch
      >>> import torch_ref
      >>> module = torch_ref.LSTM(3, 5, batch_first=True)
      >>> y, (h_n, c_n) = module(torch.zeros(2, 7, 3))
      >>> y.shape, h_n.shape
      (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))
      >>> module.state_dict().keys() == torch.nn.LSTM(3, 5).state_dict().keys()
      True
    """

    num_gates = 4

    def forward(self, x: Any, hx: State | None = None, lengths: Lengths = None) -> tuple[Any, State]:
        """Run all layers.

        R is the number of layers times directions. P is `proj_size`, or H without a projection.

        Args:
          x: `[T, B, D]` (`[B, T, D]` with `batch_first`), `[T, D]`, or a PackedSequence.
          hx: (h_0, c_0) of `[R, B, P]` and `[R, B, H]`. None means zeros.
          lengths: int `[B]` from 0 to T, in any order. None means T.

        Returns:
          y, of the same kind as x with P features per direction, and (h_n, c_n).

        Raises:
          TypeError: `hx` is not a tuple of tensors.
          ValueError: `x`, `hx` or `lengths` has the wrong shape or range. The message names it.

        Examples:
          >>> import torch
          >>> import torch_ref
          >>> y, (h_n, c_n) = torch_ref.LSTM(3, 5)(torch.zeros(7, 2, 3), lengths=[7, 4])
          >>> y.shape, bool((y[4:, 1] == 0).all())
          (torch.Size([7, 2, 5]), True)
        """
        return self._run(x, hx, lengths)

    def _step(self) -> Step:
        return lstm_step

    def _widths(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size


class RNN(Recurrent):
    """An Elman RNN in a plain loop, with the arguments, parameters and results of torch.nn.RNN.

    Besides a PackedSequence, `forward` accepts the `lengths` of rows. Dropout is drawn by
    torch.nn.functional.dropout, so that its masks differ from those inside torch.nn.RNN.

    Args:
      input_size: D, the width of x.
      hidden_size: H, the width of the states.
      num_layers: the number of layers.
      nonlinearity: "tanh" or "relu".
      bias: whether there are biases, two per layer and direction.
      batch_first: whether x and y are `[B, T, ...]`. Otherwise they are `[T, B, ...]`.
      dropout: the probability of dropout between layers in train mode.
      bidirectional: whether each layer has two directions.
      device: the device of the parameters.
      dtype: the dtype of the parameters.

    Raises:
      ValueError: a size or `dropout` is out of range, or `nonlinearity` is unknown.

    Examples:
      >>> import torch
      >>> import torch_ref
      >>> y, h_n = torch_ref.RNN(3, 5, nonlinearity="relu")(torch.zeros(7, 2, 3))
      >>> y.shape, h_n.shape
      (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]))
    """

    num_gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}.")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )
        self.nonlinearity = nonlinearity

    def forward(self, x: Any, hx: Tensor | None = None, lengths: Lengths = None) -> tuple[Any, Tensor]:
        """Run all layers.

        R is the number of layers times directions.

        Args:
          x: `[T, B, D]` (`[B, T, D]` with `batch_first`), `[T, D]`, or a PackedSequence.
          hx: h_0 `[R, B, H]`. None means zeros.
          lengths: int `[B]` from 0 to T, in any order. None means T.

        Returns:
          y, of the same kind as x with H features per direction, and h_n `[R, B, H]`.

        Raises:
          TypeError: `hx` is not a tensor.
          ValueError: `x`, `hx` or `lengths` has the wrong shape or range. The message names it.

        Examples:
          >>> import torch
          >>> import torch_ref
          >>> y, h_n = torch_ref.RNN(3, 5)(torch.zeros(7, 2, 3), lengths=[7, 4])
          >>> y.shape, bool((y[4:, 1] == 0).all())
          (torch.Size([7, 2, 5]), True)
        """
        y, (h,) = self._run(x, None if hx is None else (hx,), lengths)
        return y, h

    def _step(self) -> Step:
        return rnn_tanh_step if self.nonlinearity == "tanh" else rnn_relu_step

    def _widths(self) -> tuple[int, ...]:
        return (self.hidden_size,)
