"""The forms of the compiled loops that differ between platforms, and their choice when a program is lowered.

Why when it is lowered: a program that is traced or exported on a CPU host may be for a TPU. JAX knows the platform and
the number of devices only when it lowers. While tracing, jax.default_backend and jax.device_count would answer for the
host.

`RULES` is the table of the differences. Everything else is one program for all platforms. The figures beside the rules
of TPU and GPU are those of their compilers. `python -m benchmarks.accelerators` prints them for the rules as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

from jax_lstm._src.arrays import Array
from jax_lstm._src.blocks import are_known, near_divisor

OTHER = "other"  # every platform that has no rule of its own: GPUs


class LoopForm(NamedTuple):
    """How a loop over time is written.

    steps: steps of one block, see `blocks`.
    gates_apart: each gate is one array inside a block. Otherwise the loop reads and writes all gates as one array.
    rewrites_sums: if the gates are kept, all inputs are projected before the loop, and the gates are written over these
      sums. Otherwise the inputs are projected block by block.
    """

    steps: int
    gates_apart: bool
    rewrites_sums: bool


class Rule(NamedTuple):
    """The parameters of a platform's loops.

    block_bytes: the largest size of the gate sums of one block.
    fewest_blocks: the smallest number of blocks of a long sequence. The memory of one block is then small beside the
      memory of the sequence.
    gates_apart, rewrites_sums: see `LoopForm`.
    sums_weight_gradients: on one device, a weight gradient is summed over blocks of steps. Otherwise it is one product.
    """

    block_bytes: int
    fewest_blocks: int
    gates_apart: bool
    rewrites_sums: bool
    sums_weight_gradients: bool


RULES = {
    # The gate sums of a block fit into the L2 cache of one core. Measured with JAX 0.10 on two cores, a training step
    # of 1000,1,128,128 in float32: 11.6 ms. It takes 13.1 ms if the inputs are projected block by block.
    "cpu": Rule(2**20, 16, gates_apart=False, rewrites_sums=True, sums_weight_gradients=True),
    # The arrays of a block fit into VMEM. libtpu 0.0.50 estimates, v5e, T,B,D,H = 1024,128,512,512 in float32, a
    # training step: 84.6 million cycles. With blocks of 64 MiB it is 88.8 million, with 8 MiB 88.0, with gates in one
    # array 91.8, and with sums of weight gradients 93.8. The instructions that it schedules order them alike.
    "tpu": Rule(2**25, 4, gates_apart=True, rewrites_sums=False, sums_weight_gradients=False),
    # XLA of JAX 0.12 for an H100, at the same sizes: a forward pass needs 68 MB beside its arguments and results, and
    # 2147 MB without blocks; a training step 1880 MB and 2953 MB. A step of its two loops runs 10 kernels, and 16 with
    # the gates apart.
    OTHER: Rule(2**25, 4, gates_apart=False, rewrites_sums=False, sums_weight_gradients=False),
}

# The smallest number of steps of one block. Measured with JAX 0.10 on two CPU cores, a training step of T,B,D,H =
# 128,32,128,256 in float32: 81 ms. It takes 93 ms with SHORTEST = 1, which pays for the loop over blocks, and 100 ms
# with 64.
SHORTEST = 8


def loop_forms(steps: int, sums: tuple[int, ...]) -> dict[str, LoopForm]:
    """Return the form per platform of a loop over ``steps``, if the gate sums of one step have shape ``sums``.

    The whole sequence is one block if a size is symbolic, as under jax.export.
    """
    return {
        platform: LoopForm(block_steps(rule, steps, sums), rule.gates_apart, rule.rewrites_sums)
        for platform, rule in RULES.items()
    }


def block_steps(rule: Rule, steps: int, sums: tuple[int, ...]) -> int:
    """Return the number of steps of a block."""
    if not are_known(steps, *sums):
        return steps
    wanted = min(rule.block_bytes // max(4 * math.prod(sums), 1), steps // rule.fewest_blocks)
    return near_divisor(steps, max(wanted, SHORTEST))


def per_platform(run: Callable[..., Any], forms: Mapping[str, Hashable], *args: Any) -> Any:
    """Return ``run(form, *args)``, with the form of the platform that the program is lowered for.

    Args:
      run: the function. It is traced once per different form.
      forms: the forms by the names in `RULES`.
      *args: trees of arrays.
    """
    default = partial(run, forms[OTHER])
    differing = {name: partial(run, form) for name, form in forms.items() if form != forms[OTHER]}
    return jax.lax.platform_dependent(*args, default=default, **differing) if differing else default(*args)


def is_for_one_device() -> Array:
    """Return whether the program is lowered for one device, as a constant of the lowered program."""
    one: Array = one_device_p.bind()
    return one


one_device_p: Any = Primitive("lowered_for_one_device")


@one_device_p.def_impl  # type: ignore[untyped-decorator]
def _without_jit() -> Array:
    return jnp.array(True)


@one_device_p.def_abstract_eval  # type: ignore[untyped-decorator]
def _type() -> jax.core.ShapedArray:
    return jax.core.ShapedArray((), jnp.bool_)


def _lower(ctx: Any) -> Any:
    # Under shard_map the context is a mesh, and has no number of devices.
    one = getattr(ctx.module_context.axis_context, "num_devices", None) == 1
    return mlir.lower_fun(lambda: jnp.array(one), multiple_results=False)(ctx)


mlir.register_lowering(one_device_p, _lower)
