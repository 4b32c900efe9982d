"""The Flax modules have torch's parameters and agree with the functions."""

from __future__ import annotations

import inspect

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from flax.traverse_util import flatten_dict

import jax_lstm
from jax_lstm import LSTMState, convert, linen, nnx
from tests.support import plain
from tests.support.arrays import normal

X = normal((4, 6, 3))
OPTIONS = {"num_layers": 2, "bidirectional": True, "proj_size": 2}
F64 = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def shapes(tree, sep=None):
    return {name: tuple(a.shape) for name, a in (flatten_dict(tree, sep=sep) if sep else tree).items()}


def nnx_params(module):
    return flax_nnx.to_pure_dict(flax_nnx.state(module, flax_nnx.Param))


@pytest.mark.parametrize("options", [{}, OPTIONS, {"bias": False}])
def test_the_parameters_of_lstm_are_those_of_a_state_dict(options):
    expected = plain.shapes(3, 5, **options)
    params = linen.LSTM(5, **options).init(jax.random.key(0), X)["params"]
    assert shapes(params) == expected
    assert shapes(nnx_params(nnx.LSTM(3, 5, **options, rngs=flax_nnx.Rngs(0)))) == expected


def test_linen_lstm_agrees_with_the_function():
    module = linen.LSTM(5, **OPTIONS, **F64)
    variables = module.init(jax.random.key(0), X)
    y, state = jax.jit(module.apply)(variables, X)
    expected, last = jax_lstm.lstm(variables["params"], X)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(state.c, last.c)


def test_nnx_lstm_agrees_with_the_function_under_plain_jit_and_grad():
    module = nnx.LSTM(3, 5, **OPTIONS, **F64, rngs=flax_nnx.Rngs(0))
    params = nnx_params(module)
    y, _ = jax.jit(lambda m, x: m(x))(module, X)
    np.testing.assert_allclose(y, jax_lstm.lstm(params, X)[0], rtol=1e-14)
    got = jax.jit(jax.grad(lambda m: jnp.sum(m(X)[0] ** 2)))(module)
    expected = jax.grad(lambda p: jnp.sum(jax_lstm.lstm(p, X)[0] ** 2))(params)
    for name, gradient in expected.items():
        np.testing.assert_allclose(getattr(got, name)[...], gradient, rtol=1e-12)


def test_nnx_modules_have_no_rng_state():
    for module in (
        nnx.LSTM(3, 5, dropout=0.5, rngs=flax_nnx.Rngs(0)),
        nnx.LSTMCell(input_size=3, hidden_size=5, rngs=flax_nnx.Rngs(0)),
        nnx.SequenceModel(7, 3, 5, 4, rngs=flax_nnx.Rngs(0)),
    ):
        assert not jax.tree.leaves(flax_nnx.state(module, flax_nnx.RngState))


@pytest.mark.parametrize("reverse", [False, True])
def test_linen_cell_inside_flax_rnn(reverse):
    rnn = flax.linen.RNN(linen.LSTMCell(hidden_size=5, **F64), reverse=reverse, keep_order=True)
    variables = rnn.init(jax.random.key(0), X)
    params = variables["params"]["cell"]
    assert shapes(params) == {name.removesuffix("_l0"): shape for name, shape in plain.shapes(3, 5).items()}
    stack = {f"{name}_l0": a for name, a in params.items()}
    x = X[:, ::-1] if reverse else X
    expected = jax_lstm.lstm(stack, x)[0]
    np.testing.assert_allclose(jax.jit(rnn.apply)(variables, X), expected[:, ::-1] if reverse else expected, rtol=1e-12)


def test_linen_cell_inside_flax_bidirectional():
    both = flax.linen.Bidirectional(
        flax.linen.RNN(linen.LSTMCell(hidden_size=5, **F64)), flax.linen.RNN(linen.LSTMCell(hidden_size=5, **F64))
    )
    variables = both.init(jax.random.key(0), X)
    params = {
        f"{name}_l0{suffix}": a
        for suffix, direction in (("", "forward_rnn"), ("_reverse", "backward_rnn"))
        for name, a in variables["params"][direction]["cell"].items()
    }
    np.testing.assert_allclose(both.apply(variables, X), jax_lstm.lstm(params, X)[0], rtol=1e-12)


def test_nnx_cell_inside_flax_rnn():
    cell = nnx.LSTMCell(input_size=3, hidden_size=5, **F64, rngs=flax_nnx.Rngs(0))
    stack = {f"{name}_l0": a for name, a in nnx_params(cell).items()}
    y = flax_nnx.RNN(cell, rngs=flax_nnx.Rngs(1))(X)
    np.testing.assert_allclose(y, jax_lstm.lstm(stack, X)[0], rtol=1e-12)


def test_the_carry_of_a_cell_keeps_its_dtype_and_needs_no_rng():
    cell = linen.LSTMCell(hidden_size=5, dtype=jnp.bfloat16)
    carry = cell.initialize_carry(None, (4, 3))
    x = X[:, 0].astype(jnp.float32)
    variables = cell.init(jax.random.key(0), carry, x)
    new, y = cell.apply(variables, carry, x)
    assert (new.h.dtype, new.c.dtype, y.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    nnx_cell = nnx.LSTMCell(input_size=3, hidden_size=5, dtype=jnp.bfloat16, rngs=flax_nnx.Rngs(0))
    assert nnx_cell.initialize_carry((4, 3)).h.dtype == jnp.float32
    with pytest.raises(ValueError, match="carry_init"):
        nnx_cell.initialize_carry((4, 3), carry_init=jnp.zeros)


TOKENS = np.random.default_rng(1).integers(0, 7, (4, 6))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_sequence_model_is_a_lookup_an_lstm_and_a_product(bidirectional):
    """Its parameters have the names of a torch model's state dict. torch_ref.SequenceModel is the reference."""
    directions = 1 + bidirectional
    named = {
        "embedding.weight": (7, 3),
        **{f"lstm.{n}": shape for n, shape in plain.shapes(3, 5, 2, bidirectional=bidirectional).items()},
        "fc.weight": (4, 5 * directions),
        "fc.bias": (4,),
    }
    rng = np.random.default_rng(0)
    flat = {name: rng.uniform(-0.5, 0.5, size=shape) for name, shape in named.items()}
    params = convert.from_torch(flat)
    zeros = jnp.zeros((2 * directions, 4, 5))
    y, h, *_ = plain.plain_lstm(params["lstm"], flat["embedding.weight"][TOKENS], zeros, zeros)
    expected = y @ flat["fc.weight"].T + flat["fc.bias"]
    module = linen.SequenceModel(7, 3, 5, 4, num_layers=2, bidirectional=bidirectional, **F64)
    variables = module.init(jax.random.key(0), TOKENS)
    assert shapes(variables["params"], ".") == named
    logits, state = jax.jit(module.apply)({"params": params}, TOKENS)
    np.testing.assert_allclose(logits, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(state.h, h, rtol=1e-12, atol=1e-12)

    other = nnx.SequenceModel(7, 3, 5, 4, num_layers=2, bidirectional=bidirectional, **F64, rngs=flax_nnx.Rngs(0))
    assert shapes(nnx_params(other), ".") == named
    flax_nnx.update(other, params)
    np.testing.assert_allclose(jax.jit(lambda m: m(TOKENS)[0])(other), expected, rtol=1e-12, atol=1e-12)


def test_a_sequence_model_refuses_wrong_tokens():
    module = linen.SequenceModel(7, 3, 5, 4)
    with pytest.raises(TypeError, match="tokens must be an integer array; got float"):
        module.init(jax.random.key(0), X[:, :, 0])
    variables = module.init(jax.random.key(0), TOKENS)
    with pytest.raises(ValueError, match=r"tokens must lie between 0 and vocab_size - 1 = 6; got 0 to 7"):
        module.apply(variables, np.array([[0, 7]]))


def test_dropout_uses_the_dropout_rng_and_only_in_training():
    module = linen.LSTM(5, num_layers=2, dropout=0.5)
    x = X.astype(jnp.float32)
    variables = module.init(jax.random.key(0), x, deterministic=True)
    plain = module.apply(variables, x, deterministic=True)[0]
    first = module.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(1)})[0]
    second = module.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(2)})[0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, plain)
    module = nnx.LSTM(3, 5, num_layers=2, dropout=0.5, rngs=flax_nnx.Rngs(0))
    noisy = module(x, dropout_key=jax.random.key(1))[0]
    module.eval()
    assert np.array_equal(module(x)[0], module(x)[0])
    assert not np.array_equal(noisy, module(x)[0])


def test_a_state_cannot_be_unpacked():
    with pytest.raises(TypeError):
        _h, _c = LSTMState(1, 2)


def test_an_error_about_weights_names_the_module():
    class Two(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            y, _ = linen.LSTM(5, name="first")(x)
            return linen.LSTM(5, name="second")(y)

    variables = Two().init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"params\['weight_ih_l0'\] of linen\.LSTM at first must have shape \(20, 7\)"):
        Two().apply(variables, jnp.ones((2, 3, 7)))


DEEP = {"num_layers": 2, "bidirectional": True}
MISFITS = {
    "surplus layers": (DEEP, {}, "'weight_ih_l0_reverse'.*which its options do not call for"),
    "surplus biases": ({}, {"bias": False}, "'bias_ih_l0', 'bias_hh_l0', which its options do not call for"),
    "missing layers": ({}, DEEP, "lack 'weight_ih_l0_reverse'"),
    "another size": ({"proj_size": 2}, {}, r"params\['weight_hh_l0'\] .* must have shape \(20, 5\); got \(20, 2\)"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_weights_that_the_options_do_not_fit_are_refused(name):
    """Flax ignores parameters that a module does not use. The results would then be wrong."""
    network, options, message = MISFITS[name]
    params = jax_lstm.init_lstm(jax.random.key(0), 3, 5, **network)
    with pytest.raises(ValueError, match=message):
        linen.LSTM(5, **options).apply({"params": params}, X)
    module = nnx.LSTM(3, 5, **options, rngs=flax_nnx.Rngs(0))
    for missing in set(jax_lstm.init_lstm(jax.random.key(0), 3, 5, **options)) - set(params):
        delattr(module, missing)
    for surplus, value in params.items():
        setattr(module, surplus, flax_nnx.Param(value))
    with pytest.raises(ValueError, match=message):
        module(X)
    cell = {n.removesuffix("_l0"): a for n, a in params.items()}
    if name == "surplus biases":
        carry = LSTMState(jnp.zeros((4, 5)), jnp.zeros((4, 5)))
        with pytest.raises(ValueError, match="'bias_ih', 'bias_hh', which its options do not call for"):
            linen.LSTMCell(hidden_size=5, bias=False).apply({"params": cell}, carry, X[:, 0])


def test_features_that_the_weights_do_not_fit_are_refused():
    variables = linen.LSTM(5).init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"must have shape \(20, 2\); got \(20, 3\).*features of x"):
        linen.LSTM(5).apply(variables, X[..., :2])


def test_modules_under_lifted_transformations_of_flax():
    lengths = jnp.array([6, 2, 0, 1])
    variables = linen.LSTM(5, **F64).init(jax.random.key(0), X)
    expected = linen.LSTM(5, **F64).apply(variables, X, lengths=lengths)[0]
    remat = flax.linen.remat(linen.LSTM)(5, **F64)
    np.testing.assert_array_equal(remat.apply(variables, X, None, lengths)[0], expected)
    over_batch = flax.linen.vmap(
        linen.LSTM, in_axes=(0, None, 0), variable_axes={"params": None}, split_rngs={"params": False}
    )(5, **F64)
    np.testing.assert_allclose(over_batch.apply(variables, X, None, lengths)[0], expected, rtol=1e-13)
    noisy = flax.linen.remat(linen.LSTM)(5, num_layers=2, dropout=0.5, deterministic=False, **F64)
    deep = linen.LSTM(5, num_layers=2, **F64).init(jax.random.key(0), X)
    y = noisy.apply(deep, X, rngs={"dropout": jax.random.key(1)})[0]
    assert not np.array_equal(y, linen.LSTM(5, num_layers=2, **F64).apply(deep, X)[0])


def test_a_state_can_be_serialised():
    state = LSTMState(jnp.arange(3.0), jnp.ones(2))
    back = flax.serialization.from_bytes(jax.tree.map(jnp.zeros_like, state), flax.serialization.to_bytes(state))
    jax.tree.map(np.testing.assert_array_equal, back, state)


def test_precision_reaches_the_models_every_product():
    model = linen.SequenceModel(7, 3, 5, 4, precision="highest")
    variables = model.init(jax.random.key(0), TOKENS)
    module = nnx.SequenceModel(7, 3, 5, 4, precision="highest", rngs=flax_nnx.Rngs(0))
    for run in (lambda: model.apply(variables, TOKENS)[0], lambda: module(TOKENS)[0]):
        text = str(jax.make_jaxpr(run)())
        assert text.count("dot_general") >= 3
        assert text.count("dot_general") == text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") + text.count(
            "precision=Precision.HIGHEST"
        )


@pytest.mark.parametrize("module", [linen, nnx])
def test_a_sequence_model_takes_the_arguments_of_its_lstm(module):
    of_lstm, of_model = (
        list(inspect.signature(kind.__call__).parameters)[2:] for kind in (module.LSTM, module.SequenceModel)
    )
    assert of_model == of_lstm
