"""A torch function as an implementation, on the GPU where JAX's default device is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import torch

from benchmarks.implementation import Missing, Ready
from benchmarks.work import Work


def torch_device() -> str:
    """The device beside JAX's. Raises Missing where torch has none such."""
    platform = jax.devices()[0].platform
    if platform == "cpu":
        return "cpu"
    if platform == "gpu" and torch.cuda.is_available():
        return "cuda"
    raise Missing(f"JAX runs on {platform} here, and this torch on the CPU alone")


def ready_torch(
    work: Work, module: torch.nn.Module, outputs: Callable[[torch.Tensor], torch.Tensor], *, compiles: bool = False
) -> Ready:
    """``outputs(x) -> y`` on the module's parameters; both already on the device and in the work's dtype.

    The first call, which picks kernels and, where it ``compiles``, compiles, is made here. Memory: on a GPU the peak of
    the allocator in a second call above what was there before it, results included.
    """
    device, dtype = torch_device(), getattr(torch, work.dtype)
    x = torch.from_numpy(work.x).to(device, dtype).requires_grad_(work.kind == "training")
    cotangent = torch.from_numpy(work.cotangent).to(device, dtype)
    names, parameters = zip(*module.named_parameters(), strict=True)

    def call():
        if work.kind == "forward":
            with torch.inference_mode():
                returned = (outputs(x),)
        else:
            loss = (outputs(x) * cotangent).sum()
            returned = (loss.detach(), *torch.autograd.grad(loss, (x, *parameters)))
        if device == "cuda":
            torch.cuda.synchronize()
        return returned

    def read(returned):
        training = ("loss", "grad x", *(f"grad {name}" for name in names))
        labels = ("y",) if work.kind == "forward" else training
        return {name: a.float().cpu().numpy() for name, a in zip(labels, returned, strict=True)}

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
