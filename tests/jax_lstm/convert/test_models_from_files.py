"""Models that other libraries trained and stored in files give the same outputs in jax_lstm after conversion.

Other test files cover Keras's and ONNX's files.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx, serialization

import jax_lstm
from jax_lstm import LSTMState, convert
from tests.support.arrays import read_npz
from tests.support.requirements import need

B, T, D, H, STEPS = 4, 9, 3, 5, 20


@pytest.fixture(scope="module")
def task():
    """Return sequences, targets, and initial states that are not zero."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, T, D))
    target = np.tanh(np.cumsum(x, axis=1)[..., :1] * np.linspace(-1, 1, H))
    h0, c0 = rng.normal(scale=0.5, size=(2, B, H))
    return x, target, h0, c0


def trained(apply, weights, task):
    """Return weights after some steps of Adam on the mean square error. ``apply`` is the library's forward."""
    x, target, h0, c0 = task
    optimizer = optax.adam(0.05)

    @jax.jit
    def step(weights, state):
        loss = lambda w: jnp.mean((apply(w, x, h0, c0) - target) ** 2)
        value, gradients = jax.value_and_grad(loss)(weights)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(weights, updates), state, value

    weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), weights)
    state, losses = optimizer.init(weights), []
    for _ in range(STEPS):
        weights, state, value = step(weights, state)
        losses.append(float(value))
    assert losses[-1] < 0.8 * losses[0]
    return weights


def assert_same_outputs(params, expected, task):
    x, _, h0, c0 = task
    y, _ = jax.jit(jax_lstm.lstm)(params, x, LSTMState(h=h0[None], c=c0[None]))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


def test_flax_linen_msgpack(task, tmp_path):
    module = linen.RNN(linen.OptimizedLSTMCell(H, param_dtype=jnp.float64))
    apply = lambda w, x, h0, c0: module.apply(w, x, initial_carry=(c0, h0))
    weights = trained(apply, module.init(jax.random.key(0), task[0]), task)
    file = tmp_path / "flax.msgpack"
    file.write_bytes(serialization.to_bytes(weights))
    params = convert.from_flax(serialization.msgpack_restore(file.read_bytes()))
    assert_same_outputs(params, apply(weights, task[0], *task[2:]), task)


def test_flax_nnx_orbax(task, tmp_path):
    import orbax.checkpoint

    graph, weights, rest = nnx.split(nnx.RNN(nnx.LSTMCell(D, H, rngs=nnx.Rngs(0)), rngs=False), nnx.Param, ...)
    apply = lambda w, x, h0, c0: nnx.merge(graph, w, rest)(x, initial_carry=(c0, h0))
    weights = trained(apply, weights, task)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "nnx", nnx.to_pure_dict(weights))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        stored = checkpointer.restore(tmp_path / "nnx")
    assert_same_outputs(convert.from_nnx(stored), apply(weights, task[0], *task[2:]), task)


def test_haiku_npz(task, tmp_path):
    hk = need("haiku")
    unroll = lambda x, h0, c0: hk.dynamic_unroll(hk.LSTM(H), x, hk.LSTMState(h0, c0), time_major=False)[0]
    net = hk.without_apply_rng(hk.transform(unroll))
    x, _, h0, c0 = task
    weights = trained(net.apply, net.init(jax.random.key(0), x, h0, c0), task)
    file = tmp_path / "haiku.npz"
    np.savez(file, **{f"{module}:{name}": a for module, entries in weights.items() for name, a in entries.items()})
    stored = {}
    for key, a in read_npz(file).items():
        module, _, name = key.partition(":")
        stored.setdefault(module, {})[name] = a
    assert_same_outputs(convert.from_haiku(stored), net.apply(weights, x, h0, c0), task)


def test_equinox_leaves(task, tmp_path):
    eqx = need("equinox")

    def apply(cell, x, h0, c0):
        row = lambda x, h, c: jax.lax.scan(lambda s, x_t: (cell(x_t, s),) * 2, (h, c), x)[1][0]
        return jax.vmap(row)(x, h0, c0)

    make = lambda: eqx.nn.LSTMCell(D, H, key=jax.random.key(0), dtype=jnp.float64)
    cell = trained(apply, make(), task)
    file = tmp_path / "model.eqx"
    eqx.tree_serialise_leaves(file, cell)
    stored = eqx.tree_deserialise_leaves(file, eqx.filter_eval_shape(make))
    assert_same_outputs(convert.from_equinox(stored), apply(cell, task[0], *task[2:]), task)


@pytest.mark.parametrize("cell", [False, True])
def test_torch_state_dict(task, tmp_path, cell):
    torch = need("torch")
    x, target, h0, c0 = map(torch.tensor, task)
    torch.manual_seed(0)
    options = {"dtype": torch.float64} if cell else {"dtype": torch.float64, "batch_first": True}
    module = (torch.nn.LSTMCell if cell else torch.nn.LSTM)(D, H, **options)

    def run():
        if not cell:
            return module(x, (h0[None], c0[None]))[0]
        state, outputs = (h0, c0), []
        for x_t in x.unbind(1):
            state = module(x_t, state)
            outputs.append(state[0])
        return torch.stack(outputs, 1)

    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.mean((run() - target) ** 2).backward()
        optimizer.step()
    file = tmp_path / "model.pt"
    torch.save(module.state_dict(), file)
    stored = convert.from_torch(torch.load(file, weights_only=True))
    params = {f"{name}_l0": a for name, a in stored.items()} if cell else stored
    assert_same_outputs(params, run().detach().numpy(), task)
