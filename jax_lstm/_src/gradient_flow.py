"""How gradients flow back through time: their norms per step, and the singular values that bound them.

With s_t = h_t for an RNN and s_t = (h_t, c_t) for an LSTM, let J_t = ds_t / ds_{t-1} and P_t = ds_T / ds_t =
J_T ... J_{t+1}. The gradient at step t is P_t^T times the gradient at step T. The ratio of their norms lies between the
smallest and the largest singular value of P_t (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013). No J_t is
formed. The adjoint, P_t and P_t^-1 are each carried back with a running power of two, so that float32 can represent a
norm of 1e-1000 too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm._src.arrays import Array, ArrayLike, DType, Gates, Params, Precision
from jax_lstm._src.cell import LSTM, Cell
from jax_lstm._src.checks import require_floating
from jax_lstm._src.dtypes import accumulation_dtype, compute_dtype
from jax_lstm._src.elman import Nonlinearity, cell_of
from jax_lstm._src.flow.adjoint import Adjoint, run_back
from jax_lstm._src.flow.jacobian import Recurrent, recurrent
from jax_lstm._src.flow.spectra import product_spectra, step_spectra
from jax_lstm._src.network import Network, read_kind, read_network
from jax_lstm._src.options import Options, hashable
from jax_lstm._src.single_step import gate_sums
from jax_lstm._src.stack import run_stack
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import split_gates


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Norms and singular values as binary logarithms. ``-inf`` is a true zero, and NaN a value that was not found.

    `jax_lstm.gradient_flow` returns it. With ``s_t = h_t`` for an RNN and ``s_t = (h_t, c_t)`` for an LSTM, ``J_t =
    ds_t / ds_{t-1}`` is the Jacobian of one step, and ``P_t = ds_T / ds_t = J_T ... J_{t+1}`` that of all steps after
    t.

    The gradient ``dL/dc_t = a_t + b_t`` has two parts. ``a_t`` is what came along c only, without passing W_hh. ``b_t``
    is what passed W_hh at least once. With the slope ``q_k = o_k ∘ (1 - tanh(c_k)²)``, ``q_0 = 0``, and the direct
    derivatives ``y*_k = ∂L/∂h_k`` and ``c* = ∂L/∂c_T`` (those that do not pass through a later step), ``a_t = Σ_{k≥t}
    (f_{t+1} ∘ ... ∘ f_k) ∘ q_k ∘ y*_k``, plus ``c*`` times all of ``f_{t+1} ... f_T``.

    A field is None if it was not requested, or if it is about c and the network is an RNN. The relative error of the
    smallest singular value of J_t is about eps times the condition number of J_t.

    Attributes:
      log2_dh: ``[*batch, T + 1]``, of ‖dL/dh_t‖ for t = 0 ... T. It is a total derivative, as in autograd.
      log2_dc: ``[*batch, T + 1]``, of ‖dL/dc_t‖. It is a total derivative: it includes what passes through h_t.
      log2_along_c: ``[*batch, T + 1]``, of ‖a_t‖.
      log2_through_h: ``[*batch, T + 1]``, of ‖b_t‖.
      log2_step_max: ``[*batch, T]``, of the largest singular value of J_1 ... J_T. It is the norm of J_t.
      log2_step_min: ``[*batch, T]``, of the smallest singular value of J_1 ... J_T.
      log2_product_max: ``[*batch, T + 1]``, of the largest singular value of P_0 ... P_T. P_T is the identity.
      log2_product_min: ``[*batch, T + 1]``, of the smallest singular value of P_0 ... P_T.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16)
      >>> flow = jax_lstm.gradient_flow(params, jnp.ones((4, 10, 8)), products=False)
      >>> flow.log2_dh.shape, flow.log2_step_max.shape, flow.log2_product_max
      ((4, 11), (4, 10), None)
    """

    log2_dh: Array
    log2_dc: Array | None
    log2_along_c: Array | None
    log2_through_h: Array | None
    log2_step_max: Array | None
    log2_step_min: Array | None
    log2_product_max: Array | None
    log2_product_min: Array | None

    @property
    def share_along_c(self) -> Array:
        """Return ‖a_t‖ / (‖a_t‖ + ‖b_t‖), ``[*batch, T + 1]``: 1 if all came along c only, 0 if all of it passed W_hh.

        The parts may cancel, so that their norms need not add up to ‖dL/dc_t‖. It is NaN if both are zero.

        Raises:
          TypeError: the network is an RNN, which has no c.

        Examples:
          >>> import jax, jax.numpy as jnp
          >>> import jax_lstm
          >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16)
          >>> x = jnp.ones((4, 10, 8))
          >>> flow = jax_lstm.gradient_flow(params, x, jacobians=False, products=False)
          >>> share = flow.share_along_c
          >>> share.shape, bool(((share >= 0) & (share <= 1)).all())
          ((4, 11), True)
        """
        if self.log2_through_h is None or self.log2_along_c is None:
            raise TypeError("share_along_c is about the cell state, and an RNN has none. Use log2_dh.")
        return 1 / (1 + jnp.exp2(self.log2_through_h - self.log2_along_c))


def gradient_flow(
    params: Params,
    x: ArrayLike,
    state: LSTMState | ArrayLike | None = None,
    *,
    dy: ArrayLike | None = None,
    dstate: LSTMState | ArrayLike | None = None,
    key: Array | None = None,
    nonlinearity: Nonlinearity = "tanh",
    jacobians: bool = True,
    products: bool = True,
    precision: Precision = None,
) -> GradientFlow:
    """Return gradient norms and singular values per time step, for one layer in one direction.

    The gradients are the derivatives of L = Σ dy ∘ y + Σ dstate ∘ (last state) by every state, separately for each row
    of the batch. J_t and P_t are the Jacobians that `jax_lstm.GradientFlow` defines.

    Args:
      params: a state dict of torch.nn.LSTM or torch.nn.RNN as arrays. Its shapes tell which of the two it is.
      x: ``[*batch, T, D]``.
      state: the initial state, as `jax_lstm.lstm` (an LSTMState) or `jax_lstm.rnn` (h) takes it.
      dy: ``[*batch, T, H]``, the cotangent of y; None means zeros.
      dstate: the cotangent of the last state, shaped like it: LSTMState of ``[1, *batch, H]``, or only h for an RNN. If
        dy and dstate are both None, it is random normal on the last h, drawn with ``key``, and zero on c.
      key: a jax.random key for that; None means ``jax.random.key(0)``.
      nonlinearity: "tanh" or "relu", for an RNN.
      jacobians: whether to measure the singular values of the J_t.
      products: whether to measure the singular values of the P_t. This is most of the work: 2T products of ``[n, n]``
        with ``[n, n]``, where n is the width of the state, 2H for an LSTM and H for an RNN.
      precision: jax.lax.Precision of every product, or its name.

    Returns:
      A `jax_lstm.GradientFlow` in the result type of x and params, or float32 if that is narrower.

    Raises:
      ValueError: a value or a shape is wrong, or the network has several layers, a reverse direction or a projection,
        which are not supported. It is raised before any computation. The message names the argument, what is expected
        and what was given.
      TypeError: a type or a dtype is wrong. It is raised in the same way.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 8, 16)
      >>> x = jnp.ones((4, 10, 8))
      >>> flow = jax_lstm.gradient_flow(params, x, jacobians=False, products=False)
      >>> flow.log2_dh.shape  # log2 of the norm of dL/dh_t, [*batch, T + 1]
      (4, 11)
    """
    network = read_network(params, read_kind(params))
    _check_network(network)
    cell = _cell(network.kind, nonlinearity)
    require_floating("x", x, "[*batch, T, D]")
    dtype = accumulation_dtype(compute_dtype(x, params))
    params, inputs = jax.tree.map(lambda a: jnp.asarray(a, dtype), (dict(params), x))
    first = jax.tree.map(jnp.asarray, _as_state(cell, state, "state"))
    cotangents = _cotangents(cell, dy, dstate, key, (*inputs.shape[:-1], network.hidden_size), dtype)
    flow: GradientFlow = _measure(
        cell, network, jacobians, products, hashable(precision), params, inputs, first, *cotangents
    )
    return flow


@partial(jax.jit, static_argnums=range(5))
def _measure(
    cell: Cell,
    network: Network,
    jacobians: bool,
    products: bool,
    precision: Precision,
    params: dict[str, Array],
    x: Array,
    state: LSTMState | None,
    dy: Array,
    dlast: LSTMState,
) -> GradientFlow:
    """Measure all rows of the batch, compiled.

    Without jax.jit here, a call outside jax.jit would compile its loops again each time, since the step of a loop is a
    new function each time.
    """
    states = run_stack(cell, network, params, x, state, Options(precision=precision), keep="states").states
    assert states is not None
    weights = {name.removesuffix("_l0"): a for name, a in params.items()}
    batch, dtype = x.shape[:-2], x.dtype
    first = state or jax.tree.map(lambda a: jnp.zeros_like(a[..., 0, :]), states)
    before = jax.tree.map(
        lambda a, b: jnp.concatenate((jnp.asarray(a, dtype)[0, ..., None, :], b[0, ..., :-1, :]), -2), first, states
    )
    gates = cell.activate(split_gates(cell, gate_sums(weights, x, before.h, precision)))
    coefficients = cell.slopes(gates, before.c, None if states.c is None else states.c[0])
    measure = partial(_measure_row, cell, recurrent(cell, weights["weight_hh"]), jacobians, products, precision)
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[len(batch) :]), (coefficients, dy, dlast))
    flow = jax.vmap(measure)(*flat)
    batched: GradientFlow = jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), flow)
    return batched


def _measure_row(
    cell: Cell,
    weights: Recurrent,
    jacobians: bool,
    products: bool,
    precision: Precision,
    coefficients: Gates,
    dy: Array,
    dlast: LSTMState,
) -> GradientFlow:
    """Measure one row of the batch: coefficients ``[T, H]`` each, dy ``[T, H]``, dlast an LSTMState of ``[H]``."""
    adjoint: Adjoint = run_back(cell, weights, coefficients, dy, dlast, precision)
    step_max = step_min = product_max = product_min = None
    if jacobians:
        step_max, step_min = step_spectra(cell, weights, coefficients, precision)
    if products:
        product_max, product_min = product_spectra(cell, weights, coefficients, precision)
    return GradientFlow(*adjoint, step_max, step_min, product_max, product_min)


def _check_network(network: Network) -> None:
    for name, value, plain in (
        ("num_layers", network.num_layers, 1),
        ("bidirectional", network.bidirectional, False),
        ("proj_size", network.proj_size, 0),
    ):
        if value != plain:
            raise ValueError(
                f"gradient_flow measures one layer in one direction without a projection; params have {name} = "
                f"{value}. Pass the entries of one layer, renamed to _l0, with the inputs which that layer receives."
            )


def _cell(kind: str, nonlinearity: Nonlinearity) -> Cell:
    rnn = cell_of(nonlinearity)
    if kind == "lstm" and nonlinearity != "tanh":
        raise ValueError(f"nonlinearity is an option of an RNN, and params are an LSTM's; got {nonlinearity!r}.")
    return LSTM if kind == "lstm" else rnn


def _as_state(cell: Cell, state: LSTMState | ArrayLike | None, name: str) -> LSTMState | None:
    """Return a state as an LSTMState, with c = None for an RNN. None stays None."""
    if state is None:
        return None
    if cell.has_cell_state:
        if not isinstance(state, LSTMState):
            raise TypeError(f"{name} must be a jax_lstm.LSTMState or None; got {type(state).__name__}.")
        return state
    if isinstance(state, LSTMState):
        raise TypeError(f"{name} of an RNN must be only h, [1, *batch, H]; got an LSTMState.")
    return LSTMState(state, None)


def _cotangents(
    cell: Cell,
    dy: ArrayLike | None,
    dstate: LSTMState | ArrayLike | None,
    key: Array | None,
    shape: tuple[int, ...],
    dtype: DType,
) -> tuple[Array, LSTMState]:
    """Return dy ``[*batch, T, H]`` and the cotangent of the last state ``[*batch, H]``, with defaults filled in."""
    last = (*shape[:-2], shape[-1])
    given = _as_state(cell, dstate, "dstate")
    if dy is None and given is None:
        key = jax.random.key(0) if key is None else key
        given = LSTMState(jax.random.normal(key, (1, *last), dtype), None)
    wanted: dict[str, tuple[Any, tuple[int, ...]]] = {"dy": (dy, shape)}
    if given is not None:
        wanted |= {"dstate.h": (given.h, (1, *last)), "dstate.c": (given.c, (1, *last))}
    for name, (value, expected) in wanted.items():
        if value is None:
            continue
        require_floating(name, value, "shaped like y or the last state")
        if tuple(value.shape) != expected:
            raise ValueError(f"{name} must have shape {expected}; got {tuple(value.shape)}.")
    zero = jnp.zeros(last, dtype)
    parts = (None, None) if given is None else (given.h, given.c)
    dh, dc = (zero if a is None else jnp.asarray(a, dtype)[0] for a in parts)
    dy = jnp.zeros(shape, dtype) if dy is None else jnp.asarray(dy, dtype)
    return dy, LSTMState(dh, dc if cell.has_cell_state else None)
