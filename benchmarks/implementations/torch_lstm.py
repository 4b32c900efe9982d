"""torch.nn.LSTM, and torch_ref with a step that torch.compile compiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from benchmarks.implementation import Ready, TimedImplementation
from benchmarks.torch_program import ready_torch
from benchmarks.work import Work, torch_outputs
from crosscheck.libraries import NotSupported
from jax_lstm._src.files import unfinished
from torch_ref import LSTM
from torch_ref.cell import lstm_step

MOST_STEPS = 1_000  # the loop stays in Python: compiled as a whole it would be unrolled


def _ready(work: Work) -> Ready:
    return ready_torch(work, torch.nn.LSTM, partial(torch_outputs, work))


def _ready_compiled(work: Work) -> Ready:
    if work.shape.steps > MOST_STEPS:
        raise NotSupported(f"a loop in Python, left out above {MOST_STEPS:,} steps")
    from torch._inductor import config, utils  # slow to import

    torch.compiler.reset()  # after eight shapes of one step torch would stop compiling, and run it as plain Python
    step = torch.compile(lstm_step, dynamic=False)

    class Compiled(LSTM):
        def _step(self) -> Callable[..., Any]:
            return step

    try:
        with (
            config.patch(compile_threads=1),  # no pool of compiler processes that still runs during the timing
            unfinished(Path(mkdtemp())) as folder,  # torch leaves its files there if it fails
            utils.fresh_inductor_cache(dir=str(folder)),  # a program of an earlier run would make the time too short
        ):
            return ready_torch(work, Compiled, lambda module, x: module(x, None, work.lengths)[0], compiles=True)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise NotSupported(f"torch.compile failed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what the compiler said. Torch's first line may name only the backend."""
    first, *rest = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{first} {rest[0]}" if first.endswith(":") and rest else first


IMPLEMENTATIONS = (
    TimedImplementation("torch.nn.LSTM", "torch", "with oneDNN on a CPU, with cuDNN on a GPU", _ready),
    TimedImplementation("torch.compile", "torch", "torch_ref, its step compiled, the loop in Python", _ready_compiled),
)
