"""How gradients flow back through time: their norms at every step, and the singular values that bound them.

With s_t = h_t for an RNN and s_t = (h_t, c_t) for an LSTM, let J_t = ds_t / ds_{t-1} and P_t = ds_T / ds_t =
J_T ... J_{t+1}. A gradient at step t is P_t^T times the one at step T: as long as that one, times something between the
smallest and the largest singular value of P_t (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013). No J_t is
formed. The adjoint, P_t and P_t^-1 are each carried back with a running power of two, so that a norm of 1e-1000 is a
number in float32 too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jax_lstm._src.cell import LSTM, Cell
from jax_lstm._src.checks import require_floating
from jax_lstm._src.dtypes import accumulation_dtype, compute_dtype
from jax_lstm._src.elman import NONLINEARITIES, Nonlinearity
from jax_lstm._src.flow.adjoint import Adjoint, run_back
from jax_lstm._src.flow.jacobian import Recurrent, recurrent
from jax_lstm._src.flow.spectra import product_spectra, step_spectra
from jax_lstm._src.network import Network, read_kind, read_network
from jax_lstm._src.options import Options, hashable
from jax_lstm._src.single_step import gate_sums
from jax_lstm._src.stack import run_stack
from jax_lstm._src.state import LSTMState

Params = Mapping[str, Any]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Binary logarithms: ``2**value`` is the number, ``-inf`` a true zero, NaN one that was not found.

    log2_dh, log2_dc: ``[*batch, T + 1]``, of ‖dL/dh_t‖ and ‖dL/dc_t‖ for t = 0 ... T; total derivatives, as
      autograd has them: dL/dc_t includes what passes through h_t.
    log2_along_c, log2_through_h: ``[*batch, T + 1]``, of ‖a_t‖ and ‖b_t‖, the two parts of dL/dc_t = a_t + b_t. a_t
      is what came along c alone, without passing W_hh: with the slope q_k = o_k ∘ (1 - tanh(c_k)²) and the direct
      derivatives y*_k = ∂L/∂h_k (and c* = ∂L/∂c_n), a_t = Σ_{k≥t} (f_{t+1} ∘ ... ∘ f_k) ∘ q_k ∘ y*_k, and c* times
      all of f_{t+1} ... f_T; q_0 = 0. b_t is what passed W_hh at least once.
    log2_step_max, log2_step_min: ``[*batch, T]``, largest and smallest singular value of J_1 ... J_T. The largest is
      the norm.
    log2_product_max, log2_product_min: ``[*batch, T + 1]``, the same of P_0 ... P_T; P_T is the identity.

    Fields of an RNN's cell state, and those that were not asked for, are None. The smallest singular value of a J_t
    is good to about eps times its condition number.
    """

    log2_dh: Any
    log2_dc: Any
    log2_along_c: Any
    log2_through_h: Any
    log2_step_max: Any
    log2_step_min: Any
    log2_product_max: Any
    log2_product_min: Any

    @property
    def share_along_c(self) -> Any:
        """‖a_t‖ / (‖a_t‖ + ‖b_t‖), ``[*batch, T + 1]``: 1 where all came along c alone, 0 where all of it passed W_hh.

        The parts may cancel, so that their norms need not add up to ‖dL/dc_t‖. NaN where both are zero.
        """
        return 1 / (1 + jnp.exp2(self.log2_through_h - self.log2_along_c))


def gradient_flow(
    params: Params,
    x: Any,
    state: Any = None,
    *,
    dy: Any = None,
    dstate: Any = None,
    key: Any = None,
    nonlinearity: Nonlinearity = "tanh",
    jacobians: bool = True,
    products: bool = True,
    precision: Any = None,
) -> GradientFlow:
    """Gradient norms and singular values, per time step, of one layer in one direction.

    L = Σ dy ∘ y + Σ dstate ∘ (last state), whose derivatives by every state are taken; rows of a batch are apart.

    Args:
      params: a state dict of torch.nn.LSTM or torch.nn.RNN as arrays; which of the two is read off it.
      x: ``[*batch, T, D]``.
      state: the initial state, as :func:`jax_lstm.lstm` (an LSTMState) or :func:`jax_lstm.rnn` (h) takes it.
      dy: ``[*batch, T, H]``, the cotangent of y; None means zeros.
      dstate: the cotangent of the last state, shaped like it: LSTMState of ``[1, *batch, H]``, or h alone for an RNN.
        Where dy and dstate are both None: random normal on the last h, drawn with ``key``, and zero on c.
      key: a jax.random key for that; None means ``jax.random.key(0)``.
      nonlinearity: of an RNN, "tanh" or "relu".
      jacobians: whether to measure the singular values of the J_t.
      products: whether to measure those of the P_t; this is most of the work, 2T products of [n, n] with [n, n].
      precision: jax.lax.Precision of every product, or its name.

    Returns:
      :class:`GradientFlow` in the result type of x and params, float32 where that is narrower.

    Raises:
      ValueError, TypeError: before any computation, naming the argument, what was expected and what came. Several
        layers, a reverse direction and a projection are refused.
    """
    network = read_network(params, read_kind(params))
    _check_network(network)
    cell = _cell(network.kind, nonlinearity)
    require_floating("x", x, "[*batch, T, D]")
    dtype = accumulation_dtype(compute_dtype(x, params))
    params, x = jax.tree.map(lambda a: jnp.asarray(a, dtype), (dict(params), x))
    state = jax.tree.map(jnp.asarray, _as_state(cell, state, "state"))
    cotangents = _cotangents(cell, dy, dstate, key, (*x.shape[:-1], network.hidden_size), dtype)
    return _measure(cell, network, jacobians, products, hashable(precision), params, x, state, *cotangents)


@partial(jax.jit, static_argnums=range(5))
def _measure(cell: Cell, network: Network, jacobians, products, precision, params, x, state, dy, dlast) -> GradientFlow:
    """Compiled, lest a call outside jax.jit compiles its loops anew each time: the step of a loop is a new function."""
    states = run_stack(cell, network, params, x, state, Options(precision=precision), keep="states").states
    assert states is not None
    weights = {name.removesuffix("_l0"): a for name, a in params.items()}
    batch, dtype = x.shape[:-2], x.dtype
    first = state or jax.tree.map(lambda a: jnp.zeros_like(a[..., 0, :]), states)
    before = jax.tree.map(
        lambda a, b: jnp.concatenate((jnp.asarray(a, dtype)[0, ..., None, :], b[0, ..., :-1, :]), -2), first, states
    )
    gates = cell.activate(tuple(jnp.split(gate_sums(weights, x, before.h, precision), cell.num_gates, axis=-1)))
    coefficients = cell.slopes(gates, before.c, None if states.c is None else states.c[0])
    measure = partial(_one, cell, recurrent(cell, weights["weight_hh"]), jacobians, products, precision)
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[len(batch) :]), (coefficients, dy, dlast))
    flow = jax.vmap(measure)(*flat)
    return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), flow)


def _one(cell: Cell, weights: Recurrent, jacobians: bool, products: bool, precision, coefficients, dy, dlast):
    """One row of the batch: coefficients of [T, H], dy [T, H], dlast an LSTMState of [H]."""
    adjoint: Adjoint = run_back(cell, weights, coefficients, dy, dlast, precision)
    step_max = step_min = product_max = product_min = None
    if jacobians:
        step_max, step_min = step_spectra(cell, weights, coefficients, precision)
    if products:
        product_max, product_min = product_spectra(cell, weights, coefficients, precision)
    return GradientFlow(*adjoint, step_max, step_min, product_max, product_min)


def _check_network(network):
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


def _cell(kind, nonlinearity):
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}.")
    if kind == "lstm" and nonlinearity != "tanh":
        raise ValueError(f"nonlinearity is an option of an RNN, and params are an LSTM's; got {nonlinearity!r}.")
    return LSTM if kind == "lstm" else NONLINEARITIES[nonlinearity]


def _as_state(cell, state, name):
    """An LSTMState, with c = None for an RNN; None stays None."""
    if state is None:
        return None
    if cell.has_cell_state:
        if not isinstance(state, LSTMState):
            raise TypeError(f"{name} must be a jax_lstm.LSTMState or None; got {type(state).__name__}.")
        return state
    if isinstance(state, LSTMState):
        raise TypeError(f"{name} of an RNN must be h alone, [1, *batch, H]; got an LSTMState.")
    return LSTMState(state, None)


def _cotangents(cell, dy, dstate, key, shape, dtype):
    """dy [*batch, T, H] and the last state's cotangent [*batch, H], zeros and random numbers filled in."""
    last = (*shape[:-2], shape[-1])
    given = _as_state(cell, dstate, "dstate")
    if dy is None and given is None:
        key = jax.random.key(0) if key is None else key
        given = LSTMState(jax.random.normal(key, (1, *last), dtype), None)
    wanted = {"dy": (dy, shape)}
    if given is not None:
        wanted |= {"dstate.h": (given.h, (1, *last)), "dstate.c": (given.c, (1, *last))}
    for name, (value, expected) in wanted.items():
        if value is None:
            continue
        require_floating(name, value, "shaped like y or the last state")
        if tuple(value.shape) != expected:
            raise ValueError(f"{name} must have shape {expected}; got {tuple(value.shape)}.")
    zero = jnp.zeros(last, dtype)
    dh, dc = (zero, zero) if given is None else (zero if a is None else jnp.asarray(a, dtype)[0] for a in _pair(given))
    dy = jnp.zeros(shape, dtype) if dy is None else jnp.asarray(dy, dtype)
    return dy, LSTMState(dh, dc if cell.has_cell_state else None)


def _pair(state):
    return state.h, state.c
