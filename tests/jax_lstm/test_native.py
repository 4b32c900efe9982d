"""The compiled kernels for a CPU, compared with the loops of scan: their results, and the programs that use them."""

from __future__ import annotations

import hashlib
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm
from jax_lstm import LSTMState, choose_backend
from jax_lstm._src import cpu_kernel, cpu_library
from jax_lstm._src.cell import LSTM
from jax_lstm._src.plan import Events, Plan, Weights
from tests.support import fresh_process, native
from tests.support.arrays import assert_close, assert_close_float32, drawn_weights, normal, state_of
from tests.support.native import (
    Problem,
    assert_native_agrees_with_scan,
    kernels_in,
    need_kernels,
    random_problem,
    values_and_gradients,
)

need_kernels()
B, T, D, H = 3, 7, 5, 9
BOTH = ["forward", "backward"]
# Some counts of hidden units, inputs and rows fill a vector, a tile or a panel, and others leave a part empty.
SIZES = [
    (T, 1, 1, 1),
    (1, B, D, H),
    (T, 2, 33, 17),
    (T, 3, 64, 16),
    (5, 4, 16, 64),
    (5, 12, 32, 32),
    (4, 13, 31, 65),
    (3, 33, 7, 100),
    (2, 150, 7, 20),  # two groups of rows, each of which packs the weights for itself
    (3, 4, 140, 150),  # a sum in two parts, each packed for itself
    (2, 70, 40, 48),
    (300, 1, 3, 8),
    (90, 7, 16, 16),  # several blocks of steps, with the gradient of x written over c_before
]


def problem(sizes=(T, B, D, H), dtype=np.float64, network=None, **options):
    steps, batch, inputs, hidden = sizes
    params = drawn_weights(inputs, hidden, dtype=dtype, **(network or {}))
    return Problem(params, normal((batch, steps, inputs), dtype), state_of(params, batch, dtype=dtype), None, options)


@pytest.mark.parametrize("sizes", SIZES)
def test_sizes(sizes):
    assert_native_agrees_with_scan(problem(sizes), 1e-12)


@pytest.mark.isa
@pytest.mark.parametrize("sizes", SIZES)
def test_sizes_in_float32(sizes):
    """Both have the same limit, relative to the largest entry. The rounding of 300 steps is far below it."""
    assert_native_agrees_with_scan(problem(sizes, np.float32), 2e-5)


@pytest.mark.parametrize("seed", range(60))
def test_random_calls(seed):
    assert_native_agrees_with_scan(random_problem(seed), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60, 2_000, 20))
def test_many_random_calls(seed):
    for n in range(seed, seed + 20):
        assert_native_agrees_with_scan(random_problem(n), 1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_states_of_all_steps(reverse):
    network = {"bidirectional": reverse}
    reset = np.arange(B * T).reshape(B, T) % 4 == 2
    assert_native_agrees_with_scan(problem(network=network, reset=reset, lengths=[7, 0, 4]), 1e-12, states=True)


def scalar(backend, **options):
    """Return a function whose gradients are those of one number."""

    def loss(params, x, state=None):
        y, last = jax_lstm.lstm(params, x, state, backend=backend, **options)
        return jnp.sum(jnp.sin(y)) + jnp.sum(last.c**2) + jnp.sum(last.h)

    return loss


PARAMS, X = drawn_weights(D, H), normal((B, T, D))


def test_a_program_runs_the_kernels():
    assert kernels_in(scalar("native"), PARAMS, X) == ["forward"]
    assert kernels_in(jax.value_and_grad(scalar("native")), PARAMS, X) == BOTH
    assert kernels_in(jax.value_and_grad(scalar("auto")), PARAMS, X) == BOTH
    assert kernels_in(jax.value_and_grad(scalar("scan")), PARAMS, X) == []
    deep = drawn_weights(D, H, num_layers=2, bidirectional=True)
    assert sorted(kernels_in(jax.grad(scalar("native")), deep, X)) == ["backward"] * 4 + ["forward"] * 4


@pytest.mark.parametrize("arguments", [(1,), (2,), (0, 2), (0, 1, 2)])
def test_gradients_of_some_arguments(arguments):
    state = state_of(PARAMS, B)
    got, expected = (
        jax.grad(scalar(name, truncate_every=3), arguments)(PARAMS, X, state) for name in ("native", "scan")
    )
    assert_close(got, expected)


def test_gradients_of_some_weights():
    """The other weights are constants, as with an optimizer that trains only some weights."""
    names = ("weight_hh_l0", "bias_ih_l0")
    some = lambda backend: lambda part: scalar(backend)({**PARAMS, **part}, X)
    part = {name: PARAMS[name] for name in names}
    assert_close(jax.grad(some("native"))(part), jax.grad(some("scan"))(part))
    assert kernels_in(jax.grad(some("native")), part) == BOTH


@pytest.mark.parametrize("output", ["y", "h", "c"])
def test_a_loss_of_one_output_only(output):
    def loss(backend):
        def of(params):
            y, last = jax_lstm.lstm(params, X, backend=backend)
            return jnp.sum(jnp.sin({"y": y, "h": last.h, "c": last.c}[output]))

        return of

    assert_close(jax.grad(loss("native"))(PARAMS), jax.grad(loss("scan"))(PARAMS))


def test_vmap_over_inputs_is_one_more_batch_axis():
    xs, states = normal((4, B, T, D)), state_of(PARAMS, (4, B))
    mapped = lambda backend: jax.vmap(
        lambda x, state: jax_lstm.lstm(PARAMS, x, state, backend=backend), (0, LSTMState(1, 1)), (0, LSTMState(1, 1))
    )
    loss = lambda backend: (
        lambda params: jnp.sum(
            jax.vmap(lambda x: scalar(backend, reset=np.arange(B * T).reshape(B, T) % 3 == 1)(params, x))(xs)
        )
    )
    assert kernels_in(mapped("native"), xs, states) == ["forward"]
    assert kernels_in(jax.grad(loss("native")), PARAMS) == BOTH
    assert_close(mapped("native")(xs, states), mapped("scan")(xs, states))
    assert_close(jax.grad(loss("native"))(PARAMS), jax.grad(loss("scan"))(PARAMS))


def test_vmap_over_weights_runs_the_loop():
    many = jax.tree.map(lambda a: np.stack([a, 2 * a]), PARAMS)
    mapped = lambda backend: jax.vmap(jax.value_and_grad(scalar(backend)), (0, None))
    assert kernels_in(mapped("native"), many, X) == []
    assert_close(mapped("native")(many, X), mapped("scan")(many, X))


def test_gradients_per_example():
    each = lambda backend: jax.vmap(jax.grad(scalar(backend)), (None, 0))
    assert kernels_in(each("native"), PARAMS, X) == ["forward"]
    assert_close(each("native")(PARAMS, X), each("scan")(PARAMS, X))


def test_gradients_of_inputs_per_example():
    each = lambda backend: jax.vmap(jax.grad(scalar(backend), 1), (None, 0))
    jacobian = lambda backend: jax.jacrev(lambda x: jax_lstm.lstm(PARAMS, x, backend=backend)[1].h)
    assert kernels_in(each("native"), PARAMS, X) == BOTH
    assert kernels_in(jacobian("native"), X) == BOTH
    assert_close(each("native")(PARAMS, X), each("scan")(PARAMS, X))
    assert_close(jacobian("native")(X), jacobian("scan")(X))


def test_forward_mode_and_second_derivatives():
    moved = jax.tree.map(np.ones_like, (PARAMS, X))
    for derivative in (
        lambda f: jax.jvp(f, (PARAMS, X), moved),
        lambda f: jax.jvp(jax.grad(f, (0, 1)), (PARAMS, X), moved),
        lambda f: jax.grad(lambda p: sum(jnp.sum(a**2) for a in jax.tree.leaves(jax.grad(f)(p, X))))(PARAMS),
        lambda f: jax.jacfwd(lambda x: jax.grad(f)(PARAMS, x)["bias_hh_l0"])(X),
    ):
        for options in ({}, {"truncate_every": 3}, {"checkpoint_every": 3}):
            assert_close(derivative(scalar("native", **options)), derivative(scalar("scan", **options)), 1e-11, 1e-12)


def test_the_backward_pass_of_a_checkpointed_call_runs_the_kernels():
    kept = jax.checkpoint(scalar("native"))
    assert kernels_in(jax.grad(kept), PARAMS, X) == ["forward", "backward"]
    assert_close(jax.grad(kept)(PARAMS, X), jax.grad(scalar("scan"))(PARAMS, X))


def mesh_of(count):
    return Mesh(np.array(jax.devices()[:count]), ("batch",))


def test_several_devices_run_the_loop_and_shard_map_runs_the_kernels():
    """XLA cannot divide a kernel, so a plain jit over a mesh must not contain one."""
    mesh, x = mesh_of(2), normal((4, T, D))
    step = jax.value_and_grad(scalar("native"))
    placed = jax.device_put(x, NamedSharding(mesh, P("batch")))
    everywhere = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    of_shard = lambda params, x: jax_lstm.lstm(params, x, backend="native")[0]
    sharded = jax.shard_map(of_shard, mesh=mesh, in_specs=(P(), P("batch")), out_specs=P("batch"))
    training = jax.grad(lambda params, x: jnp.sum(sharded(params, x) ** 2))
    assert kernels_in(step, everywhere, placed) == []
    assert kernels_in(sharded, everywhere, placed) == ["forward"]
    assert kernels_in(training, everywhere, placed) == BOTH
    assert_close(jax.jit(step)(everywhere, placed), jax.jit(jax.value_and_grad(scalar("scan")))(PARAMS, x))
    plain = jax.grad(lambda params: jnp.sum(jax_lstm.lstm(params, x, backend="scan")[0] ** 2))(PARAMS)
    assert_close(jax.jit(training)(everywhere, placed), plain)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_an_exported_program_needs_no_kernel(platform):
    exported = export.export(jax.jit(jax.grad(scalar("native"))), platforms=[platform])(PARAMS, X)
    assert "jax_lstm_forward" not in exported.mlir_module()
    if platform == "cpu":
        assert_close(exported.call(PARAMS, X), jax.grad(scalar("scan"))(PARAMS, X))


def test_symbolic_sizes_run_scan():
    steps = jax.ShapeDtypeStruct(export.symbolic_shape("b, t, 5"), jnp.float64)
    choice = choose_backend(PARAMS, steps)
    assert choice.backend == "scan"
    assert "its sizes must be known" in choice.reason
    export.export(jax.jit(lambda x: jax_lstm.lstm(PARAMS, x)))(steps)


@pytest.mark.parametrize("backend", ["native", "auto", "scan"])
def test_an_empty_mapped_axis_and_no_hidden_units(backend):
    """A kernel would divide by zero."""
    mapped = jax.vmap(lambda x: jax_lstm.lstm(PARAMS, x, backend=backend)[0])
    assert mapped(np.zeros((0, B, T, D))).shape == (0, B, T, H)
    if backend != "native":
        assert jax_lstm.lstm(NO_UNITS, X, backend=backend)[0].shape == (B, T, 0)
        assert choose_backend(NO_UNITS, X).backend == "scan"


NO_UNITS = {"weight_ih_l0": np.zeros((0, D)), "weight_hh_l0": np.zeros((0, 0))}
NO_UNITS |= {name: np.zeros(0) for name in ("bias_ih_l0", "bias_hh_l0")}


def test_a_program_in_float64_may_be_lowered_where_x64_is_off():
    with jax.enable_x64(True):
        traced = jax.jit(jax.grad(scalar("native"))).trace(PARAMS, X)
        expected = jax.grad(scalar("scan"))(PARAMS, X)
    with jax.enable_x64(False):
        compiled = traced.lower().compile()
    with jax.enable_x64(True):
        assert_close(compiled(PARAMS, X), expected)


def test_gradients_of_a_long_sequence_keep_their_digits():
    """There are 2,500 blocks of steps, and their sums are added one after another."""
    drawn = problem((20_000, 32, 2, 4), np.float32)
    wide = jax.tree.map(lambda a: a.astype(np.float64), drawn)
    gradients = lambda backend, of: jax.jit(
        jax.grad(lambda params: jnp.sum(jax_lstm.lstm(params, of.x, backend=backend)[0]))
    )(of.params)
    found, exact = gradients("native", drawn), gradients("scan", wide)
    for name, limit in {"bias_ih_l0": 2e-7, "weight_ih_l0": 4e-6, "weight_hh_l0": 4e-6}.items():
        assert np.max(np.abs(found[name] - exact[name])) < limit * np.max(np.abs(exact[name]))


def test_nan_stays_in_its_row():
    x = X.copy()
    x[1, 2] = np.nan
    y, last = jax_lstm.lstm(PARAMS, x, backend="native")
    assert np.isnan(y[1, 2:]).all()
    assert np.isnan(last.h[:, 1]).all()
    assert np.isfinite(np.delete(np.asarray(y), 1, 0)).all()
    assert np.isfinite(y[1, :2]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 30.0, 1e4, 1e30])
def test_sums_of_every_size(size, dtype):
    """exp overflows at 89 in float32 and at 710 in float64; tanh of a small number is that number."""
    drawn = problem((3, 4, 6, 20), dtype)
    scaled = drawn._replace(params=jax.tree.map(lambda a: (a * size).astype(dtype), drawn.params))
    got, expected = (values_and_gradients(name, scaled) for name in ("native", "scan"))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(got))
    if dtype == np.float64:
        assert_close(got, expected, 1e-10, 1e-12)
    elif size <= 1:
        assert_close_float32(got, expected)


def activations(kind, z, dtype):
    """Return an activation as the kernel computes it, in one step with only a bias. All gates but one are open."""
    bias = {"sigmoid": [50.0, 0.0, 50.0], "tanh": [50.0, 0.0, 0.0]}[kind]
    count = len(z)
    params = {"weight_ih_l0": np.zeros((4 * count, 1)), "weight_hh_l0": np.zeros((4 * count, count))}
    parts = [np.full(count, bias[0]), np.full(count, bias[1]), z if kind == "tanh" else np.full(count, 50.0)]
    last = np.full(count, 50.0) if kind == "tanh" else z
    params |= {"bias_ih_l0": np.concatenate([*parts, last]), "bias_hh_l0": np.zeros(4 * count)}
    params = {name: a.astype(dtype) for name, a in params.items()}
    y, last_state = jax_lstm.lstm(params, np.zeros((1, 1), dtype), backend="native")
    return np.asarray(last_state.c[0] if kind == "tanh" else y[0] / np.tanh(1.0))


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 5e-7), (np.float64, 1e-15)])
def test_tanh_keeps_the_digits_of_small_numbers(dtype, limit):
    z = np.concatenate([np.logspace(-30, 1, 500), -np.logspace(-30, 1, 500)]).astype(dtype)
    expected = np.tanh(z.astype(np.longdouble))
    np.testing.assert_allclose(activations("tanh", z, dtype), expected.astype(np.float64), rtol=limit)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 5e-7), (np.float64, 2e-15)])
def test_sigmoid_keeps_the_digits_of_small_results(dtype, limit):
    z = np.linspace(-80, 30, 1000).astype(dtype)
    expected = 1 / (1 + np.exp(-z.astype(np.longdouble)))
    np.testing.assert_allclose(activations("sigmoid", z, dtype), expected.astype(np.float64), rtol=limit)


@pytest.mark.isa
def test_the_error_in_float32_is_not_above_that_of_scan():
    """The test compares the mean over many entries. The error of one entry, or the worst of one draw, is random."""
    errors = {"native": np.zeros(10), "scan": np.zeros(10)}  # y, h, c, four weights, x, h, c
    for seed in range(5):
        drawn = problem((60, 8, 16, 32), np.float64)
        drawn = drawn._replace(
            params=drawn_weights(16, 32, seed=seed, dtype=np.float32), x=normal((8, 60, 16), seed=seed)
        )
        wide, narrow = (jax.tree.map(lambda a, to=to: a.astype(to), drawn) for to in (np.float64, np.float32))
        exact = jax.tree.leaves(values_and_gradients("scan", wide))
        for name in errors:
            found = jax.tree.leaves(values_and_gradients(name, narrow))
            errors[name] += [
                float(np.mean(np.abs(a - b)) / np.mean(np.abs(b))) for a, b in zip(found, exact, strict=True)
            ]
    assert (errors["native"] < 1.5 * errors["scan"]).all()
    assert sum(errors["native"]) < 1.1 * sum(errors["scan"])


def bits_of_a_training_step():
    """Return a digest of value and gradients. The sizes are above those that run on one thread."""
    jax.config.update("jax_enable_x64", True)
    digest = hashlib.sha256()
    for sizes in ((20, 40, 30, 70), (20, 3, 30, 130), (20, 1, 30, 260)):
        for leaf in jax.tree.leaves(values_and_gradients("native", problem(sizes, np.float32))):
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def test_the_bits_do_not_depend_on_the_number_of_threads(tmp_path):
    """XLA takes the number of its threads from NPROC."""
    digests = []
    for threads in ("1", "2", "4"):
        digest, error = fresh_process.run(bits_of_a_training_step, folder=tmp_path, environment={"NPROC": threads})
        assert not error
        digests.append(digest)
    assert len(set(digests)) == 1


def worst_by_width(width):
    jax.config.update("jax_enable_x64", True)
    assert cpu_library.load_library().functions.jax_lstm_vector_bytes() <= int(width)
    for sizes in SIZES:
        assert_native_agrees_with_scan(problem(sizes), 1e-12)
        assert_native_agrees_with_scan(problem(sizes, np.float32), 2e-5)
    for seed in range(20):
        assert_native_agrees_with_scan(random_problem(seed), 1e-12)


@pytest.mark.parametrize("width", ["16", "32"])
def test_every_width_of_vectors(width, tmp_path):
    """The other tests run the widest vectors that this processor has."""
    _, error = fresh_process.run(worst_by_width, width, folder=tmp_path, environment={"JAX_LSTM_VECTOR_BYTES": width})
    assert not error


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="only Linux lists the files of a process there")
def test_the_file_is_loaded_by_the_first_call_and_not_by_the_import(tmp_path):
    found, error = fresh_process.run(native.loaded_before_and_after_a_call, folder=tmp_path, environment={})
    assert not error
    assert found == [False, True]


@pytest.fixture
def other_file(tmp_path):
    """Return a file that replaces the compiled kernels. A test may write it."""
    with native.kernels_from(tmp_path / "kernels.so"):
        yield tmp_path / "kernels.so"


def test_a_file_that_does_not_load_is_one_warning_and_scan(other_file):
    other_file.write_text("no library")
    with pytest.warns(
        RuntimeWarning, match="jax_lstm runs its loops as scan, since its compiled file does not load"
    ) as found:
        jax_lstm.lstm(PARAMS, X)
    assert len(found) == 1
    assert "\n" not in str(found[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = choose_backend(PARAMS, X)
    assert choice.backend == "scan"
    assert "does not load" in choice.reason


def test_a_missing_file_is_scan_without_a_warning(other_file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = choose_backend(PARAMS, X)
        jax_lstm.lstm(PARAMS, X)
    assert choice.backend == "scan"
    assert "was not built when jax-lstm was installed" in choice.reason
    with pytest.raises(ValueError, match=r"backend='native' cannot run this call: .* was not built"):
        jax_lstm.lstm(PARAMS, X, backend="native")


def test_the_kernel_names_an_array_of_a_wrong_size():
    weights = Weights(np.zeros((4 * H, D)), np.zeros((4 * H, H)), np.zeros(4), None)  # the bias has 4 numbers
    zeros = LSTMState(np.zeros((B, H)), np.zeros((B, H)))
    plan = Plan(LSTM, np.dtype("float64"), backend="native")
    call = jax.jit(lambda x: cpu_kernel.run_forward(plan, weights, x, zeros, zeros, Events()).h)
    with pytest.raises(jax.errors.JaxRuntimeError, match="bias has 4 numbers and not 36"):
        call(np.zeros((T, B, D)))


def temporary_memory(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("sizes", [(512, 16, 256, 256), (2048, 1, 64, 256), (128, 32, 128, 256)])
def test_the_memory_of_a_training_step(sizes):
    """A call needs the memory of scan, and one packed copy of its weights."""
    drawn = problem(sizes, np.float32)
    step = lambda name: jax.value_and_grad(scalar(name))
    native, scan = (temporary_memory(step(name), drawn.params, drawn.x) for name in ("native", "scan"))
    weights = sum(a.nbytes for name, a in drawn.params.items() if name.startswith("weight"))
    assert native < scan + weights


def test_a_long_sequence_of_one_row_in_chunks_needs_no_more_memory():
    drawn = problem((100_000, 1, 16, 32), np.float32)
    step = lambda name: jax.value_and_grad(scalar(name, checkpoint_every=316))
    native, scan = (temporary_memory(step(name), drawn.params, drawn.x) for name in ("native", "scan"))
    assert native < 1.05 * scan
    value, _ = jax.jit(step("native"))(drawn.params, drawn.x)
    assert np.isfinite(value)
