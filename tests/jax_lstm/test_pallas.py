"""The kernels for a TPU, which Pallas interprets here. tests/accelerators compiles them with TPU's own compiler."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax import export
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm
from jax_lstm import linen, nnx
from jax_lstm._src import tpu_memory
from jax_lstm._src.cell import LSTM
from jax_lstm._src.plan import Plan, Weights
from jax_lstm._src.state import LSTMState
from jax_lstm._src.tpu_backward import run_backward
from jax_lstm._src.tpu_forward import run_forward
from jax_lstm._src.tpu_layout import Grid
from tests.support.arrays import assert_close_float32, drawn_weights, normal, state_of
from tests.support.interpreted import interpreted
from tests.support.jaxprs import products

DEFAULT, HIGHEST = jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST
B, T, D, H = 3, 11, 5, 7
DEEP = {"num_layers": 2, "bidirectional": True}
CASES = {
    "one": ((B,), {}, {}),
    "stacked, both directions": ((B,), DEEP, {}),
    "no bias": ((B,), {"bias": False}, {}),
    "no batch": ((), {}, {}),
    "two batch axes": ((2, B), {}, {}),
    "chunks": ((B,), {"bidirectional": True}, {"checkpoint_every": 4}),
    "time major, dropout": ((B,), DEEP, {"time_major": True, "dropout": 0.5, "dropout_key": jax.random.key(3)}),
    "unroll": ((B,), {}, {"unroll": 3}),
    "a given precision": ((B,), {}, {"precision": "highest"}),
}


@pytest.fixture
def kernels():
    with interpreted() as lowered:
        yield lowered


@pytest.fixture
def short_blocks(monkeypatch):
    """Use blocks of one, two or four steps. With 11 steps, the last block of two or four is shorter."""
    monkeypatch.setattr(tpu_memory, "BLOCK_BYTES", 400_000)


def problem(batch=(B,), network=None, time_major=False, dtype=jnp.float32, sizes=(T, D, H)):
    steps, inputs, hidden = sizes
    params = drawn_weights(inputs, hidden, **(network or {}), dtype=dtype, seed=7)
    x = normal((steps, *batch, inputs) if time_major else (*batch, steps, inputs), dtype)
    return params, x, state_of(params, batch, dtype=jnp.float32)


def value_and_gradients(backend, **options):
    def loss(params, x, state):
        y, last = jax_lstm.lstm(params, x, state, backend=backend, **options)
        weigh = lambda a: jnp.sum(a * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape) + a**3)
        return weigh(y.astype(jnp.float32)) + weigh(last.h) + weigh(last.c), (y, last)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))


@pytest.mark.parametrize("name", CASES)
def test_the_kernels_agree_with_scan(name, kernels, short_blocks):
    batch, network, options = CASES[name]
    arguments = problem(batch, network, options.get("time_major", False))
    expected = value_and_gradients("scan", **options)(*arguments)
    assert not kernels
    got = value_and_gradients("pallas", **options)(*arguments)
    assert len(kernels) >= 2
    assert_close_float32(got, expected, rtol=3e-6)


@pytest.mark.parametrize("sizes", [(9, 128, 256), (9, 130, 384), (40, 3, 513)])
def test_sizes_of_several_tiles_and_chunks(sizes, kernels, short_blocks):
    arguments = problem((17,), sizes=sizes)
    assert_close_float32(value_and_gradients("pallas")(*arguments), value_and_gradients("scan")(*arguments), rtol=3e-6)
    assert kernels


def test_bfloat16_keeps_what_scan_keeps(kernels, short_blocks):
    """One rounding of an output to bfloat16 is 2^-8 of it. Sums in another order may round it to the next number."""
    arguments = problem(network=DEEP, dtype=jnp.bfloat16)
    got, expected = (value_and_gradients(backend)(*arguments) for backend in ("pallas", "scan"))
    assert kernels
    assert [a.dtype for a in jax.tree.leaves(got)] == [a.dtype for a in jax.tree.leaves(expected)]
    assert_close_float32(*jax.tree.map(lambda a: np.asarray(a, np.float32), (got, expected)), rtol=2**-6)


@pytest.mark.parametrize("output", ["h", "last"])
def test_a_loss_of_one_output_only(output, kernels, short_blocks):
    params, x, state = problem()

    def loss(params, backend):
        y, last = jax_lstm.lstm(params, x, state, backend=backend)
        return jnp.sum(jnp.sin(y if output == "h" else last.c))

    got, expected = (jax.jit(jax.grad(partial(loss, backend=backend)))(params) for backend in ("pallas", "scan"))
    assert len(kernels) == 2
    assert_close_float32(got, expected, rtol=3e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_in_the_simulated_memory_of_a_tpu(reverse, short_blocks, simulator):
    assert_close_in_both(simulator, plan_of(HIGHEST, reverse), *arrays_of(jnp.float32))


def test_inputs_that_are_projected_in_several_products(simulator):
    """37 steps of 24 rows, 10 steps per product. The last product starts at step 27."""
    assert_close_in_both(simulator, plan_of(HIGHEST), *arrays_of(jnp.float32, steps=37, batch=17))


def assert_close_in_both(simulator, *arguments):
    run = partial(both_kernels, *arguments)
    with jax.enable_x64(False):
        got, expected = (jax.jit(partial(run, interpret=interpret))() for interpret in (simulator, True))
    assert_close_float32(got, expected, rtol=3e-6)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(got))


@pytest.fixture
def simulator():
    """Let Pallas simulate the transfers of blocks. Unwritten memory holds NaN, and a wrong index raises."""
    return pltpu.InterpretParams(uninitialized_memory="nan", dma_execution_mode="on_wait")


def plan_of(precision, reverse=False):
    return Plan(LSTM, jnp.dtype("float32"), reverse=reverse, path=True, precision=precision, backend="pallas")


def arrays_of(dtype, steps=T, batch=B):
    of = lambda *shape: normal(shape, dtype)
    weights = Weights(of(4 * H, D), of(4 * H, H), of(4 * H).astype(jnp.float32), None)
    state = LSTMState(normal((batch, H), jnp.float32), normal((batch, H), jnp.float32))
    return weights, of(steps, batch, D), state


def both_kernels(plan, weights, x, state, interpret):
    trace = run_forward(plan, weights, x, state, interpret=interpret)
    return trace, run_backward(plan, weights.hh, trace.path, trace.h, state, interpret=interpret)


@pytest.mark.parametrize(
    ("dtype", "precision", "factors", "passed"),
    [
        ("float32", DEFAULT, "bfloat16", DEFAULT),
        ("float32", HIGHEST, "float32", HIGHEST),
        ("bfloat16", DEFAULT, "bfloat16", DEFAULT),
        ("bfloat16", HIGHEST, "bfloat16", DEFAULT),
    ],
)
def test_the_precision_of_the_products_in_the_kernels(dtype, precision, factors, passed):
    """Interpreted kernels cannot show it. A TPU rounds the factors to bfloat16 only at the default precision."""
    with jax.enable_x64(False), jax.default_matmul_precision("high"):
        run = lambda *arrays: both_kernels(plan_of(precision), *arrays, interpret=False)
        found = products(run, *arrays_of(dtype), inside="pallas_call")
    assert len(found) >= 3  # of the inputs, of h, and of the cotangents of the gate sums
    for product in found:
        assert {v.aval.dtype.name for v in product.invars} == {factors}
        assert product.params["precision"] == (passed, passed)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("context", ["highest", "high", "BF16_BF16_F32"])
def test_the_default_precision_at_lowering_does_not_matter(dtype, context):
    params, x, state = problem(dtype=dtype)
    traced = value_and_gradients("pallas").trace(params, x, state)
    with jax.default_matmul_precision(context):
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("custom_call @tpu_custom_call") == 2


# what JAX does to a call: its transformations see the loop


def forward_mode(f, x):
    return jax.jvp(f, (x,), (jnp.cos(x),))


def second_derivative(f, x):
    return jax.hessian(lambda x: jnp.sum(f(x) ** 2))(x)


def reverse_over_reverse(f, x):
    return jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))(x) ** 2))(x)


def reverse_over_reverse_of_a_checkpoint(f, x):
    return reverse_over_reverse(jax.checkpoint(f), x)


def transposed_pullback(f, x):
    y, pullback = jax.vjp(f, x)
    return jax.linear_transpose(lambda ct: pullback(ct)[0], y)(jnp.cos(x))


def mapped(f, x):
    g = lambda x: jnp.sum(jnp.sin(f(x)))
    return jax.vmap(jax.value_and_grad(g))(jnp.stack([x, 2 * x, -x]))


@pytest.mark.parametrize(
    "transform",
    [
        forward_mode,
        second_derivative,
        reverse_over_reverse,
        reverse_over_reverse_of_a_checkpoint,
        transposed_pullback,
        mapped,
    ],
)
@pytest.mark.parametrize("options", [{}, {"checkpoint_every": 2}], ids=["plain", "chunks"])
def test_every_transformation_has_the_numbers_of_scan(transform, options, kernels):
    params, x, state = problem((2,), sizes=(4, 2, 3))
    run = lambda backend: jax.jit(
        lambda x: transform(lambda x: jax_lstm.lstm(params, x, state, backend=backend, **options)[0], x)
    )(x)
    assert_close_float32(run("pallas"), run("scan"), rtol=1e-5)


def test_crosscheck_agrees_with_torch(kernels):
    """The cross-check also runs float64, which uses scan."""
    torch = pytest.importorskip("torch", reason="the judge compares with torch")
    import crosscheck

    params, x, _ = problem(network=DEEP)
    module = torch.nn.LSTM(D, H, **DEEP, batch_first=True)

    def port(params, x):
        y, last = jax_lstm.lstm(params, x, backend="pallas")
        return y, (last.h, last.c)

    verdict = crosscheck.check(port, module, params, (x,))
    assert verdict, str(verdict)
    assert kernels


def test_without_jit_it_is_the_loop(kernels):
    params, x, state = problem(sizes=(3, 2, 3))
    expected = jax_lstm.lstm(params, x, state)
    with jax.disable_jit():
        assert_close_float32(jax_lstm.lstm(params, x, state, backend="pallas"), expected)
    assert not kernels


def test_modules_pass_the_option_backend_on(kernels):
    x = problem()[1]
    module = linen.LSTM(H, num_layers=2, backend="pallas")
    variables = jax.jit(module.init)(jax.random.key(0), x)
    kernels.clear()
    assert_close_float32(jax.jit(module.apply)(variables, x), jax.jit(module.clone(backend="scan").apply)(variables, x))
    assert len(kernels) == 2
    both = [nnx.LSTM(D, H, backend=backend, rngs=flax_nnx.Rngs(0)) for backend in ("pallas", "scan")]
    assert_close_float32(*(jax.jit(lambda x, m=m: m(x))(x) for m in both))
    assert len(kernels) == 3


# devices


def split_step(mesh, backend, manual):
    """Return a training step on a batch that is split over the devices of a mesh."""
    params, x, _ = problem((8,), DEEP)
    loss = lambda p, x: jnp.sum(jnp.sin(jax_lstm.lstm(p, x, backend=backend)[0]))
    if manual:
        local = lambda p, x: jax.lax.psum(loss(p, x), "data")
        total = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    else:
        total = loss
    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    params = jax.device_put(params, NamedSharding(mesh, P()))
    return jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(params, x)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("devices", [1, 8])
def test_a_program_for_several_devices_needs_shard_map_for_the_kernels(devices, manual, kind, kernels):
    """XLA cannot divide a kernel. So without shard_map the loop runs, with the same numbers."""
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(kind,), devices=jax.devices()[:devices])
    got = split_step(mesh, "pallas", manual)
    assert bool(kernels) == (manual or devices == 1)
    assert_close_float32(got, split_step(mesh, "scan", manual))


def test_a_shard_map_over_some_axes_of_a_mesh_runs_the_loop(kernels):
    """XLA divides the call over the other axes."""
    params, x, _ = problem((8,))
    mesh = jax.make_mesh((2, 2), ("data", "other"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:4])

    def total(backend, params, x):
        local = lambda p, x: jax.lax.psum(jnp.sum(jnp.sin(jax_lstm.lstm(p, x, backend=backend)[0])), "data")
        return jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), axis_names={"data"})(params, x)

    got, expected = (jax.jit(jax.grad(partial(total, backend)))(params, x) for backend in ("pallas", "scan"))
    assert not kernels
    assert_close_float32(got, expected)


def exported(*platforms):
    params, x, state = problem()
    return export.export(value_and_gradients("pallas"), platforms=platforms)(params, x, state)


def test_only_a_program_for_a_tpu_holds_the_kernels():
    count = lambda *platforms: exported(*platforms).mlir_module().count("custom_call @tpu_custom_call")
    assert (count("tpu"), count("cpu"), count("cuda"), count("cpu", "tpu")) == (2, 0, 0, 2)


def test_one_program_for_a_tpu_and_a_cpu_runs_on_the_cpu():
    arguments = problem()
    run = jax.jit(export.deserialize(exported("cpu", "tpu").serialize()).call)
    assert_close_float32(run(*arguments), value_and_gradients("scan")(*arguments))


# sizes


@pytest.mark.parametrize("backward", [False, True])
def test_the_tests_run_over_several_blocks_of_which_the_last_is_shorter(backward, short_blocks):
    tiles, dtype = tpu_memory.tiles_of(B, D, H, jnp.float32), jnp.dtype("float32")
    memory = tpu_memory.backward_memory(tiles, 4, dtype, dtype)
    grid = Grid.of(T, tiles, memory, 1, backward)
    assert (grid.length, grid.block) == (3, 4)


@pytest.mark.parametrize("hidden", [128, 512, 1024])
def test_a_block_fits_into_the_memory(hidden):
    tiles = tpu_memory.tiles_of(32, hidden, hidden, jnp.float32)
    dtype = tpu_memory.operand_dtype(jnp.float32, HIGHEST)
    for memory in (
        tpu_memory.forward_memory(tiles, 4, dtype, dtype, path=True),
        tpu_memory.backward_memory(tiles, 4, dtype, dtype),
    ):
        assert memory.most_steps >= 1
        assert memory.limit(memory.most_steps) <= tpu_memory.VMEM_BYTES
        assert memory.per_step * memory.most_steps <= tpu_memory.BLOCK_BYTES


@pytest.mark.parametrize(
    ("steps", "most", "unroll", "block"),
    [(1000, 300, 4, 200), (1000, 300, 1, 250), (7, 300, 4, 7), (3, 300, 4, 3), (101, 30, 1, 30), (96, 24, 4, 24)],
)
def test_the_length_of_a_block(steps, most, unroll, block):
    assert tpu_memory.block_steps(steps, most, unroll) == block
