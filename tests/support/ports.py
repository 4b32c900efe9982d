"""An LSTM port with a replaceable step, for mistakes that are in no catalogue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from crosscheck.core.jax_runner import run_jax

sigmoid = jax.nn.sigmoid


def cell(i=sigmoid, f=sigmoid, g=jnp.tanh, o=sigmoid, out=jnp.tanh, start=0) -> Callable:
    """Return a step with other nonlinearities from step ``start`` on."""

    def step(z_i, z_f, z_g, z_o, c, t):
        late = t >= start
        pick = lambda wrong, right, z: jnp.where(late, wrong(z), right(z))
        new_c = pick(f, sigmoid, z_f) * c + pick(i, sigmoid, z_i) * pick(g, jnp.tanh, z_g)
        return pick(o, sigmoid, z_o) * pick(out, jnp.tanh, new_c), new_c

    return step


def port(step: Callable, layer: int = 0):
    """Return the runner of a batch-first stack in one direction with ``step`` in one layer."""

    fn = function(step, layer)
    return lambda case: partial(run_jax, fn)


def function(step: Callable, layer: int = 0):
    """Return the port as a JAX function of (params, x, states)."""

    def fn(params, x, states):
        layers = 1 + max(int(name.split("_l")[1]) for name in params)
        ys, last = jnp.moveaxis(x, 1, 0), []
        for k in range(layers):
            w = {name.removesuffix(f"_l{k}"): a for name, a in params.items() if name.endswith(f"_l{k}")}
            one = step if k == layer else cell()

            def body(state, at, w=w, one=one):
                x_t, t = at
                h, c = state
                z = x_t @ w["weight_ih"].T + h @ w["weight_hh"].T + w["bias_ih"] + w["bias_hh"]
                h, c = one(*jnp.split(z, 4, -1), c, t)
                return (h, c), h

            state, ys = jax.lax.scan(body, (states[0][k], states[1][k]), (ys, jnp.arange(len(ys))))
            last.append(state)
        h, c = (jnp.stack([state[n] for state in last]) for n in (0, 1))
        return jnp.moveaxis(ys, 0, 1), (h, c)

    return fn
