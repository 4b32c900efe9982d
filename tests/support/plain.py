"""The plain thing: an LSTM as an unrolled Python loop over jnp, one layer at a time, differentiated by JAX alone.

It shares no line with jax_lstm, reads slowly and literally, and is what the scan and its JVP rule are held to.
``shapes`` gives the names and shapes of a torch state dict, as torch documents them. test_init.py checks it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def shapes(input_size, hidden_size, num_layers=1, bias=True, bidirectional=False, proj_size=0, *, gates=4):
    """Names -> shapes of torch.nn.LSTM's parameters in its order. An RNN has one gate."""
    found, width = {}, proj_size or hidden_size
    for layer in range(num_layers):
        for suffix in ("", "_reverse") if bidirectional else ("",):
            inputs = input_size if layer == 0 else width * (2 if bidirectional else 1)
            end = f"_l{layer}{suffix}"
            found[f"weight_ih{end}"] = (gates * hidden_size, inputs)
            found[f"weight_hh{end}"] = (gates * hidden_size, width)
            if bias:
                found[f"bias_ih{end}"] = found[f"bias_hh{end}"] = (gates * hidden_size,)
            if proj_size:
                found[f"weight_hr{end}"] = (proj_size, hidden_size)
    return found


def plain_rnn(params, x, h0, nonlinearity="tanh", **options):
    """x [B, T, D], h0 [R, B, H] -> y [B, T, dirs * H], h_n [R, B, H]."""
    step = lambda w, x, h, c: (rnn_step(w, x, h, nonlinearity), c)
    return plain_lstm(params, x, h0, jnp.zeros_like(h0), step=step, **options)[:2]


def plain_lstm(
    params, x, h0, c0, *, lengths=None, mask=None, reset=None, reset_state=None, truncate_every=None, step=None
):
    """x [B, T, D], h0 [R, B, P], c0 [R, B, H] -> y [B, T, dirs * P], h_n, c_n, all states h and c [R, B, T, ...].

    A boundary waits until its direction meets a step that takes place. In the reverse direction one beyond the last
    such step is forgotten.
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
            met = jnp.zeros((batch, 1), bool)  # whether a step took place before
            begun = jnp.full((batch, 1), not suffix)
            waiting_reset = waiting_cut = jnp.zeros((batch, 1), bool)
            ys, cs = [None] * steps, [None] * steps
            for t in range(steps)[:: -1 if suffix else 1]:
                boundary = t + 1 if suffix else t  # between t and t+1 for the reverse direction, t-1 and t else
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


def lstm_step(w, x, h, c):
    """One step of one layer; a weight that the layer does not have is None. All of x, h and c are [B, ...]."""
    z = x @ w["weight_ih"].T + h @ w["weight_hh"].T
    if w["bias_ih"] is not None:
        z = z + w["bias_ih"] + w["bias_hh"]
    i, f, g, o = jnp.split(z, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h if w["weight_hr"] is None else h @ w["weight_hr"].T), c


def rnn_step(w, x, h, nonlinearity):
    """The same for an RNN."""
    z = x @ w["weight_ih"].T + h @ w["weight_hh"].T
    if w["bias_ih"] is not None:
        z = z + w["bias_ih"] + w["bias_hh"]
    return {"tanh": jnp.tanh, "relu": jax.nn.relu}[nonlinearity](z)
