"""torch.nn.LSTM: oneDNN or native kernels on a CPU, cuDNN on a GPU; lengths by its packing."""

from __future__ import annotations

import torch

from benchmarks.implementation import Implementation, Ready
from benchmarks.torch_program import ready_torch, torch_device
from benchmarks.work import Work, torch_lstm, torch_outputs


def ready(work: Work) -> Ready:
    module = torch_lstm(work, torch_device(), getattr(torch, work.dtype))
    lengths = None if work.lengths is None else torch.from_numpy(work.lengths)  # on the CPU, where packing wants them
    return ready_torch(work, module, lambda x: torch_outputs(module, x, lengths))


def implementations() -> tuple[Implementation, ...]:
    return (Implementation("torch.nn.LSTM", "torch", "with oneDNN on a CPU, with cuDNN on a GPU", ready),)
