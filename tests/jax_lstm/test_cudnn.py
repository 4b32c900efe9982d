"""The cuDNN backend, except the call itself, which needs a GPU.

On a CPU `tests.support.fake_cudnn` replaces the call. All other code is the real one: layers, directions, lengths,
states and gradients. JAX's real primitives are lowered for CUDA, but do not run.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax import export
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jax_lstm
from jax_lstm import choose_backend, linen, nnx
from tests.support import fake_cudnn
from tests.support.arrays import assert_close_float32
from tests.support.fake_cudnn import LENGTHS, NETWORKS, B, D, H, T, problem

GPUS = [device for device in jax.devices() if device.platform == "gpu"]
VALID = np.arange(T)[None, :, None] < LENGTHS[:, None, None]


@pytest.fixture
def calls(monkeypatch):
    return fake_cudnn.install(monkeypatch)


def value_and_gradients(backend, **options):
    def loss(params, x, state):
        y, last = jax_lstm.lstm(params, x, state, backend=backend, **options)
        weigh = lambda a: jnp.sum(a * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape) + a**3)
        return weigh(y) + weigh(last.h) + weigh(last.c), (y, last)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("network", NETWORKS)
def test_cudnn_agrees_with_scan(network, lengths, calls):
    arguments = problem(**NETWORKS[network])
    expected = value_and_gradients("scan", lengths=lengths)(*arguments)
    assert not calls
    with jax.numpy_rank_promotion("raise"):
        got = value_and_gradients("cudnn", lengths=lengths)(*arguments)
    assert len(calls) == 2 * arguments[2].h.shape[0]  # per layer and direction, one to trace and one to differentiate
    assert_close_float32(got, expected)
    (_, (y, last)), _ = got
    assert (y.dtype, last.h.dtype, last.c.dtype) == (jnp.float32,) * 3


def test_an_empty_row_keeps_the_bits_of_its_state_and_passes_only_its_gradient(calls):
    params, x, state = problem(num_layers=2, bidirectional=True)
    run = lambda x, s: jax_lstm.lstm(params, x, s, lengths=np.zeros(B, int), backend="cudnn")
    y, last = jax.jit(run)(x, state)
    np.testing.assert_array_equal(y, 0.0)
    jax.tree.map(np.testing.assert_array_equal, last, state)
    gradient = jax.jit(jax.grad(lambda x, s: jnp.sum(run(x, s)[1].c * 2), argnums=(0, 1)))(x, state)
    np.testing.assert_array_equal(gradient[0], 0.0)
    np.testing.assert_array_equal(gradient[1].c, 2.0)
    np.testing.assert_array_equal(gradient[1].h, 0.0)


def test_the_padding_affects_nothing(calls):
    params, x, state = problem(num_layers=2, bidirectional=True)
    run = value_and_gradients("cudnn", lengths=LENGTHS)
    clean, dirty = run(params, x, state), run(params, jnp.where(VALID, x, jnp.nan), state)
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)
    np.testing.assert_array_equal(clean[0][1][0][~np.broadcast_to(VALID, (B, T, 2 * H))], 0.0)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(clean))


def test_lengths_under_jit_are_clipped(calls):
    params, x, state = problem(bidirectional=True)
    run = jax.jit(lambda n: jax_lstm.lstm(params, x, state, lengths=n, backend="cudnn"))
    got, expected = run(jnp.array([2**32 + 2, 6, -3, 1])), run(jnp.array([6, 6, 0, 1]))
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert np.isfinite(got[0]).all()


@pytest.mark.parametrize("batch", [(), (2, 3), (1,)])
def test_any_number_of_batch_axes(batch, calls):
    arguments = problem(batch)
    lengths = np.arange(np.prod(batch, dtype=int)).reshape(batch) + 1
    expected = value_and_gradients("scan", lengths=lengths)(*arguments)
    assert_close_float32(value_and_gradients("cudnn", lengths=lengths)(*arguments), expected)


def test_time_major_dropout_and_no_state(calls):
    params, x, _ = problem(num_layers=2, bidirectional=True)
    options = {"dropout": 0.5, "dropout_key": jax.random.key(3), "time_major": True}
    run = lambda backend: jax.jit(lambda p: jax_lstm.lstm(p, x.swapaxes(0, 1), backend=backend, **options))(params)
    assert_close_float32(run("cudnn"), run("scan"))


def test_cudnn_inside_jax_checkpoint(calls):
    params, x, _ = problem()
    loss = lambda p, x, backend: jnp.sum(jnp.sin(jax_lstm.lstm(p, x, lengths=LENGTHS, backend=backend)[0]))
    run = lambda backend: jax.grad(jax.checkpoint(lambda p, x: loss(p, x, backend)), argnums=(0, 1))
    assert_close_float32(jax.jit(run("cudnn"))(params, x), jax.jit(run("scan"))(params, x))


def test_modules_pass_the_option_backend_on(calls):
    x = problem()[1]
    module = linen.LSTM(H, num_layers=2)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    expected = jax.jit(module.apply)(variables, x)
    assert not calls
    assert_close_float32(jax.jit(module.clone(backend="cudnn").apply)(variables, x), expected)
    assert len(calls) == 2
    both = [nnx.LSTM(D, H, backend=backend, rngs=flax_nnx.Rngs(0)) for backend in ("cudnn", "scan")]
    assert_close_float32(*(jax.jit(lambda x, m=m: m(x))(x) for m in both))
    assert len(calls) == 3


@pytest.mark.parametrize("weights_too", [False, True])
def test_values_and_gradients_under_vmap(weights_too, calls):
    params, x, _ = problem()
    stacked = lambda tree: jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a]), tree)
    arguments = (stacked(params) if weights_too else params, stacked(x))
    axes = (0 if weights_too else None, 0)

    def each(backend):
        loss = lambda p, x: jnp.sum(jnp.sin(jax_lstm.lstm(p, x, lengths=LENGTHS, backend=backend)[0]))
        return jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1)), axes))(*arguments)

    assert_close_float32(each("cudnn"), each("scan"))


@pytest.mark.parametrize("reverse", [False, True])
def test_second_derivatives_are_refused_with_a_reason(reverse, calls):
    params, x, _ = problem()
    loss = lambda x: jnp.sum(jax_lstm.lstm(params, x, backend="cudnn")[0] ** 2)
    second = jax.grad(lambda x: jnp.sum(jax.grad(loss)(x))) if reverse else jax.hessian(loss)
    with pytest.raises(ValueError, match=r"first derivatives in reverse mode and no others.*backend='scan'"):
        jax.jit(second)(x)


def test_forward_mode_is_refused_by_jax(calls):
    params, x, _ = problem()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jit(lambda x: jax.jvp(lambda x: jax_lstm.lstm(params, x, backend="cudnn")[0], (x,), (x,)))(x)


def test_under_shard_map(calls):
    """The batch is split over the devices, the weights are replicated, and their gradients are summed."""
    params, x, _ = problem(batch=(16,), num_layers=2, bidirectional=True)
    lengths = np.arange(16) % (T + 1)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def loss(backend):
        def local(params, x, lengths):
            y, last = jax_lstm.lstm(params, x, lengths=lengths, backend=backend)
            return jnp.sum(jnp.sin(y)) + jnp.sum(last.c**2)

        return local

    total = jax.shard_map(
        lambda *a: jax.lax.psum(loss("cudnn")(*a), "data"),
        mesh=mesh,
        in_specs=(P(), P("data"), P("data")),
        out_specs=P(),
    )
    got = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(params, x, lengths)
    assert_close_float32(got, jax.jit(jax.value_and_grad(loss("scan"), argnums=(0, 1)))(params, x, lengths))


# JAX's real primitives, which a CPU can lower but not run


KNOWN = [export.DisabledSafetyCheck.custom_call(f"cudnn_rnn{name}_ffi") for name in ("", "_bwd")]


@pytest.fixture
def lowered(monkeypatch):
    fake_cudnn.install_lowering(monkeypatch)


def test_a_training_step_lowers_for_cuda(lowered):
    params, x, state = problem(num_layers=2, bidirectional=True)

    def loss(params, x, state):
        y, last = jax_lstm.lstm(params, x, state, lengths=LENGTHS, backend="cudnn", precision="highest")
        return jnp.sum(y) + jnp.sum(last.c)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    text = export.export(step, platforms=["cuda"], disabled_checks=KNOWN)(params, x, state).mlir_module()
    assert re.findall(r"custom_call @(\w+)", text) == ["cudnn_rnn_ffi"] * 4 + ["cudnn_rnn_bwd_ffi"] * 4
    descriptors = set(re.findall(r'opaque = "([^"]*)"', text))
    assert descriptors == {f"{width},{H},1,{B},{T},0.0,False,False,64,32" for width in (D, 2 * H)}


def test_vmap_lowers_for_cuda(lowered):
    """JAX's primitives have no batching rule, so this package has one."""
    params, x, _ = problem((3, B))
    step = jax.grad(lambda p, x: jnp.sum(jax_lstm.lstm(p, x, backend="cudnn")[0]), argnums=(0, 1))
    export.export(jax.jit(jax.vmap(step, (None, 0))), platforms=["cuda"], disabled_checks=KNOWN)(params, x)


def test_outputs_of_the_real_call_vary_by_device_under_shard_map(lowered):
    """JAX's primitive does not mark y and the reserve as varying. Without the mark, wrong gradients would be summed."""
    params, x, _ = problem(batch=(8,))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def local(params, x):
        y, last = jax_lstm.lstm(params, x, backend="cudnn")
        assert all(str(jax.typeof(a)).endswith("{V:data}") for a in (y, last.h, last.c))
        return jax.lax.psum(jnp.sum(y * x[..., :1]), "data")

    total = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    text = str(jax.make_jaxpr(jax.grad(total, argnums=(0, 1)))(params, x))
    summed = re.findall(r":(f32\[[\d,]*\]) = psum_invariant", text)
    weights = [f"f32[{','.join(map(str, a.shape))}]" for a in params.values()]
    assert sorted(summed) == sorted(["f32[]", *weights])  # the loss, and the weights' gradients
    assert "f32[256]" in text  # 8 reserves of 32 leave the forward pass, one per device


@pytest.mark.gpu
@pytest.mark.skipif(not GPUS, reason="JAX sees no GPU here; on a machine with one set JAX_PLATFORMS=cuda,cpu")
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("network", NETWORKS)
def test_cudnn_on_a_gpu_agrees_with_scan(network, lengths):
    with jax.default_device(GPUS[0]):
        arguments = problem(**NETWORKS[network])
        assert choose_backend(*arguments[:2], backend="cudnn").backend == "cudnn"
        got, expected = (
            value_and_gradients(backend, lengths=lengths, precision="highest")(*arguments)
            for backend in ("cudnn", "scan")
        )
        assert_close_float32(got, expected)
