"""A reference LSTM: an unrolled Python loop over jnp, one layer at a time, with JAX's own derivatives.

It shares no code with jax_lstm. The tests compare the scan and its JVP rule with it. ``shapes`` gives the names and
shapes of a torch state dict as torch documents them; test_init.py checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Params = Mapping[str, Any]  # arrays by torch's names
Step = Callable[[Mapping[str, Any], jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def shapes(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
    *,
    gates: int = 4,
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of torch.nn.LSTM's parameters by name, in its order. An RNN has one gate."""
    by_name, width = {}, proj_size or hidden_size
    for layer in range(num_layers):
        for suffix in ("", "_reverse") if bidirectional else ("",):
            inputs = input_size if layer == 0 else width * (2 if bidirectional else 1)
            end = f"_l{layer}{suffix}"
            by_name[f"weight_ih{end}"] = (gates * hidden_size, inputs)
            by_name[f"weight_hh{end}"] = (gates * hidden_size, width)
            if bias:
                by_name[f"bias_ih{end}"] = by_name[f"bias_hh{end}"] = (gates * hidden_size,)
            if proj_size:
                by_name[f"weight_hr{end}"] = (proj_size, hidden_size)
    return by_name


def plain_rnn(
    params: Params, x: jax.Array, h0: jax.Array, nonlinearity: str = "tanh", **options: Any
) -> tuple[jax.Array, ...]:
    """Return y `[B, T, directions * H]` and h_n `[R, B, H]` for x `[B, T, D]` and h0 `[R, B, H]`."""
    step = lambda w, x, h, c: (rnn_step(w, x, h, nonlinearity), c)
    return plain_lstm(params, x, h0, jnp.zeros_like(h0), step=step, **options)[:2]


def plain_lstm(
    params: Params,
    x: jax.Array,
    h0: jax.Array,
    c0: jax.Array,
    *,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    reset: jax.Array | None = None,
    reset_state: tuple[jax.Array, jax.Array] | None = None,
    truncate_every: int | None = None,
    step: Step | None = None,
) -> tuple[jax.Array, ...]:
    """Run an LSTM on x `[B, T, D]` from h0 `[R, B, P]` and c0 `[R, B, H]`.

    A reset or truncation at a masked step takes effect at the next step of its direction that is not masked. In the
    reverse direction, a reset or truncation after the last such step has no effect.

    Returns:
      y `[B, T, directions * P]`, h_n, c_n, and the states h and c of all steps `[R, B, T, ...]`.
    """
    step = step or lstm_step
    layers = 1 + max(int(name.split("_l")[1].split("_")[0]) for name in params)
    suffixes = ["", "_reverse"] if "weight_ih_l0_reverse" in params else [""]
    batch, steps = x.shape[:2]
    lengths = jnp.full(batch, steps) if lengths is None else lengths
    valid = jnp.arange(steps) < lengths[:, None]
    valid = valid if mask is None else valid & mask
    reset = jnp.zeros((batch, steps), bool) if reset is None else reset
    reset_h, reset_c = (jnp.zeros_like(h0), jnp.zeros_like(c0)) if reset_state is None else reset_state
    rows_h, rows_c, all_h, all_c = [], [], [], []
    for layer in range(layers):
        outputs = []
        for suffix in suffixes:
            row = len(rows_h)
            weights = {
                n: params.get(f"{n}_l{layer}{suffix}")
                for n in ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
            }
            h, c = h0[row], c0[row]
            met = jnp.zeros((batch, 1), bool)  # whether a step before this one was not masked
            begun = jnp.full((batch, 1), not suffix)
            waiting_reset = waiting_cut = jnp.zeros((batch, 1), bool)
            ys, cs = [None] * steps, [None] * steps
            for t in range(steps)[:: -1 if suffix else 1]:
                boundary = t + 1 if suffix else t  # between t and t+1 in the reverse direction, t-1 and t in the other
                inside = valid[:, t][:, None]
                if boundary < steps:
                    waiting_reset |= reset[:, boundary][:, None] & begun
                    if truncate_every and boundary % truncate_every == 0 and boundary > 0:
                        waiting_cut |= met
                cut, back = waiting_cut & inside, waiting_reset & inside
                h = jnp.where(back, reset_h[row], jnp.where(cut, jax.lax.stop_gradient(h), h))
                c = jnp.where(back, reset_c[row], jnp.where(cut, jax.lax.stop_gradient(c), c))
                waiting_reset, waiting_cut = waiting_reset & ~inside, waiting_cut & ~inside
                begun, met = begun | inside, met | inside
                new_h, new_c = step(weights, jnp.where(inside, x[:, t], 0.0), h, c)
                h, c = jnp.where(inside, new_h, h), jnp.where(inside, new_c, c)
                ys[t], cs[t] = jnp.where(inside, h, 0.0), jnp.where(inside, c, 0.0)
            rows_h.append(h)
            rows_c.append(c)
            outputs.append(jnp.stack(ys, 1))
            all_h.append(outputs[-1])
            all_c.append(jnp.stack(cs, 1))
        x = jnp.concatenate(outputs, -1)
    return x, jnp.stack(rows_h), jnp.stack(rows_c), jnp.stack(all_h), jnp.stack(all_c)


def lstm_step(w: Mapping[str, Any], x: jax.Array, h: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return h and c after one step of one layer, all `[B, ...]`. A weight that the layer does not have is None."""
    z = x @ w["weight_ih"].T + h @ w["weight_hh"].T
    if w["bias_ih"] is not None:
        z = z + w["bias_ih"] + w["bias_hh"]
    i, f, g, o = jnp.split(z, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h if w["weight_hr"] is None else h @ w["weight_hr"].T), c


def rnn_step(w: Mapping[str, Any], x: jax.Array, h: jax.Array, nonlinearity: str) -> jax.Array:
    """Return h after one step of an RNN layer."""
    z = x @ w["weight_ih"].T + h @ w["weight_hh"].T
    if w["bias_ih"] is not None:
        z = z + w["bias_ih"] + w["bias_hh"]
    return {"tanh": jnp.tanh, "relu": jax.nn.relu}[nonlinearity](z)
