"""torch.nn.LSTM and torch.nn.RNN.

torch's packing refuses rows of length 0. The other rows run. An empty row gets what the definition says: zero
outputs and its initial state.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crosscheck.core.torch_runner import TorchFn, call_module, run_torch
from crosscheck.libraries.implementation import Runner
from crosscheck.libraries.torch_ref import build, text_runner
from crosscheck.lstm.cases import Case, TextCase


def runner(case: Case, *, onednn: bool = True) -> Runner:
    """Return the runner. Without oneDNN it runs on torch's native CPU kernels."""
    if isinstance(case, TextCase):
        return partial(text_runner(case, torch.nn.LSTM), onednn=onednn)
    module = build(case, torch.nn.LSTM, torch.nn.RNN)
    call = call_module if case.lengths is None else _call_packed(torch.tensor(case.lengths), case.time_major)
    return partial(run_torch, module, torch_fn=call, onednn=onednn)


def run_packed(
    module: torch.nn.Module, x: torch.Tensor, states: Any, lengths: torch.Tensor, *, time_major: bool
) -> tuple[torch.Tensor, Any]:
    """Return y, zero past each row's end, and the last states. Every length must be at least 1."""
    packed, last = module(pack_padded_sequence(x, lengths, not time_major, enforce_sorted=False), states)
    y, _ = pad_packed_sequence(packed, not time_major, total_length=x.shape[0 if time_major else 1])
    return y, last


def _call_packed(lengths: torch.Tensor, time_major: bool) -> TorchFn:
    """Return a call of the module on rows of these lengths, some of which may be 0."""
    rows = lengths.nonzero().squeeze(-1)
    batch_axis = 1 if time_major else 0

    def call(module: torch.nn.Module, x: torch.Tensor, states: Any) -> tuple[torch.Tensor, Any]:
        some, states_of_some = x.index_select(batch_axis, rows), jax.tree.map(lambda a: a[:, rows], states)
        y, last = run_packed(module, some, states_of_some, lengths[rows], time_major=time_major)
        whole = x.new_zeros(*x.shape[:2], y.shape[-1]).index_copy(batch_axis, rows, y)
        return whole, jax.tree.map(lambda a, b: a.index_copy(1, rows, b), states, last)

    return call
