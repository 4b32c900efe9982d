"""Idioms of Flax users: subclasses, frozen weights, init by another method, tables."""

from __future__ import annotations

import warnings
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import LSTMState, linen, nnx
from tests.support.arrays import drawn_weights, normal

X = normal((2, 6, 3))
KEY = jax.random.key(0)
F64 = {"param_dtype": jnp.float64}
STATE = LSTMState(h=np.full((1, 2, 5), 0.3), c=np.full((1, 2, 5), 0.1))


class Scaled(linen.LSTM):
    """A subclass that adds a parameter and a submodule."""

    @nn.compact
    def __call__(self, x, state=None, **options):
        y, state = super().__call__(x, state, **options)
        scale = self.param("scale", nn.initializers.constant(2.0), (), self.param_dtype)
        return nn.Dense(4, param_dtype=self.param_dtype)(y * scale), state


class Decoder(linen.LSTM):
    """A subclass that loops over the steps itself, from a learned first state."""

    @nn.compact
    def __call__(self, x, state=None):
        h = self.param("first", nn.initializers.normal(1.0), (1, 1, self.hidden_size), self.param_dtype)
        h = jnp.broadcast_to(h, (1, x.shape[0], self.hidden_size))
        state, outputs = LSTMState(h=h, c=h), []
        for t in range(x.shape[1]):
            y, state = self.step(x[:, t], state)
            outputs.append(y)
        return jnp.stack(outputs, axis=1), state


class ScaledCell(linen.LSTMCell):
    @nn.compact
    def __call__(self, carry, inputs):
        gain = self.param("gain", nn.initializers.constant(3.0), (inputs.shape[-1],), self.param_dtype)
        return super().__call__(carry, inputs * gain)


def lstm_of(params):
    return {name: a for name, a in params.items() if name.startswith(("weight", "bias"))}


def test_a_linen_subclass_may_have_its_own_parameters():
    module = Scaled(5, **F64)
    variables = module.init(KEY, X)
    params = variables["params"]
    assert set(params) - set(lstm_of(params)) == {"scale", "Dense_0"}
    y, _ = jax.jit(module.apply)(variables, X)
    dense = params["Dense_0"]
    expected = jax_lstm.lstm(lstm_of(params), X)[0] * 2 @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)
    y, _ = module.apply(variables, X[:, 0], STATE, method="step")
    assert y.shape == (2, 5)


def test_a_linen_subclass_may_loop_over_the_steps():
    module = Decoder(5, **F64)
    variables = module.init(KEY, X)
    first = jnp.broadcast_to(variables["params"]["first"], (1, 2, 5))
    expected, last = jax_lstm.lstm(lstm_of(variables["params"]), X, LSTMState(h=first, c=first))
    y, state = jax.jit(module.apply)(variables, X)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(state.c, last.c, rtol=1e-12, atol=1e-13)


def test_a_subclass_of_a_linen_cell_may_have_its_own_parameters():
    rnn = nn.RNN(ScaledCell(hidden_size=5, **F64))
    variables = rnn.init(KEY, X)
    params = variables["params"]["cell"]
    stack = {f"{name}_l0": a for name, a in lstm_of(params).items()}
    np.testing.assert_allclose(rnn.apply(variables, X), jax_lstm.lstm(stack, X * 3)[0], rtol=1e-12, atol=1e-13)


def test_a_subclass_refuses_weights_that_its_options_do_not_use():
    """Such weights have names of a torch state dict, so ignoring them would give wrong numbers."""
    module = Scaled(5, **F64)
    variables = module.init(KEY, X)
    deeper = drawn_weights(3, 5, num_layers=2)
    params = variables["params"] | {name: a for name, a in deeper.items() if "_l1" in name}
    with pytest.raises(ValueError, match=r"params of linen\.Scaled have 'weight_ih_l1', .*which its options do not"):
        module.apply({"params": params}, X)
    params = lstm_of(variables["params"]) | {"scale": jnp.ones(())}
    with pytest.raises(ValueError, match=r"params of linen\.LSTM have 'scale', which its options do not"):
        linen.LSTM(5).apply({"params": params}, X)


class NnxScaled(nnx.LSTM):
    def __init__(self, *args, rngs, **options):
        super().__init__(*args, rngs=rngs, **options)
        self.scale = flax_nnx.Param(jnp.full((), 2.0))
        self.calls = flax_nnx.BatchStat(jnp.zeros((), int))

    def __call__(self, x, *args, **options):
        y, state = super().__call__(x, *args, **options)
        return y * self.scale[...], state


class NnxScaledCell(nnx.LSTMCell):
    def __init__(self, *, rngs, **options):
        super().__init__(**options, rngs=rngs)
        self.gain = flax_nnx.Param(jnp.full((), 3.0))

    def __call__(self, carry, inputs):
        return super().__call__(carry, inputs * self.gain[...])


def nnx_params(module):
    return {name: value[...] for name, value in lstm_of(vars(module)).items()}


def test_an_nnx_subclass_may_have_its_own_variables():
    module = NnxScaled(3, 5, **F64, rngs=flax_nnx.Rngs(0))
    y, _ = jax.jit(lambda m, x: m(x))(module, X)
    np.testing.assert_allclose(y, jax_lstm.lstm(nnx_params(module), X)[0] * 2, rtol=1e-12, atol=1e-13)
    cell = NnxScaledCell(input_size=3, hidden_size=5, **F64, rngs=flax_nnx.Rngs(0))
    stack = {f"{name}_l0": a for name, a in nnx_params(cell).items()}
    np.testing.assert_allclose(flax_nnx.RNN(cell)(X), jax_lstm.lstm(stack, X * 3)[0], rtol=1e-12, atol=1e-13)
    module.bias_ih_l1 = flax_nnx.Param(jnp.zeros(20))
    with pytest.raises(ValueError, match=r"params of nnx\.NnxScaled have 'bias_ih_l1', which its options do not"):
        module(X)
    other = nnx.LSTM(3, 5, rngs=flax_nnx.Rngs(0))
    other.scale = flax_nnx.Param(jnp.ones(()))
    with pytest.raises(ValueError, match=r"params of nnx\.LSTM have 'scale', which its options do not"):
        other(X)


class Frozen(flax_nnx.Variable):
    """A user's type of variable."""


@pytest.mark.parametrize("kind", [flax_nnx.Variable, Frozen, flax_nnx.BatchStat])
@pytest.mark.parametrize("what", ["LSTM", "LSTMCell", "SequenceModel"])
def test_weights_in_another_variable_are_frozen(what, kind):
    """nnx.grad with respect to nnx.Param leaves these weights out. The values are the same."""
    rngs = flax_nnx.Rngs(0)
    tokens = jnp.arange(12).reshape(2, 6) % 7
    module, run, owner = {
        "LSTM": lambda: (nnx.LSTM(3, 5, **F64, rngs=rngs), lambda m: m(X)[0], lambda m: m),
        "LSTMCell": lambda: (nnx.LSTMCell(3, 5, **F64, rngs=rngs), lambda m: flax_nnx.RNN(m)(X), lambda m: m),
        "SequenceModel": lambda: (
            nnx.SequenceModel(7, 3, 5, 4, **F64, rngs=rngs),
            lambda m: m(tokens)[0],
            lambda m: m.lstm,
        ),
    }[what]()
    expected = run(module)
    loss = lambda m: jnp.sum(run(m) ** 2)
    full = flax_nnx.to_pure_dict(flax_nnx.grad(loss)(module))
    holder = owner(module)
    frozen = [name for name in vars(holder) if name.startswith("weight")]
    for name in frozen:
        setattr(holder, name, kind(getattr(holder, name)[...]))
    np.testing.assert_array_equal(run(module), expected)
    got = flax_nnx.to_pure_dict(flax_nnx.grad(loss)(module))
    inside = got["lstm"] if what == "SequenceModel" else got
    assert not set(frozen) & set(inside)
    same = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    jax.tree.map(same, got, prune(full, got))


def prune(tree, like):
    return {name: prune(tree[name], inner) if isinstance(inner, dict) else tree[name] for name, inner in like.items()}


def test_a_missing_weight_is_refused():
    module = nnx.LSTM(3, 5, rngs=flax_nnx.Rngs(0))
    del module.weight_hh_l0
    with pytest.raises(ValueError, match=r"params of nnx\.LSTM lack 'weight_hh_l0'"):
        module(X)


def test_init_by_step_gives_the_parameters_of_init_by_a_call():
    model = linen.LSTM(5, num_layers=2)
    expected = model.init(KEY, X)
    state = LSTMState(h=jnp.zeros((2, 2, 5)), c=jnp.zeros((2, 2, 5)))
    for x, method in ((X[:, 0], "step"), (X, "stream")):
        jax.tree.map(np.testing.assert_array_equal, model.init(KEY, x, state, method=method), expected)
    model, tokens = linen.SequenceModel(7, 3, 5, 4), jnp.arange(12).reshape(2, 6) % 7
    expected = model.init(KEY, tokens)
    jax.tree.map(np.testing.assert_array_equal, model.init(KEY, tokens[:, 0], STATE, method="step"), expected)
    (logits, _), _ = model.init_with_output(KEY, tokens[:, 0], STATE, method="step")
    assert logits.shape == (2, 4)


def test_a_bound_module_runs_several_methods():
    model = linen.LSTM(5, **F64)
    bound = model.bind(model.init(KEY, X))
    y, _ = bound(X)
    state, outputs = LSTMState(h=jnp.zeros((1, 2, 5)), c=jnp.zeros((1, 2, 5))), []
    for t in range(X.shape[1]):
        out, state = bound.step(X[:, t], state)
        outputs.append(out)
    np.testing.assert_allclose(jnp.stack(outputs, 1), y, rtol=1e-12, atol=1e-13)


X32 = X.astype(jnp.float32)
TABLES = {
    "LSTM": (lambda: linen.LSTM(5), X32, 200),
    "RNN of a cell": (lambda: nn.RNN(linen.LSTMCell(5)), X32, 200),
    "RNN of a cell of torch's": (lambda: nn.RNN(linen.LSTMCell(hidden_size=5)), X32, 200),
    "SequenceModel": (lambda: linen.SequenceModel(7, 3, 5, 4), jnp.zeros((2, 6), int), 21 + 200 + 24),
}


@pytest.mark.parametrize("name", TABLES)
def test_linen_tabulates_without_a_warning(name):
    make, x, parameters = TABLES[name]
    with warnings.catch_warnings(record=True) as caught:  # Flax would catch a warning that is an error
        warnings.simplefilter("always")
        table = make().tabulate(KEY, x, compute_flops=True, console_kwargs={"width": 200})
    assert not [str(warning.message) for warning in caught]
    assert f"Total Parameters: {parameters:,}" in table
    rows = [line for line in table.splitlines() if "LSTM" in line and "│" in line]
    assert len(rows) == 1
    assert "_cast_with_params" not in table
