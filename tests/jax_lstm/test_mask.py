"""``mask``: steps that do not take place. Left padding, holes and right padding, in both directions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import linen, nnx
from tests.support.arrays import drawn_weights, normal, state_of
from tests.support.requirements import need

B, T, D, H = 5, 7, 3, 4
X = normal((B, T, D))
MASK = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1],  # padding on the left
        [1, 0, 1, 1, 0, 0, 1],  # holes
        [1, 1, 1, 0, 0, 0, 0],  # padding on the right
        [0, 0, 0, 0, 0, 0, 0],  # nothing takes place
    ],
    bool,
)
NETWORKS = {
    "one": {},
    "both": {"num_layers": 2, "bidirectional": True},
    "projected": {"num_layers": 2, "bidirectional": True, "proj_size": 2},
}


def problem(**network):
    params = drawn_weights(D, H, **network)
    return params, state_of(params, B)


def row(state, b):
    return jax.tree.map(lambda a: a[:, b : b + 1], state)


def loss(y, last):
    return jnp.sum(jnp.sin(y)) + jnp.sum(last.h**2) + jnp.sum(jnp.cos(last.c))


def close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), got, expected)


@functools.cache
def row_by_row(network):
    """For each row: outputs, last state and gradients of the row with the other steps taken out, or None."""
    params, state = problem(**NETWORKS[network])

    def compact(params, x, state):
        y, last = jax_lstm.lstm(params, x, state)
        return loss(y, last), (y, last)

    gradient = jax.jit(jax.grad(compact, argnums=(0, 1, 2), has_aux=True))
    return [gradient(params, X[b : b + 1, mask], row(state, b)) if mask.any() else None for b, mask in enumerate(MASK)]


@pytest.mark.parametrize(
    ("network", "options"),
    [(network, {}) for network in NETWORKS]
    + [("projected", {"residuals": "lean"}), ("projected", {"checkpoint_every": 3})],
)
def test_each_row_is_as_its_steps_that_take_place(network, options):
    """Values and gradients are those of the rows with the other steps taken out."""
    params, state = problem(**NETWORKS[network])

    def masked(params, x, state):
        y, last = jax_lstm.lstm(params, x, state, mask=MASK, **options)
        return loss(y, last), (y, last)

    gradient = jax.jit(jax.grad(masked, argnums=(0, 1, 2), has_aux=True))
    (d_params, d_x, d_state), (y, last) = jax.device_get(gradient(params, X, state))
    total = jax.tree.map(np.zeros_like, params)
    for b, (mask, of_row) in enumerate(zip(MASK, row_by_row(network), strict=True)):
        np.testing.assert_array_equal(y[b, ~mask], 0.0)
        np.testing.assert_array_equal(d_x[b, ~mask], 0.0)
        if of_row is None:
            jax.tree.map(np.testing.assert_array_equal, row(last, b), row(state, b))
            continue
        (d_weights, d_taken, d_first), expected = of_row
        close((y[b : b + 1, mask], row(last, b)), expected)
        close((d_x[b : b + 1, mask], row(d_state, b)), (d_taken, d_first))
        total = jax.tree.map(np.add, total, d_weights)
    close(d_params, total)


@pytest.mark.parametrize("network", ["one", "both"])
def test_torch_on_the_compacted_rows(network):
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
def test_keras_masks(kind):
    """Keras carries the state through a masked step. Its output there repeats the last one, or is zero if asked."""
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
def test_a_mask_of_a_prefix_is_lengths(network):
    params, state = problem(**NETWORKS[network])
    lengths = np.array([7, 0, 3, 5, 1])
    reset = np.random.default_rng(0).random((B, T)) < 0.4
    options = {"reset": reset, "truncate_every": 2}
    mask = np.arange(T) < lengths[:, None]
    by_mask = jax_lstm.lstm(params, X, state, mask=mask, **options)
    jax.tree.map(np.testing.assert_array_equal, by_mask, jax_lstm.lstm(params, X, state, lengths=lengths, **options))
    together = jax_lstm.lstm(params, X, state, mask=MASK, lengths=lengths, **options)
    close(together, jax_lstm.lstm(params, X, state, mask=MASK & mask, **options))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("options", [{}, {"residuals": "lean"}, {"checkpoint_every": 3}])
def test_what_stands_at_a_step_that_does_not_take_place_reaches_nothing(bad, options):
    params, state = problem(**NETWORKS["projected"])
    dirty = np.where(MASK[..., None], X, bad)

    def run(params, x, state):
        return loss(*jax_lstm.lstm(params, x, state, mask=MASK, **options))

    run = jax.jit(jax.value_and_grad(run, argnums=(0, 1, 2)))
    clean = run(params, X, state)
    jax.tree.map(np.testing.assert_array_equal, run(params, dirty, state), clean)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_reset_in_a_hole_holds_for_the_next_step_that_takes_place(network):
    """Values with the boundaries moved by hand to the compacted rows; none beyond a direction's first step counts."""
    params, state = problem(**NETWORKS[network])
    back = jax.tree.map(lambda a: -a, state)
    reset = np.random.default_rng(3).random((B, T)) < 0.4
    run = jax.jit(jax_lstm.lstm)
    y, last = jax.device_get(run(params, X, state, mask=MASK, reset=reset, reset_state=back))
    for b, mask in enumerate(MASK[:-1]):
        times = np.flatnonzero(mask)
        since = np.concatenate(([-1], times[:-1]))
        moved = np.array([[reset[b, s + 1 : t + 1].any() for s, t in zip(since, times, strict=True)]])
        expected = run(params, X[b : b + 1, mask], row(state, b), reset=moved, reset_state=row(back, b))
        close((y[b : b + 1, mask], row(last, b)), expected)
    jax.tree.map(np.testing.assert_array_equal, row(last, B - 1), row(state, B - 1))


def test_a_cut_before_the_first_step_that_takes_place_cuts_nothing():
    """A learned initial state keeps its gradient through padding on the left.

    The first cut that counts stands before step 4, so that only step 3 hands a gradient to the initial state.
    """
    params, state = problem()
    mask = np.arange(T)[None].repeat(B, 0) >= 3
    run = lambda s: jnp.sum(jnp.sin(jax_lstm.lstm(params, X, s, mask=mask, truncate_every=2)[0]))
    first = lambda s: jnp.sum(jnp.sin(jax_lstm.lstm(params, X[:, 3:4], s)[0]))
    got = jax.grad(run)(state)
    assert np.abs(got.c).min() > 0
    close(got, jax.grad(first)(state))


def test_layouts_and_every_step():
    params, state = problem(**NETWORKS["both"])
    y, last = jax.device_get(jax_lstm.lstm(params, X, state, mask=MASK))
    major, last_major = jax_lstm.lstm(params, X.swapaxes(0, 1), state, mask=MASK.T, time_major=True)
    jax.tree.map(np.testing.assert_array_equal, (major.swapaxes(0, 1), last_major), (y, last))
    states = jax.device_get(jax_lstm.lstm_states(params, X, state, mask=MASK))
    np.testing.assert_array_equal(np.concatenate(states.h[-2:], -1), y)
    np.testing.assert_array_equal(states.c[:, ~MASK], 0.0)


def test_under_jit_vmap_and_a_second_derivative():
    params, state = problem(**NETWORKS["both"])
    run = lambda x, mask, state: jax_lstm.lstm(params, x, state, mask=mask)
    expected = run(X, MASK, state)
    mapped = jax.jit(jax.vmap(run, in_axes=(0, 0, 1), out_axes=(0, 1)))(X, jnp.asarray(MASK), state)
    close(mapped, expected)
    value = lambda x: loss(*run(x, MASK, state))
    hessian_vector = jax.jit(lambda x: jax.jvp(jax.grad(value), (x,), (x,))[1])(X)
    compact = X[2:3, MASK[2]]
    of_row = lambda x: loss(*jax_lstm.lstm(params, x, row(state, 2)))
    np.testing.assert_allclose(
        hessian_vector[2:3, MASK[2]], jax.jvp(jax.grad(of_row), (compact,), (compact,))[1], rtol=1e-11, atol=1e-13
    )


def test_an_rnn_and_the_modules_take_it():
    of_rnn = drawn_weights(D, H, kind="rnn", num_layers=2, bidirectional=True)
    y, _ = jax_lstm.rnn(of_rnn, X, mask=MASK)
    alone, _ = jax_lstm.rnn(of_rnn, X[2:3, MASK[2]])
    np.testing.assert_allclose(y[2:3, MASK[2]], alone, rtol=1e-12, atol=1e-14)
    params, state = problem(**NETWORKS["both"])
    expected = jax_lstm.lstm(params, X, state, mask=MASK)
    module = linen.LSTM(H, num_layers=2, bidirectional=True)
    close(module.apply({"params": params}, X, state, mask=MASK), expected)
    layer = nnx.LSTM(D, H, num_layers=2, bidirectional=True, rngs=flax_nnx.Rngs(0))
    for name, value in params.items():
        setattr(layer, name, flax_nnx.Param(value))
    close(layer(X, state, mask=MASK), expected)
