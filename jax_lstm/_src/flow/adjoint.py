"""dL/dh_t and dL/dc_t for every t, and which part of dL/dc_t came along c only.

The loop runs back in time. It carries dL/ds_t with h_t and c_t as independent variables, which J^T maps one step back,
and the two parts of the total dL/dc_t. Each has its own running power of two, since the parts fall at different rates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, Gates, Precision
from jax_lstm._src.cell import Cell
from jax_lstm._src.flow.jacobian import Recurrent, backward, cell_factors
from jax_lstm._src.flow.scaled import Scaled, log2_norm, plus, scaled
from jax_lstm._src.state import LSTMState


class Adjoint(NamedTuple):
    """log2 of norms, each ``[T + 1]``, as `jax_lstm.GradientFlow` defines them; None if an RNN has none."""

    dh: Array
    dc: Array | None
    along_c: Array | None
    through_h: Array | None


class _Carry(NamedTuple):
    ds: Scaled  # [n]
    along_c: Scaled | None  # [H]
    through_h: Scaled | None  # [H]


def run_back(
    cell: Cell, weights: Recurrent, coefficients: Gates, dy: Array, dlast: LSTMState, precision: Precision = None
) -> Adjoint:
    """Return the norms for one row of a batch.

    Args:
      cell, weights: the network.
      coefficients: from `Cell.slopes`, ``[T, H]`` each.
      dy: the cotangent of y, ``[T, H]``.
      dlast: the cotangent of the last state, ``[H]`` each.
      precision: of every product.
    """
    slope = cell_factors(coefficients).output_slope if cell.has_cell_state else None
    dh_last = dy[-1] + dlast.h
    if slope is None:
        last = _Carry(scaled(dh_last), None, None)
    else:
        along = scaled(dlast.c + slope[-1] * dh_last)
        last = _Carry(scaled(jnp.concatenate((dh_last, dlast.c))), along, scaled(jnp.zeros_like(dh_last)))
    at_last = _norms(last, None if slope is None else slope[-1])

    def step(carry: _Carry, inputs: tuple[Gates, Array, Any]) -> tuple[_Carry, Adjoint]:
        coefficients, dy, slope = inputs
        back = Scaled(backward(cell, weights, coefficients, carry.ds.value, precision), carry.ds.power)
        wide = jnp.zeros_like(back.value).at[: dy.shape[0]].set(dy)
        ds = plus(scaled(*back), scaled(wide))
        if slope is None:
            after = _Carry(ds, None, None)
        else:
            assert carry.along_c is not None
            assert carry.through_h is not None
            forget = cell_factors(coefficients).forget
            along = plus(scaled(forget * carry.along_c.value, carry.along_c.power), scaled(slope * dy))
            through = scaled(forget * carry.through_h.value, carry.through_h.power)
            returned = scaled(slope * back.value[: dy.shape[0]], back.power)
            after = _Carry(ds, along, plus(through, returned))
        return after, _norms(after, slope)

    earlier = (coefficients, _one_earlier(dy), None if slope is None else _one_earlier(slope))
    _, norms = jax.lax.scan(step, last, earlier, reverse=True)
    all_norms: Adjoint = jax.tree.map(lambda a, b: jnp.append(a, b), norms, at_last)
    return all_norms


def _norms(carry: _Carry, slope: Array | None) -> Adjoint:
    ds = carry.ds
    if slope is None or carry.along_c is None or carry.through_h is None:
        return Adjoint(log2_norm(ds), None, None, None)
    dh, dc = jnp.split(ds.value, 2)
    total = scaled(dc + slope * dh, ds.power)
    return Adjoint(
        log2_norm(scaled(dh, ds.power)), log2_norm(total), log2_norm(carry.along_c), log2_norm(carry.through_h)
    )


def _one_earlier(a: Array) -> Array:
    """Return a_{t-1} for every step t. It is zero before the first step, which has no output and no slope."""
    return jnp.concatenate((jnp.zeros_like(a[:1]), a[:-1]))
