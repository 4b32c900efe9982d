"""What an LSTM and an RNN have in common: parameters, checks, packing, lengths, and the loop over layers."""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from torch_ref.cell import State, Step, Weights
from torch_ref.loop import run

Lengths: TypeAlias = Any  # integers [*batch], as torch.as_tensor reads them


class Recurrent(nn.Module):
    """Layers and directions of a cell over a sequence. A subclass has the cell, and the widths of its states."""

    num_gates: ClassVar[int]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"dropout must be a probability from 0 to 1; got {dropout}.")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"proj_size must be 0 or smaller than hidden_size = {hidden_size}; got {proj_size}.")
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(f"sizes and num_layers must be at least 1; got {(input_size, hidden_size, num_layers)}.")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.proj_size = bidirectional, proj_size
        rows, out = self.num_gates * hidden_size, proj_size or hidden_size
        for layer, suffix in self._rows():
            wide = input_size if layer == 0 else out * len(self._suffixes())
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, wide), "weight_hh": (rows, out)}
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if proj_size:
                shapes["weight_hr"] = (proj_size, hidden_size)
            for name, shape in shapes.items():
                empty = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                self.register_parameter(f"{name}_l{layer}{suffix}", empty)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(±1/√H), as torch.nn does."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """Return the sizes, for repr."""
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bidirectional={self.bidirectional}"
        )

    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _rows(self) -> list[tuple[int, str]]:
        return [(layer, suffix) for layer in range(self.num_layers) for suffix in self._suffixes()]

    def _weights(self, layer: int, suffix: str) -> Weights:
        entries: dict[str, Any] = {name: getattr(self, f"{name}_l{layer}{suffix}", None) for name in Weights._fields}
        return Weights(**entries)

    def _widths(self) -> tuple[int, ...]:
        """Return the widths of the states that a cell carries, h first."""
        raise NotImplementedError

    def _step(self) -> Step:
        raise NotImplementedError

    def _run(self, x: Any, state: State | None, lengths: Lengths) -> tuple[Any, State]:
        if isinstance(x, PackedSequence):
            return self._run_packed(x, state)
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(f"x must be 2-D or 3-D with {self.input_size} features; got shape {tuple(x.shape)}.")
        batched = x.dim() == 3
        steps = x.transpose(0, 1) if batched and self.batch_first else x
        if steps.shape[0] == 0:
            raise ValueError(f"x must have at least one step; got shape {tuple(x.shape)}.")
        batch = steps.shape[1:-1]
        state = self._check_state(state, batch, steps)
        valid = None if lengths is None else self._valid(lengths, steps.shape[0], batch)
        if valid is not None:
            steps = torch.where(valid, steps, torch.zeros_like(steps))
        lasts: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                steps = dropout(steps, self.dropout, self.training)
            outputs = []
            for suffix in self._suffixes():
                first = tuple(part[len(lasts)] for part in state)
                output, last = self._run_row(layer, suffix, steps, first, valid)
                lasts.append(last)
                outputs.append(output)
            steps = torch.cat(outputs, dim=-1)
        y = steps.transpose(0, 1) if batched and self.batch_first else steps
        return y, tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))

    def _run_row(self, layer: int, suffix: str, x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        """Run one layer in one direction by `torch_ref.loop.run`. A subclass may run it in another way."""
        return run(self._step(), self._weights(layer, suffix), x, state, valid, bool(suffix))

    def _run_packed(self, packed: PackedSequence, state: State | None) -> tuple[PackedSequence, State]:
        x, lengths = pad_packed_sequence(packed, batch_first=self.batch_first)
        y, last = self._run(x, state, lengths)
        order = packed.sorted_indices
        if order is not None:  # the order of the packed input: another sort may order rows of one length differently
            y, lengths = y.index_select(0 if self.batch_first else 1, order), lengths[order.cpu()]
        data, batch_sizes, _, _ = pack_padded_sequence(y, lengths, self.batch_first)
        return PackedSequence(data, batch_sizes, order, packed.unsorted_indices), last

    def _check_state(self, state: State | None, batch: tuple[int, ...], like: Tensor) -> State:
        shapes = [(len(self._rows()), *batch, width) for width in self._widths()]
        if state is None:
            return tuple(like.new_zeros(shape) for shape in shapes)
        if not isinstance(state, tuple) or not all(isinstance(part, Tensor) for part in state):
            wanted = "(h_0, c_0), a tuple of tensors" if len(shapes) == 2 else "h_0, a tensor"
            kinds = ", ".join(type(part).__name__ for part in (state if isinstance(state, tuple) else (state,)))
            raise TypeError(f"hx must be {wanted}; got {kinds}.")
        if len(state) != len(shapes):
            raise ValueError(f"hx must hold {len(shapes)} tensors; got {len(state)}.")
        for name, part, shape in zip("hc", state, shapes, strict=False):
            if tuple(part.shape) != shape:
                raise ValueError(f"{name} must have shape {shape}; got {tuple(part.shape)}.")
        return state

    def _valid(self, lengths: Lengths, steps: int, batch: tuple[int, ...]) -> Tensor:
        lengths = torch.as_tensor(lengths)
        if tuple(lengths.shape) != tuple(batch) or lengths.is_floating_point():
            raise ValueError(f"lengths must be integers of shape {tuple(batch)}; got {lengths}.")
        if bool(((lengths < 0) | (lengths > steps)).any()):
            raise ValueError(f"lengths must lie between 0 and T = {steps}; got {lengths.tolist()}.")
        time = torch.arange(steps).reshape(steps, *(1,) * len(batch))
        valid: Tensor = time < lengths.cpu()
        return valid.unsqueeze(-1).to(next(self.parameters()).device)
