"""Eight simulated CPU devices: the same numbers under jit with NamedSharding, an explicit mesh, and shard_map."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm
from jax_lstm import LSTMState, linen
from tests.support.arrays import assert_close, drawn_weights, normal, state_of

B, T, D, H = 16, 6, 3, 4
PARAMS = drawn_weights(D, H, bidirectional=True, proj_size=2)
X = normal((B, T, D))
LENGTHS = np.arange(B) % (T + 1)
OPTIONS = {
    "default": {},
    "chunks": {"checkpoint_every": 4},
    "lengths and truncation": {"lengths": LENGTHS, "truncate_every": 2},
}


def loss(params, x, state=None, **options):
    y, last = jax_lstm.lstm(params, x, state, **options)
    return jnp.sum(jnp.sin(y)) + jnp.sum(last.h**2) + jnp.sum(last.c**3)


def gradients(params, x, **options):
    return jax.value_and_grad(loss, argnums=(0, 1))(params, x, **options)


@pytest.fixture(scope="module")
def expected():
    return {name: jax.jit(lambda p, x, o=o: gradients(p, x, **o))(PARAMS, X) for name, o in OPTIONS.items()}


def test_there_are_eight_devices():
    assert len(jax.devices()) == 8


@pytest.mark.parametrize("name", OPTIONS)
def test_jit_with_named_sharding(name, expected):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x = jax.device_put(X, NamedSharding(mesh, P("data")))
    params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    got = jax.jit(lambda p, x: gradients(p, x, **OPTIONS[name]))(params, x)
    assert_close(got, expected[name])
    assert got[1][1].sharding.is_equivalent_to(x.sharding, 3)


@pytest.mark.parametrize("name", OPTIONS)
def test_explicit_mesh_with_the_default_state(name, expected):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x, params = jax.device_put(X, P("data")), jax.device_put(PARAMS, P())
        options = dict(OPTIONS[name])
        if "lengths" in options:
            options["lengths"] = jax.device_put(LENGTHS, P("data"))
        run = jax.jit(lambda p, x: (jax_lstm.lstm(p, x, **options), gradients(p, x, **options)))
        (y, last), got = run(params, x)
        assert jax.typeof(y).sharding.spec[0] == "data"
        assert jax.typeof(last.c).sharding.spec[1] == "data"
        assert_close(got, expected[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_shard_map_with_the_default_state(name, expected):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    options = {k: v for k, v in OPTIONS[name].items() if k != "lengths"}

    def local(params, x, lengths):
        rest = {"lengths": lengths} if "lengths" in OPTIONS[name] else {}
        return jax.lax.psum(loss(params, x, **options, **rest), "data")

    total = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P())
    got = jax.jit(jax.value_and_grad(lambda p, x: total(p, x, LENGTHS), argnums=(0, 1)))(PARAMS, X)
    assert_close(got, expected[name])


def test_shard_map_with_a_replicated_state():
    """A learned initial state is replicated, while x is not. The carry must have one type in spite of that."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    first = state_of(PARAMS, 1)

    def local(params, x, h, c):
        state = LSTMState(*(jnp.broadcast_to(a, (2, x.shape[0], a.shape[-1])) for a in (h, c)))
        return jax.lax.psum(loss(params, x, state), "data")

    single = jax.jit(jax.grad(lambda p, h, c: loss(p, X, LSTMState(*(jnp.repeat(a, B, 1) for a in (h, c)))), (0, 1, 2)))
    total = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data"), P(), P()), out_specs=P())
    got = jax.jit(jax.grad(lambda p, h, c: total(p, X, h, c), (0, 1, 2)))(PARAMS, first.h, first.c)
    assert_close(got, single(PARAMS, first.h, first.c))


def test_shard_map_over_an_ensemble_of_parameters():
    """x is replicated, and the weights vary by device."""
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    ensemble = jax.tree.map(lambda a: np.stack([a * (1 + n / 8) for n in range(8)]), PARAMS)

    def local(params, x):
        return jax_lstm.lstm(jax.tree.map(lambda a: a[0], params), x)[0][None]

    run = jax.shard_map(local, mesh=mesh, in_specs=(P("model"), P()), out_specs=P("model"))
    assert_close(jax.jit(run)(ensemble, X), jax.jit(jax.vmap(lambda p: jax_lstm.lstm(p, X)[0]))(ensemble))


@pytest.mark.parametrize("name", ["weight_hh_l0", "bias_hh_l0", "weight_hr_l0", "reset", "lengths"])
def test_shard_map_in_which_only_one_operand_varies(name):
    """The type of the loop's carry depends on every operand, not only on x."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params = drawn_weights(D, H, proj_size=2)
    x = X[:2]
    flags = {
        "reset": np.random.default_rng(2).random((8, 2, T)) < 0.3,
        "lengths": np.random.default_rng(2).integers(0, T, (8, 2)),
    }
    varying = flags.get(name, params[name][None] * np.arange(1.0, 9).reshape(8, *(1,) * params[name].ndim)
                       if name in params else None)  # fmt: skip

    def run(value):
        if name in params:
            return jax_lstm.lstm(params | {name: value}, x)[0]
        return jax_lstm.lstm(params, x, **{name: value})[0]

    sharded = jax.shard_map(lambda v: run(v[0])[None], mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    assert_close(jax.jit(sharded)(varying), jax.jit(jax.vmap(run))(varying))


@pytest.mark.parametrize("is_set", [True, False])
def test_explicit_mesh_with_a_batch_axis_of_one_over_an_axis_of_one(is_set):
    x = X[:8, None]
    expected = jax.jit(gradients)(PARAMS, x)
    mesh = jax.make_mesh((8, 1), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh) if is_set else nullcontext():
        x = jax.device_put(x, NamedSharding(mesh, P("data", "model")))
        y, got = jax.jit(lambda p, x: (jax_lstm.lstm(p, x)[0], gradients(p, x)))(PARAMS, x)
        for a in (y, got[1][1]):
            assert jax.typeof(a).sharding.spec[:2] == ("data", "model")
        assert_close(got, expected)


@pytest.mark.isa
def test_explicit_mesh_with_dropout_and_an_embedding():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    tokens, keys = np.arange(B * T).reshape(B, T) % 7, jax.random.split(jax.random.key(0))
    model = linen.SequenceModel(7, D, H, 5, num_layers=2, dropout=0.5)
    variables = jax.jit(partial(model.init, deterministic=True))(keys[0], tokens)
    run = jax.jit(lambda v, t, k: model.apply(v, t, deterministic=False, rngs={"dropout": k})[0])
    expected = run(variables, tokens, keys[1])
    with jax.set_mesh(mesh):
        logits = run(jax.device_put(variables, P()), jax.device_put(tokens, P("data")), keys[1])
        assert jax.typeof(logits).sharding.spec[0] == "data"
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-7)
