"""How much of a TPU's vector memory (VMEM) a kernel needs, and how many steps one of its blocks may have.

A TPU computes on tiles of 128 lanes by 8 rows of 32 bits. A kernel only sees arrays of whole tiles.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import DType, DTypeLike
from jax_lstm._src.network import Network

LANES = 128
MIB = 2**20
# The smallest VMEM of v5e, v6e, v5p and tpu7x is 64 MiB.
VMEM_BYTES = 60 * MIB
# The largest size of the arrays of one block, unless one step needs more. The rest is for weights.
BLOCK_BYTES = 24 * MIB
# The compiler needs room of its own, such as for the results of a product: a quarter of the arrays, plus this.
OWN_BYTES = 4 * MIB


class Tiles(NamedTuple):
    """Sizes that are rounded up to whole tiles."""

    batch: int
    inputs: int
    hidden: int


class Memory(NamedTuple):
    """Bytes of VMEM: for what lies there during the whole call, and for one step of a block.

    An array that is read from or written to the main memory counts twice, since one block is moved while another is
    computed.
    """

    fixed: int
    per_step: int

    def limit(self, steps: int) -> int:
        """Return the bytes that the compiler may use, with blocks of ``steps``."""
        return (self.fixed + steps * self.per_step) * 5 // 4 + OWN_BYTES

    @property
    def most_steps(self) -> int:
        """Return the longest block that fits; 0 if one step does not."""
        room = (VMEM_BYTES - OWN_BYTES) * 4 // 5 - self.fixed
        return min(room, max(BLOCK_BYTES, self.per_step)) // self.per_step


def tiles_of(batch: int, inputs: int, hidden: int, dtype: DTypeLike) -> Tiles:
    """Return the sizes in whole tiles, for arrays of ``dtype``, float32 or bfloat16."""
    rows = 8 * 4 // jnp.dtype(dtype).itemsize
    return Tiles(round_up(batch, rows), round_up(inputs, LANES), round_up(hidden, LANES))


def operand_dtype(dtype: DTypeLike, precision: jax.lax.Precision) -> DType:
    """Return the dtype in which weights lie in VMEM.

    A TPU's default precision is one pass of bfloat16 factors, so that the weights may be rounded before the loop.
    """
    return jnp.dtype(jnp.bfloat16 if precision is jax.lax.Precision.DEFAULT else dtype)


def product_precision(dtype: DTypeLike, precision: jax.lax.Precision) -> jax.lax.Precision:
    """Return the precision of the products in a kernel.

    bfloat16 factors are exact, and TPU's compiler refuses any other precision for them. It is never None, since None
    would stand for the jax_default_matmul_precision of the moment in which the program is lowered.
    """
    return jax.lax.Precision.DEFAULT if jnp.dtype(dtype) == jnp.bfloat16 else precision


def forward_memory(tiles: Tiles, gates: int, dtype: DType, operand: DType, path: bool) -> Memory:
    """Return what the forward kernel needs. ``path``: c_before and the gates are kept for the backward pass."""
    batch, inputs, hidden = tiles
    fixed = (inputs + hidden) * gates * hidden * operand.itemsize  # weights
    fixed += 4 * 8 * gates * hidden + 4 * 6 * batch * hidden  # the bias; h and c before, during and after the loop
    moved = (inputs + hidden) * dtype.itemsize  # x and h
    if path:
        moved += 4 * hidden + gates * hidden * dtype.itemsize
    return Memory(fixed, batch * (2 * moved + 4 * gates * hidden))  # the gate sums of a block stay in VMEM


def backward_memory(tiles: Tiles, gates: int, dtype: DType, operand: DType) -> Memory:
    """Return what the backward kernel needs."""
    batch, _, hidden = tiles
    fixed = hidden * gates * hidden * operand.itemsize  # weight_hh
    fixed += batch * hidden * (4 * 6 + gates * operand.itemsize)  # cotangents of h and c, and of one step's gate sums
    moved = (hidden + 2 * gates * hidden) * dtype.itemsize + 4 * hidden  # of h, gates and their sums, c_before
    return Memory(fixed, batch * 2 * moved)


def missing_memory(network: Network, batch: int, dtype: DType, precision: jax.lax.Precision) -> tuple[int, int] | None:
    """Return the VMEM that a training step needs and the VMEM of a TPU, in MiB; None if every layer fits."""
    operand, gates = operand_dtype(dtype, precision), network.num_gates
    needed = 0
    for layer in range(network.num_layers):
        tiles = tiles_of(batch, network.input_size_of(layer), network.hidden_size, dtype)
        for memory in (
            forward_memory(tiles, gates, dtype, operand, path=True),
            backward_memory(tiles, gates, dtype, operand),
        ):
            if memory.most_steps < 1:
                needed = max(needed, memory.limit(1))
    return (math.ceil(needed / MIB), VMEM_BYTES // MIB) if needed else None


def block_steps(steps: int, most: int, unroll: int) -> int:
    """Return the length of a block: if possible a divisor of ``steps``, of at least half of ``most``.

    Only a divisor that is a multiple of ``unroll`` counts. Without one, the last block is shorter than the others.
    """
    most = min(steps, most)
    good = [n for n in range(max(1, most // 2), most + 1) if steps % n == 0 and n % min(unroll, steps) == 0]
    return max(good, default=most)


def round_up(n: int, multiple: int) -> int:
    """Return the smallest multiple that is not below ``n``."""
    return -(-n // multiple) * multiple
