"""A torch function as an implementation, on the GPU if JAX's default device is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import torch

from benchmarks.implementation import Ready
from benchmarks.work import Work, torch_module, training_results
from crosscheck.core.problem import Results
from crosscheck.libraries import NotSupported


def torch_device() -> str:
    """Return torch's name of the device that JAX runs on.

    Raises:
      NotSupported: torch does not run on it.
    """
    platform = jax.devices()[0].platform
    if platform == "cpu":
        return "cpu"
    if platform == "gpu" and torch.cuda.is_available():
        return "cuda"
    raise NotSupported(f"JAX runs on {platform} here, and this torch only on the CPU")


def ready_torch(
    work: Work,
    lstm: type[torch.nn.Module],
    outputs: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor],
    *,
    compiles: bool = False,
) -> Ready:
    """Make ``outputs(module, x) -> y`` ready. One call selects the kernels.

    The memory on a GPU is measured in a second call: the allocator's peak minus its use before the call. It includes
    the results.

    Args:
      work: the work.
      lstm: the class of the module. It has torch.nn.LSTM's constructor.
      outputs: runs the module, which is on the device and has the work's weights and dtype.
      compiles: the first call compiles, and its time is the time to compile.
    """
    device, dtype = torch_device(), getattr(torch, work.dtype)
    module = torch_module(work, device, dtype, lstm)
    x = torch.from_numpy(work.x).to(device, dtype).requires_grad_(work.kind == "training")
    cotangent = torch.from_numpy(work.cotangent).to(device, dtype)
    names, parameters = zip(*module.named_parameters(), strict=True)

    def call() -> tuple[torch.Tensor, ...]:
        if work.kind == "forward":
            with torch.inference_mode():
                returned: tuple[torch.Tensor, ...] = (outputs(module, x),)
        else:
            loss = (outputs(module, x) * cotangent).sum()
            returned = (loss.detach(), *torch.autograd.grad(loss, (x, *parameters)))
        if device == "cuda":
            torch.cuda.synchronize()
        return returned

    def read(returned: Any) -> Results:
        quantities = ["y"] if work.kind == "forward" else training_results(names)
        return {quantity: a.float().cpu().numpy() for quantity, a in zip(quantities, returned, strict=True)}

    started = time.perf_counter()
    call()
    seconds = time.perf_counter() - started
    return Ready(call, read, seconds if compiles else None, _peak(call) if device == "cuda" else None)


def _peak(call: Callable[[], Any]) -> int:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() - before
