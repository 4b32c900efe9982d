"""torch_ref with its step compiled by torch.compile. The loop stays in Python: compiled whole, it would be unrolled."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

import torch

from benchmarks.implementation import Implementation, Missing, Ready
from benchmarks.torch_program import ready_torch, torch_device
from benchmarks.work import Work
from jax_lstm._src.files import unfinished
from torch_ref import LSTM
from torch_ref.cell import lstm_step

MOST_STEPS = 1_000


def ready(work: Work) -> Ready:
    if work.shape.steps > MOST_STEPS:
        raise Missing(f"a loop in Python, left out above {MOST_STEPS:,} steps")
    from torch._inductor import config, utils  # slow to import

    torch.compiler.reset()  # after eight shapes of one step torch would compile no more, and run it as plain Python
    device = torch_device()
    step = torch.compile(lstm_step, dynamic=False)

    class Compiled(LSTM):
        def _step(self):
            return step

    _, _, inputs, hidden = work.shape
    module = Compiled(inputs, hidden, work.layers, bidirectional=work.bidirectional, proj_size=work.proj_size)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in work.weights.items()})
    module.to(device, getattr(torch, work.dtype))
    lengths = None if work.lengths is None else torch.from_numpy(work.lengths)
    try:
        with (
            config.patch(compile_threads=1),  # no pool of compilers that lives on beside the clock
            unfinished(Path(mkdtemp())) as folder,  # torch leaves its files there if it fails
            utils.fresh_inductor_cache(dir=str(folder)),  # a program of an earlier run would make the time too short
        ):
            return ready_torch(work, module, lambda x: module(x, None, lengths)[0], compiles=True)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise Missing(f"torch.compile failed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What the compiler said. Torch's first line may name only the backend."""
    first, *rest = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{first} {rest[0]}" if first.endswith(":") and rest else first


def implementations() -> tuple[Implementation, ...]:
    return (Implementation("torch.compile", "torch", "torch_ref, its step compiled, the loop in Python", ready),)
