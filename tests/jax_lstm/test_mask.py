"""``mask``: steps that are left out. Left padding, holes and right padding, in both directions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import linen, nnx
from tests.support.arrays import assert_close, drawn_weights, normal, state_of
from tests.support.requirements import need

B, T, D, H = 5, 7, 3, 4
X = normal((B, T, D))
MASK = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1],  # padding on the left
        [1, 0, 1, 1, 0, 0, 1],  # holes
        [1, 1, 1, 1, 0, 0, 0],  # padding on the right
        [0, 0, 0, 0, 0, 0, 0],  # no step
    ],  # rows of four steps share a compiled reference
    bool,
)
NETWORKS = {
    "one layer": {},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "projected": {"num_layers": 2, "bidirectional": True, "proj_size": 2},
}


def problem(**network):
    params = drawn_weights(D, H, **network)
    return params, state_of(params, B)


def row_of(state, b):
    return jax.tree.map(lambda a: a[:, b : b + 1], state)


def loss(y, last):
    return jnp.sum(jnp.sin(y)) + jnp.sum(last.h**2) + jnp.sum(jnp.cos(last.c))


@functools.cache
def row_by_row(network):
    """Return gradients and outputs of each row without its masked steps; None for a row that has no other steps."""
    params, state = problem(**NETWORKS[network])

    def compact(params, x, state):
        y, last = jax_lstm.lstm(params, x, state)
        return loss(y, last), (y, last)

    gradient = jax.jit(jax.grad(compact, argnums=(0, 1, 2), has_aux=True))
    return [
        gradient(params, X[b : b + 1, mask], row_of(state, b)) if mask.any() else None for b, mask in enumerate(MASK)
    ]


@pytest.mark.parametrize(
    ("network", "options"),
    [(network, {}) for network in NETWORKS] + [("projected", {"checkpoint_every": 3})],
)
def test_each_row_agrees_with_the_row_without_its_masked_steps(network, options):
    """Values and gradients are compared."""
    params, state = problem(**NETWORKS[network])

    def masked(params, x, state):
        y, last = jax_lstm.lstm(params, x, state, mask=MASK, **options)
        return loss(y, last), (y, last)

    gradient = jax.jit(jax.grad(masked, argnums=(0, 1, 2), has_aux=True))
    (d_params, d_x, d_state), (y, last) = jax.device_get(gradient(params, X, state))
    total = jax.tree.map(np.zeros_like, params)
    for b, (mask, reference) in enumerate(zip(MASK, row_by_row(network), strict=True)):
        np.testing.assert_array_equal(y[b, ~mask], 0.0)
        np.testing.assert_array_equal(d_x[b, ~mask], 0.0)
        if reference is None:
            jax.tree.map(np.testing.assert_array_equal, row_of(last, b), row_of(state, b))
            continue
        (d_weights, d_unmasked, d_first), expected = reference
        assert_close((y[b : b + 1, mask], row_of(last, b)), expected)
        assert_close((d_x[b : b + 1, mask], row_of(d_state, b)), (d_unmasked, d_first))
        total = jax.tree.map(np.add, total, d_weights)
    assert_close(d_params, total)


@pytest.mark.parametrize("network", ["one layer", "bidirectional"])
def test_a_mask_agrees_with_torch_on_rows_without_the_masked_steps(network):
    torch = need("torch")
    params, state = problem(**NETWORKS[network])
    module = torch.nn.LSTM(D, H, batch_first=True, **NETWORKS[network]).double()
    module.load_state_dict({name: torch.from_numpy(a) for name, a in jax_lstm.convert.to_torch(params).items()})
    y, last = jax_lstm.lstm(params, X, state, mask=MASK)
    gradient = jax.jit(jax.grad(lambda p, x: loss(*jax_lstm.lstm(p, x, state, mask=MASK)), argnums=(0, 1)))
    d_params, d_x = gradient(params, X)
    x = torch.tensor(np.array(X), requires_grad=True)
    total = float(sum(np.sum(np.asarray(a[:, -1]) ** 2) for a in (state.h,))) + float(np.cos(state.c[:, -1]).sum())
    total = torch.tensor(total)
    for b, mask in enumerate(MASK[:-1]):
        h, c = (torch.tensor(np.array(a[:, b : b + 1])) for a in (state.h, state.c))
        theirs, (h_n, c_n) = module(x[b : b + 1, torch.tensor(mask)], (h, c))
        np.testing.assert_allclose(y[b, mask], theirs[0].detach(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(last.h[:, b], h_n[:, 0].detach(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(last.c[:, b], c_n[:, 0].detach(), rtol=1e-12, atol=1e-14)
        total = total + theirs.sin().sum() + (h_n**2).sum() + c_n.cos().sum()
    total.backward()
    np.testing.assert_allclose(d_x, x.grad, rtol=1e-12, atol=1e-13)
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(d_params[name], parameter.grad, rtol=1e-12, atol=1e-13)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("kind", ["left", "hole", "right"])
def test_a_mask_agrees_with_keras(kind):
    """Keras keeps the state in a masked step. Its output there repeats the last one, or is zero if requested."""
    from tests.support.keras_layers import EXACT, drawn, keras

    mask = MASK[{"left": 1, "hole": 2, "right": 3}[kind]][None]
    x = np.asarray(X[:1])
    options = {"return_sequences": True, "return_state": True, "dtype": "float64", **EXACT}
    zero, repeated = (keras.layers.LSTM(H, zero_output_for_mask=each, **options) for each in (True, False))
    for layer in (zero, repeated):
        layer.build(x.shape)
        drawn(layer)
    params = jax_lstm.convert.from_keras(zero.get_weights())
    y, last = jax_lstm.lstm(params, x, mask=mask)
    for name, got, theirs in zip("yhc", (y, last.h[0], last.c[0]), zero(x, mask=mask), strict=True):
        np.testing.assert_allclose(got, theirs, rtol=1e-12, atol=1e-14, err_msg=name)
    latest = jax.lax.cummax(jnp.where(mask, jnp.arange(T), 0), axis=1)
    filled = jnp.take_along_axis(y, latest[..., None], axis=1)
    np.testing.assert_allclose(filled, repeated(x, mask=mask)[0], rtol=1e-12, atol=1e-14)
    by_length, _ = jax_lstm.lstm(params, x, lengths=mask.sum(1))
    assert (np.abs(by_length - y).max() > 0.01) == (kind != "right")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_mask_of_the_first_steps_agrees_with_lengths(network):
    params, state = problem(**NETWORKS[network])
    lengths = np.array([7, 0, 3, 5, 1])
    reset = np.random.default_rng(0).random((B, T)) < 0.4
    options = {"reset": reset, "truncate_every": 2}
    mask = np.arange(T) < lengths[:, None]
    by_mask = jax_lstm.lstm(params, X, state, mask=mask, **options)
    jax.tree.map(np.testing.assert_array_equal, by_mask, jax_lstm.lstm(params, X, state, lengths=lengths, **options))
    together = jax_lstm.lstm(params, X, state, mask=MASK, lengths=lengths, **options)
    assert_close(together, jax_lstm.lstm(params, X, state, mask=MASK & mask, **options))


@functools.cache
def masked_value_and_gradient(**options):
    """Compile once for every kind of padding."""
    run = lambda params, x, state: loss(*jax_lstm.lstm(params, x, state, mask=MASK, **options))
    return jax.jit(jax.value_and_grad(run, argnums=(0, 1, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("options", [{}, {"checkpoint_every": 3}])
def test_the_values_of_masked_steps_affect_nothing(bad, options):
    params, state = problem(**NETWORKS["projected"])
    bad_x = np.where(MASK[..., None], X, bad)
    run = masked_value_and_gradient(**options)
    clean = run(params, X, state)
    jax.tree.map(np.testing.assert_array_equal, run(params, bad_x, state), clean)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_reset_at_a_masked_step_takes_effect_at_the_next_step(network):
    """Compare with rows without the masked steps, in which the resets are moved to the next steps."""
    params, state = problem(**NETWORKS[network])
    reset_state = jax.tree.map(lambda a: -a, state)
    reset = np.random.default_rng(3).random((B, T)) < 0.4
    run = jax.jit(jax_lstm.lstm)
    y, last = jax.device_get(run(params, X, state, mask=MASK, reset=reset, reset_state=reset_state))
    for b, mask in enumerate(MASK[:-1]):
        times = np.flatnonzero(mask)
        since = np.concatenate(([-1], times[:-1]))
        moved = np.array([[reset[b, s + 1 : t + 1].any() for s, t in zip(since, times, strict=True)]])
        expected = run(params, X[b : b + 1, mask], row_of(state, b), reset=moved, reset_state=row_of(reset_state, b))
        assert_close((y[b : b + 1, mask], row_of(last, b)), expected)
    jax.tree.map(np.testing.assert_array_equal, row_of(last, B - 1), row_of(state, B - 1))


def test_a_truncation_before_the_first_unmasked_step_has_no_effect():
    """A learned initial state keeps its gradient in spite of padding on the left.

    The first truncation that has an effect is before step 4, so only step 3 gives the initial state a gradient.
    """
    params, state = problem()
    mask = np.arange(T)[None].repeat(B, 0) >= 3
    run = lambda s: jnp.sum(jnp.sin(jax_lstm.lstm(params, X, s, mask=mask, truncate_every=2)[0]))
    first = lambda s: jnp.sum(jnp.sin(jax_lstm.lstm(params, X[:, 3:4], s)[0]))
    got = jax.grad(run)(state)
    assert np.abs(got.c).min() > 0
    assert_close(got, jax.grad(first)(state))


def test_layouts_and_states_of_every_step():
    params, state = problem(**NETWORKS["bidirectional"])
    y, last = jax.device_get(jax_lstm.lstm(params, X, state, mask=MASK))
    major, last_major = jax_lstm.lstm(params, X.swapaxes(0, 1), state, mask=MASK.T, time_major=True)
    jax.tree.map(np.testing.assert_array_equal, (major.swapaxes(0, 1), last_major), (y, last))
    states = jax.device_get(jax_lstm.lstm_states(params, X, state, mask=MASK))
    np.testing.assert_array_equal(np.concatenate(states.h[-2:], -1), y)
    np.testing.assert_array_equal(states.c[:, ~MASK], 0.0)


def test_a_mask_under_jit_vmap_and_a_second_derivative():
    params, state = problem(**NETWORKS["bidirectional"])
    run = lambda x, mask, state: jax_lstm.lstm(params, x, state, mask=mask)
    expected = run(X, MASK, state)
    mapped = jax.jit(jax.vmap(run, in_axes=(0, 0, 1), out_axes=(0, 1)))(X, jnp.asarray(MASK), state)
    assert_close(mapped, expected)
    value = lambda x: loss(*run(x, MASK, state))
    hessian_vector = jax.jit(lambda x: jax.jvp(jax.grad(value), (x,), (x,))[1])(X)
    compact = X[2:3, MASK[2]]
    single = lambda x: loss(*jax_lstm.lstm(params, x, row_of(state, 2)))
    np.testing.assert_allclose(
        hessian_vector[2:3, MASK[2]], jax.jvp(jax.grad(single), (compact,), (compact,))[1], rtol=1e-11, atol=1e-13
    )


def test_an_rnn_and_the_modules_take_a_mask():
    rnn_params = drawn_weights(D, H, kind="rnn", num_layers=2, bidirectional=True)
    y, _ = jax_lstm.rnn(rnn_params, X, mask=MASK)
    single, _ = jax_lstm.rnn(rnn_params, X[2:3, MASK[2]])
    np.testing.assert_allclose(y[2:3, MASK[2]], single, rtol=1e-12, atol=1e-14)
    params, state = problem(**NETWORKS["bidirectional"])
    expected = jax_lstm.lstm(params, X, state, mask=MASK)
    module = linen.LSTM(H, num_layers=2, bidirectional=True)
    assert_close(module.apply({"params": params}, X, state, mask=MASK), expected)
    layer = nnx.LSTM(D, H, num_layers=2, bidirectional=True, rngs=flax_nnx.Rngs(0))
    for name, value in params.items():
        setattr(layer, name, flax_nnx.Param(value))
    assert_close(layer(X, state, mask=MASK), expected)
