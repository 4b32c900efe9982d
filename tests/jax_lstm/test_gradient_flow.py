"""jax_lstm.gradient_flow, jitted and in both dtypes, compared with dense Jacobians and with plain autodiff."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState
from jax_lstm._src.flow import spectra
from tests.support.arrays import drawn_weights, normal
from tests.support.jaxprs import equations

T, D, H = 7, 3, 5
CELLS = ("tanh", "relu", "lstm")
FIELDS = tuple(jax_lstm.GradientFlow.__dataclass_fields__)
CLOSE = {"rtol": 0, "atol": 1e-10}  # error of a log2 in float64: rounding times the condition of these small networks


def network(cell, hidden=H, steps=T, scale=1.0, batch=()):
    kind = "lstm" if cell == "lstm" else "rnn"
    params = {k: scale * a for k, a in drawn_weights(D, hidden, kind=kind, seed=1).items()}
    x = normal((*batch, steps, D), seed=2)
    h, c, dh, dc = normal((4, 1, *batch, hidden), seed=3)
    dy = normal((*batch, steps, hidden), seed=4)
    state, dstate = (LSTMState(h, c), LSTMState(dh, dc)) if cell == "lstm" else (h, dh)
    return params, x, state, {"dy": dy, "dstate": dstate}


def flow(cell, *arguments, jacobians=True, products=True, **options):
    return _jitted(cell, jacobians, products)(*arguments, **options)


@cache
def _jitted(cell, jacobians, products):
    nonlinearity = {} if cell == "lstm" else {"nonlinearity": cell}
    return jax.jit(partial(jax_lstm.gradient_flow, jacobians=jacobians, products=products, **nonlinearity))


def states_of(cell, params, x, state, offsets, stop=False):
    """Return the states h `[T + 1, H]` and c by the equations. ``offsets`` are added to the states.

    If ``stop``, no gradient passes through W_hh.
    """
    w_ih, w_hh = params["weight_ih_l0"], params["weight_hh_l0"]
    bias = params["bias_ih_l0"] + params["bias_hh_l0"]
    h, c = (state.h[0], state.c[0]) if cell == "lstm" else (state[0], None)
    hs, cs = [h + offsets[0][0]], [None if c is None else c + offsets[1][0]]
    for t, x_t in enumerate(x, 1):
        previous = jax.lax.stop_gradient(hs[-1]) if stop else hs[-1]
        z = w_ih @ x_t + w_hh @ previous + bias
        if cell == "lstm":
            i, f, g, o = jnp.split(z, 4)
            sigmoid = jax.nn.sigmoid
            cs.append(sigmoid(f) * cs[-1] + sigmoid(i) * jnp.tanh(g) + offsets[1][t])
            hs.append(sigmoid(o) * jnp.tanh(cs[-1]) + offsets[0][t])
        else:
            hs.append((jnp.tanh(z) if cell == "tanh" else jax.nn.relu(z)) + offsets[0][t])
    return hs, cs


def derivatives(cell, params, x, state, dy, dstate, stop=False):
    """Return dL/dh_t and dL/dc_t by autodiff, as the gradients of the offsets of the states."""
    hidden = dy.shape[-1]

    def loss(offsets):
        hs, cs = states_of(cell, params, x, state, offsets, stop)
        total = jnp.sum(dy * jnp.stack(hs[1:]))
        if cell != "lstm":
            return total + jnp.sum(dstate[0] * hs[-1])
        return total + jnp.sum(dstate.h[0] * hs[-1]) + jnp.sum(dstate.c[0] * cs[-1])

    return jax.jit(jax.grad(loss))(jnp.zeros((2, len(x) + 1, hidden)))


def jacobians(cell, params, x, state):
    """Return the dense Jacobians J_1 ... J_T by autodiff of the equations."""
    hs, cs = states_of(cell, params, x, state, jnp.zeros((2, len(x) + 1, 1)))

    def step(s, x_t):
        start = LSTMState(*jnp.split(s, 2)) if cell == "lstm" else s
        start = jax.tree.map(lambda a: a[None], start)
        h, c = states_of(cell, params, x_t[None], start, jnp.zeros((2, 2, 1)))
        return jnp.concatenate((h[1], c[1])) if cell == "lstm" else h[1]

    states = jnp.concatenate((jnp.stack(hs), jnp.stack(cs)), axis=-1) if cell == "lstm" else jnp.stack(hs)
    return np.asarray(jax.jit(jax.vmap(jax.jacobian(step)))(states[:-1], x))


def log2_norms(a):
    with np.errstate(divide="ignore"):
        return np.log2(np.linalg.norm(np.asarray(a), axis=-1))


@pytest.mark.parametrize("cell", CELLS)
def test_every_quantity_agrees_with_the_dense_one(cell, monkeypatch):
    monkeypatch.setattr(spectra, "CHUNK", 5)  # seven steps are then two chunks, and the second one is padded
    params, x, state, cotangents = network(cell)
    got = flow(cell, params, x, state, **cotangents)
    dh, dc = derivatives(cell, params, x, state, **cotangents)
    np.testing.assert_allclose(got.log2_dh, log2_norms(dh), **CLOSE)
    if cell == "lstm":
        _, along = derivatives(cell, params, x, state, **cotangents, stop=True)
        np.testing.assert_allclose(got.log2_dc, log2_norms(dc), **CLOSE)
        np.testing.assert_allclose(got.log2_along_c, log2_norms(along), **CLOSE)
        np.testing.assert_allclose(got.log2_through_h[:-1], log2_norms(dc - along)[:-1], **CLOSE)
        assert np.isneginf(got.log2_through_h[-1])
        a, b = (np.linalg.norm(v, axis=-1) for v in (along, dc - along))
        np.testing.assert_allclose(got.share_along_c, a / (a + b), **CLOSE)
    else:
        assert got.log2_dc is got.log2_along_c is got.log2_through_h is None
    steps = jacobians(cell, params, x, state)
    values = np.linalg.svd(steps, compute_uv=False)
    np.testing.assert_allclose(got.log2_step_max, np.log2(values[:, 0]), **CLOSE)
    products = [np.eye(steps.shape[1])]
    for step in steps[::-1]:
        products.insert(0, products[0] @ step)
    np.testing.assert_allclose(got.log2_product_max, np.log2(np.linalg.norm(products, 2, axis=(1, 2))), **CLOSE)
    if cell == "relu":  # an inactive unit makes the step's Jacobian singular, and every product with it too
        inactive = values[:, -1] < 1e-14
        np.testing.assert_array_equal(np.isneginf(got.log2_step_min), inactive)
        assert np.all(np.isneginf(got.log2_product_min[: np.flatnonzero(inactive)[-1] + 1]))
        return
    np.testing.assert_allclose(got.log2_step_min, np.log2(values[:, -1]), **CLOSE)
    inverses = np.linalg.inv(products[-4:])  # longer float64 products have lost their smallest singular value
    np.testing.assert_allclose(got.log2_product_min[-4:], -np.log2(np.linalg.norm(inverses, 2, axis=(1, 2))), atol=1e-6)


def test_nothing_underflows_and_powers_of_two_are_exact():
    """W_hh is a signed permutation / 2 and there is no input: every J_t is W_hh, and every step halves the gradient."""
    steps, hidden = 5_000, 4
    w = jnp.eye(hidden)[::-1].at[0].multiply(-1) / 2
    params = {"weight_ih_l0": jnp.zeros((hidden, 1)), "weight_hh_l0": w}
    got = flow("tanh", params, jnp.zeros((steps, 1)), dstate=jnp.ones((1, hidden)))
    back = np.arange(steps, -1, -1.0)
    np.testing.assert_array_equal(got.log2_dh, 1 - back)
    np.testing.assert_allclose(got.log2_product_max, -back, rtol=1e-15)
    np.testing.assert_allclose(got.log2_product_min, -back, rtol=1e-15)
    np.testing.assert_allclose(got.log2_step_max, -1, rtol=1e-15)


def test_the_additive_path_is_the_product_of_forget_gates():
    """Without recurrent weights dL/dc passes only along c, with the factor f = σ(b) per step."""
    steps, hidden, bias = 3_000, 3, -2.0
    params = {"weight_ih_l0": jnp.zeros((4 * hidden, 1)), "weight_hh_l0": jnp.zeros((4 * hidden, hidden))}
    params |= {"bias_ih_l0": jnp.zeros(4 * hidden), "bias_hh_l0": jnp.full(4 * hidden, bias)}
    last = LSTMState(jnp.zeros((1, hidden)), jnp.eye(hidden)[:1])
    got = flow("lstm", params, jnp.ones((steps, 1)), dstate=last, products=False)
    expected = np.arange(steps, -1, -1) * np.log2(1 / (1 + np.exp(-bias)))
    np.testing.assert_allclose(got.log2_dc, expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(got.log2_along_c, expected, rtol=1e-13, atol=1e-15)
    assert np.all(np.isneginf(got.log2_through_h))
    np.testing.assert_array_equal(got.share_along_c, 1.0)
    assert np.all(np.isneginf(got.log2_step_min))  # W_ho is singular, and so is every J_t


@pytest.mark.parametrize("cell", [pytest.param("tanh", marks=pytest.mark.slow), "lstm"])
def test_float32_returns_the_logarithm_of_a_gradient_below_its_range(cell):
    """After 400 steps the gradient is far below 2^-149. The jitted function is the same as in float64."""
    params, x, state, _ = network(cell, steps=400)
    last = LSTMState(jnp.ones((1, H)), jnp.ones((1, H))) if cell == "lstm" else jnp.ones((1, H))
    parts = {"jacobians": False, "products": cell == "tanh"}
    wide = flow(cell, params, x, state, dstate=last, **parts)
    narrow = jax.tree.map(lambda a: a.astype(jnp.float32), (params, x, state, last))
    got = flow(cell, *narrow[:3], dstate=narrow[3], **parts)
    assert wide.log2_dh[0] < -200
    for name in FIELDS:
        a, b = getattr(got, name), getattr(wide, name)
        if a is None:
            continue
        assert a.dtype == jnp.float32
        finite = np.isfinite(b)
        np.testing.assert_array_equal(np.isfinite(a), finite, name)
        # The log of 2^-800 is rounded to 5e-5, and J^-1 amplifies rounding by the condition of W.
        np.testing.assert_allclose(a[finite], b[finite], atol=0.05 if name.endswith("min") else 2e-3, err_msg=name)


def test_the_rows_of_a_batch_are_independent():
    params, x, state, cotangents = network("lstm", batch=(2, 3), steps=4)
    parts = {"jacobians": False, "products": False}
    whole = flow("lstm", params, x, state, **cotangents, **parts)
    one = jax.tree.map(lambda a: a[:, 1, 2], (state, cotangents["dstate"]))
    row = flow("lstm", params, x[1, 2], one[0], dy=cotangents["dy"][1, 2], dstate=one[1], **parts)
    for name in FIELDS:
        if getattr(row, name) is not None:
            assert getattr(whole, name).shape == (2, 3, *getattr(row, name).shape)
            np.testing.assert_allclose(getattr(whole, name)[1, 2], getattr(row, name), err_msg=name, **CLOSE)
    params, x, *_ = network("tanh", batch=(2,), steps=4)
    whole, reversed_rows = (flow("tanh", params, x[::step], jacobians=False) for step in (1, -1))
    for name in ("log2_product_max", "log2_product_min"):
        np.testing.assert_allclose(getattr(whole, name), getattr(reversed_rows, name)[::-1], err_msg=name, **CLOSE)


def test_parts_are_optional_and_the_default_cotangent_of_the_last_h_is_random():
    params, x, _, _ = network("lstm")
    got = flow("lstm", params, x, jacobians=False, products=False)
    assert got.log2_step_max is got.log2_step_min is got.log2_product_max is got.log2_product_min is None
    expected = np.linalg.norm(jax.random.normal(jax.random.key(0), (1, H)))
    np.testing.assert_allclose(np.exp2(got.log2_dh[-1]), expected)
    other = flow("lstm", params, x, jacobians=False, products=False, key=jax.random.key(7))
    assert abs(other.log2_dh[-1] - got.log2_dh[-1]) > 1e-3


def test_nan_in_x_gives_nan():
    params, x, h, cotangents = network("tanh")
    got = flow("tanh", params, np.where(np.arange(T)[:, None] == 4, np.nan, x), h, **cotangents)
    assert np.isnan(got.log2_dh[0])
    assert np.isnan(got.log2_step_max[4])
    assert np.isnan(got.log2_product_max[0])
    assert np.isfinite(got.log2_step_max[3])


def test_no_jacobian_is_formed():
    """No array of the program is as large as the Jacobians of all steps."""
    steps, hidden = 60, 40
    params, x, _, _ = network("lstm", hidden, steps)
    run = partial(jax_lstm.gradient_flow, products=False)
    sizes = [var.aval.size for equation, _ in equations(run, params, x) for var in equation.outvars]
    assert max(sizes) < steps * (2 * hidden) ** 2


def _wrong_input():
    params, x, state, cotangents = network("lstm")
    rnn, x_rnn, h, _ = network("tanh")
    deep = drawn_weights(D, H, num_layers=2)
    bidirectional = drawn_weights(D, H, kind="rnn", bidirectional=True)
    projected = drawn_weights(D, H, proj_size=2)
    return [
        ((deep, x), {}, ValueError, "num_layers = 2"),
        ((bidirectional, x), {}, ValueError, "bidirectional = True"),
        ((projected, x), {}, ValueError, "proj_size = 2"),
        ((params, x), {"nonlinearity": "relu"}, ValueError, "option of an RNN"),
        ((rnn, x_rnn), {"nonlinearity": "elu"}, ValueError, "'tanh' or 'relu'; got 'elu'"),
        ((params, x, (state.h, state.c)), {}, TypeError, "state must be a jax_lstm.LSTMState"),
        ((rnn, x_rnn, LSTMState(h, None)), {}, TypeError, "only h"),
        ((params, x), {"dy": cotangents["dy"][:-1]}, ValueError, r"dy must have shape \(7, 5\); got \(6, 5\)"),
        ((params, x), {"dstate": LSTMState(state.h, state.c[0])}, ValueError, r"dstate.c must have shape \(1, 5\)"),
        ((params, x), {"dy": jnp.ones((T, H), int)}, TypeError, "dy must be floating point"),
        ((params, x[:0]), {}, ValueError, "T = 0"),
        ((params, x[:, :1]), {}, ValueError, "D = 3"),
        (([1, 2], x), {}, TypeError, "flat dict of arrays"),
        (({}, x), {}, ValueError, "params lacks 'weight_ih_l0'"),
    ]


@pytest.mark.parametrize("n", range(14))
def test_an_error_names_the_wrong_input(n):
    arguments, options, kind, words = _wrong_input()[n]
    with pytest.raises(kind, match=words):
        jax_lstm.gradient_flow(*arguments, **options)
