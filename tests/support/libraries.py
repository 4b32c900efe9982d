"""The libraries that jax_lstm.convert speaks to: each one's own time loop on its own weights.

tests.support.conversion compares them with ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.experimental import rnn

from jax_lstm import convert
from jax_lstm._src.network import Network
from tests.support.requirements import need

B, T, D, H = 3, 6, 4, 5
NETWORKS = {
    "one": Network("lstm", D, H),
    "three layers": Network("lstm", D, H, 3),
    "both directions": Network("lstm", D, H, bidirectional=True),
    "two layers, both directions": Network("lstm", D, H, 2, bidirectional=True),
    "no bias": Network("lstm", D, H, 2, bias=False),
    "square": Network("lstm", H, H, 2),  # all matrices are H x H a gate: no shape tells them apart
    "square, both directions": Network("lstm", H, H, bidirectional=True),
}


@dataclass(frozen=True)
class Built:
    """like: the weights' tree with shapes. load: what `to_x` wrote -> weights. run: (weights, x, h0, c0) -> y, h, c."""

    like: Any
    load: Callable[[Any], Any]
    run: Callable[..., Any]


@dataclass(frozen=True)
class Library:
    """What a library has: networks of two directions, ones without bias, two biases. options: what `from_x` is told."""

    name: str
    read: Callable[..., Any]
    write: Callable[..., Any]
    build: Callable[[Network], Built]
    module: str = ""  # besides JAX and Flax
    bidirectional: bool = True
    no_bias: bool = False
    two_biases: bool = False
    options: Callable[[Network], dict[str, Any]] = lambda network: {}

    def need(self):
        if self.module:
            need(self.module)

    def has(self, network: Network) -> bool:
        return (self.bidirectional or not network.bidirectional) and (self.no_bias or network.bias)

    def read_for(self, network: Network) -> Callable[[Any], Any]:
        """`from_x`, told what the library has no names or shapes for."""
        return partial(self.read, **self.options(network))


def inputs(network: Network):
    """x, h0 and c0: float64 and not zero."""
    rng = np.random.default_rng(1)
    rows = len(network.rows)
    return (jnp.asarray(rng.normal(size=shape)) for shape in ((B, T, network.input_size), *[(rows, B, H)] * 2))


def states_of(carries) -> tuple[Any, Any]:
    """h_n, c_n [rows, B, H] of Flax's carries (c, h)."""
    return jnp.stack([h for _, h in carries]), jnp.stack([c for c, _ in carries])


def carries_of(network: Network, h0, c0) -> list[Any]:
    """Flax's initial carries of every layer: (c, h), or two of them."""
    rows = list(zip(c0, h0, strict=True))
    return list(zip(rows[::2], rows[1::2], strict=True)) if network.bidirectional else rows


class LinenStack(linen.Module):
    """linen.Sequential, whose names it has, with initial states."""

    layers: list[Any]

    def __call__(self, x, initial_carry):
        last = []
        for layer, carry in zip(self.layers, initial_carry, strict=True):
            carry, x = layer(x, initial_carry=carry, return_carry=True)
            last += carry if isinstance(layer, linen.Bidirectional) else [carry]
        return x, *states_of(last)


def build_linen(network: Network, cell: str) -> Built:
    make = lambda: linen.RNN(getattr(linen, cell)(network.hidden_size, param_dtype=jnp.float64))
    layer = lambda: linen.Bidirectional(make(), make()) if network.bidirectional else make()
    module = LinenStack([layer() for _ in range(network.num_layers)])
    x, h0, c0 = inputs(network)
    like = jax.eval_shape(module.init, jax.random.key(0), x, carries_of(network, h0, c0))["params"]
    single = network.num_layers == 1  # to_flax leaves out the name of the one layer, as RNN alone does
    like = like["layers_0"] if single else like

    @jax.jit
    def run(weights, x, h0, c0):
        named = {"layers_0": weights} if single else weights
        return module.apply({"params": named}, x, carries_of(network, h0, c0))

    return Built(like, lambda written: written, run)


class NnxStack(nnx.Module):
    def __init__(self, layers):
        self.layers = nnx.List(layers)

    def __call__(self, x, initial_carry):
        last = []
        for layer, carry in zip(self.layers, initial_carry, strict=True):
            carry, x = layer(x, initial_carry=carry, return_carry=True)
            last += carry if isinstance(layer, nnx.Bidirectional) else [carry]
        return x, *states_of(last)


def build_nnx(network: Network, cell: str) -> Built:
    kinds = {"dtype": jnp.float64, "param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}

    def layer(number):
        make = lambda: nnx.RNN(getattr(nnx, cell)(network.input_size_of(number), H, **kinds), rngs=False)
        return nnx.Bidirectional(make(), make(), rngs=False) if network.bidirectional else make()

    module = NnxStack([layer(n) for n in range(network.num_layers)])
    graph, like, rest = nnx.split(module, nnx.Param, ...)
    single = network.num_layers == 1

    @jax.jit
    def run(weights, x, h0, c0):
        written = nnx.to_pure_dict(weights) if isinstance(weights, nnx.State) else weights
        state = jax.tree.map(lambda a: a, like)  # a copy, to be filled
        nnx.replace_by_pure_dict(state, {"layers": {0: written}} if single else written)
        return nnx.merge(graph, state, rest)(x, carries_of(network, h0, c0))

    return Built(like["layers"][0] if single else like, lambda written: written, run)


def build_haiku(network: Network) -> Built:
    import haiku as hk

    def unroll(x, h0, c0):
        core = hk.DeepRNN([hk.LSTM(network.hidden_size) for _ in range(network.num_layers)])
        states = tuple(hk.LSTMState(h, c) for h, c in zip(h0, c0, strict=True))
        y, last = hk.dynamic_unroll(core, x, states, time_major=False)
        return y, jnp.stack([s.hidden for s in last]), jnp.stack([s.cell for s in last])

    net = hk.without_apply_rng(hk.transform(unroll))
    like = jax.eval_shape(net.init, jax.random.key(0), *inputs(network))
    return Built(like, lambda written: written, jax.jit(net.apply))


def build_equinox(network: Network) -> Built:
    import equinox as eqx

    make = lambda layer: eqx.nn.LSTMCell(
        network.input_size_of(layer), network.hidden_size, network.bias, dtype=jnp.float64, key=jax.random.key(0)
    )
    like = [eqx.filter_eval_shape(make, layer) for layer, _ in network.rows]
    names = ["weight_ih", "weight_hh"] + ["bias"] * network.bias

    def load(written):
        """As the docstring of to_equinox has it; a cell without bias has None on both sides."""
        written = written if isinstance(written, list) else [written]
        where = lambda cell: [getattr(cell, name) for name in names]
        cells = [eqx.tree_at(where, c, [w[name] for name in names]) for c, w in zip(like, written, strict=True)]
        return cells[0] if len(cells) == 1 else cells

    @jax.jit
    def run(weights, x, h0, c0):
        cells = weights if isinstance(weights, list) else [weights]
        last = []
        for layer in range(network.num_layers):
            outputs = []
            for reverse in range(network.directions):
                row = layer * network.directions + reverse
                step = lambda state, x_t, cell=cells[row]: (cell(x_t, state),) * 2
                over_time = lambda x, h, c, step=step, reverse=reverse: jax.lax.scan(step, (h, c), x, reverse=reverse)
                state, (y, _) = jax.vmap(over_time)(x, h0[row], c0[row])
                outputs.append(y)
                last.append(state)
            x = jnp.concatenate(outputs, -1)
        return x, jnp.stack([h for h, _ in last]), jnp.stack([c for _, c in last])

    return Built(like[0] if len(like) == 1 else like, load, run)


def build_torch(network: Network) -> Built:
    torch = need("torch")
    options = {"bias": network.bias, "bidirectional": network.bidirectional, "batch_first": True}
    module = torch.nn.LSTM(network.input_size, network.hidden_size, network.num_layers, **options).double()

    def run(weights, x, h0, c0):
        tensors = {name: torch.tensor(np.asarray(a)) for name, a in weights.items()}
        with torch.no_grad():
            states = tuple(torch.tensor(np.asarray(a)) for a in (h0, c0))
            y, (h, c) = torch.func.functional_call(module, tensors, (torch.tensor(np.asarray(x)), states))
        return y.numpy(), h.numpy(), c.numpy()

    like = {name: np.empty(tensor.shape) for name, tensor in module.state_dict().items()}
    return Built(like, lambda written: written, run)


def build_cudnn(network: Network) -> Built:
    """JAX's own reading of the vector, and its reference of cuDNN's call."""
    sizes = (network.input_size, network.hidden_size, network.num_layers, network.bidirectional)

    @jax.jit
    def run(weights, x, h0, c0):
        unpacked = rnn.unpack_lstm_weights(weights, *sizes)
        return rnn.lstm_ref(x, h0, c0, *unpacked, jnp.full(B, T, jnp.int32), *sizes[:3], 0.0, network.bidirectional)

    length = rnn.get_num_params_in_lstm(*sizes)
    return Built(jax.ShapeDtypeStruct((length,), jnp.float64), lambda written: written, run)


def _cudnn_options(network: Network) -> dict[str, Any]:
    return {name: getattr(network, name) for name in ("input_size", "hidden_size", "num_layers", "bidirectional")}


def _flax(kind: str, cell: str) -> Library:
    read, write, build = {
        "linen": (convert.from_flax, convert.to_flax, build_linen),
        "nnx": (convert.from_nnx, partial(convert.to_nnx, cell=cell), build_nnx),
    }[kind]
    return Library(f"{kind}.{cell}", read, write, partial(build, cell=cell))


LIBRARIES = {
    library.name: library
    for library in (
        *(_flax(kind, cell) for kind in ("linen", "nnx") for cell in ("LSTMCell", "OptimizedLSTMCell")),
        Library("haiku", convert.from_haiku, convert.to_haiku, build_haiku, "haiku", bidirectional=False),
        Library(
            "equinox",
            convert.from_equinox,
            convert.to_equinox,
            build_equinox,
            "equinox",
            no_bias=True,
            options=lambda network: {"bidirectional": network.bidirectional},
        ),
        Library("cudnn", convert.from_cudnn, convert.to_cudnn, build_cudnn, two_biases=True, options=_cudnn_options),
        Library("torch", convert.from_torch, convert.to_torch, build_torch, "torch", no_bias=True, two_biases=True),
    )
}
PAIRS = [
    pytest.param(library, network, id=f"{name}-{of}")
    for name, library in LIBRARIES.items()
    for of, network in NETWORKS.items()
    if library.has(network)
]
