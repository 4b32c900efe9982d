"""torch.nn.LSTM and torch.nn.RNN themselves.

torch's packing refuses rows of length 0: the other rows run, and the empty ones get what the definition says, zero
outputs and their initial state.
"""

from __future__ import annotations

from functools import partial

import jax
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crosscheck.core.torch_runner import run_torch
from crosscheck.libraries.torch_ref import build, text_runner
from crosscheck.lstm.cases import Case, TextCase


def runner(case: Case):
    if isinstance(case, TextCase):
        return text_runner(case, torch.nn.LSTM)
    module = build(case, torch.nn.LSTM, torch.nn.RNN)
    call = run_whole if case.lengths is None else packed(torch.tensor(case.lengths), case.time_major)
    return lambda problem, dtype, **options: run_torch(module, problem, dtype, torch_fn=call, **options)


def native_runner(case: Case):
    """The same on torch's native CPU kernels, without oneDNN."""
    return partial(runner(case), onednn=False)


def run_whole(module, x, states):
    return module(x, states)


def packed(lengths: torch.Tensor, time_major: bool):
    """A call that packs rows of these lengths and pads the outputs again."""
    rows = lengths.nonzero().squeeze(-1)
    batch_axis, time_axis = (1, 0) if time_major else (0, 1)

    def call(module, x, states):
        some = x.index_select(batch_axis, rows)
        packed = pack_padded_sequence(some, lengths[rows], not time_major, enforce_sorted=False)
        y, last = module(packed, jax.tree.map(lambda a: a[:, rows], states))
        y, _ = pad_packed_sequence(y, not time_major, total_length=x.shape[time_axis])
        whole = x.new_zeros(*x.shape[:2], y.shape[-1]).index_copy(batch_axis, rows, y)
        return whole, jax.tree.map(lambda a, b: a.index_copy(1, rows, b), states, last)

    return call
