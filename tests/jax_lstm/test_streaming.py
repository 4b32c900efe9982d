# ruff: noqa: E501
"""lstm_step and lstm_stream: steps give the bits of the sequence and agree with torch; wrong input is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax import export
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jax_lstm
from benchmarks import streaming
from jax_lstm import LSTMState, linen, nnx
from tests import ROOT
from tests.support import native, xla_flags
from tests.support.arrays import assert_close, assert_close_float32, drawn_weights
from tests.support.jaxprs import products
from tests.support.requirements import need

STEP, STREAM, WHOLE = map(jax.jit, (jax_lstm.lstm_step, jax_lstm.lstm_stream, jax_lstm.lstm))
SHAPES = {  # batch, T, D, H and options
    "one row": ((1,), 9, 7, 20, {}),
    "no batch": ((), 9, 7, 20, {"num_layers": 3}),
    "projection": ((2,), 8, 5, 9, {"num_layers": 2, "proj_size": 4}),
    "no biases": ((3,), 8, 6, 5, {"num_layers": 2, "bias": False}),
    "two batch axes": ((2, 3), 5, 4, 6, {"proj_size": 2}),
    "widths of 1": ((2,), 6, 1, 1, {"num_layers": 2}),
    "a projection to 1": ((4,), 6, 1, 3, {"num_layers": 2, "proj_size": 1}),
    "wide": ((2,), 5, 100, 130, {"num_layers": 2}),
    "one step": ((2,), 1, 3, 4, {}),
    "two units": ((), 8, 3, 2, {}),
}
QUICK = ("projection", "widths of 1", "two units")  # these run in float64 too, even without the tests marked slow


def problem(name, dtype=np.float64, seed=0):
    batch, steps, inputs, hidden, options = SHAPES[name]
    params = drawn_weights(inputs, hidden, **options, dtype=dtype, seed=seed)
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(dtype)
    layers, width = options.get("num_layers", 1), options.get("proj_size", hidden)
    return params, draw(*batch, steps, inputs), LSTMState(h=draw(layers, *batch, width), c=draw(layers, *batch, hidden))


def assert_same_bits(got, expected):
    assert streaming.apart(got, expected) == 0.0


@pytest.mark.isa
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=[] if dtype is np.float32 or name in QUICK else pytest.mark.slow)
        for name in SHAPES
        for dtype in (np.float64, np.float32)
    ],
)
def test_steps_and_chunks_give_the_bits_of_the_whole_sequence(name, dtype):
    params, x, state = problem(name, dtype)
    expected = STREAM(params, x, state)
    assert expected[0].dtype == dtype
    assert_same_bits(streaming.in_steps(STEP, params, x, state), expected)
    for length in {1, x.shape[-2] // 2, x.shape[-2] - 1} - {0, x.shape[-2]}:
        first, between = STREAM(params, x[..., :length, :], state)
        second, last = STREAM(params, x[..., length:, :], between)
        assert_same_bits((np.concatenate((first, second), -2), last), expected)


@pytest.mark.isa
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["no biases", "two units", "wide"])
def test_programs_with_the_loop_keep_the_promise_too(name, dtype):
    """An exported program contains the loop instead of the kernels for a CPU."""
    params, x, state = problem(name, dtype)
    exported = lambda run, *args: jax.jit(export.export(run)(*args).call)
    stream, step = exported(STREAM, params, x, state), exported(STEP, params, x[..., 0, :], state)
    expected = stream(params, x, state)
    assert_same_bits(streaming.in_steps(step, params, x, state), expected)
    compare = assert_close if dtype is np.float64 else assert_close_float32
    compare(STREAM(params, x, state), expected)


@pytest.mark.parametrize("run", [jax_lstm.lstm_step, jax_lstm.lstm_stream])
def test_a_backend_may_be_asked_for(run):
    native.need_kernels()
    several, one = problem("no biases"), problem("one row")
    for backend, of_several, of_one in (("auto", 2, 0), ("native", 2, 1), ("scan", 0, 0), ("cudnn", 0, 0)):
        asked = partial(run, backend=backend)
        for (params, x, state), layers in ((several, of_several), (one, of_one)):
            x = x[:, 0] if run is jax_lstm.lstm_step else x
            assert native.kernels_in(asked, params, x, state) == ["forward"] * layers
    params, x, state = problem("projection")
    x = x[:, 0] if run is jax_lstm.lstm_step else x
    with pytest.raises(ValueError, match=r"backend='native' cannot run this call: the weights have a projection to 4"):
        run(params, x, state, backend="native")
    with pytest.raises(ValueError, match="backend must be one of"):
        run(params, x, state, backend="fast")


@pytest.mark.parametrize("run", [jax_lstm.lstm_step, jax_lstm.lstm_stream])
def test_only_a_call_that_may_run_the_kernels_loads_them(run, tmp_path):
    """A file that does not load causes a warning, which pytest turns into an error."""
    several, one = problem("no biases"), problem("one row")
    (tmp_path / "no library").write_text("")
    for backend, (params, x, state) in (("scan", several), ("cudnn", several), ("pallas", several), ("auto", one)):
        with native.kernels_from(tmp_path / "no library"):
            run(params, x[:, 0] if run is jax_lstm.lstm_step else x, state, backend=backend)
    params, x, state = several
    with native.kernels_from(tmp_path / "no library"), pytest.warns(RuntimeWarning, match="does not load"):
        run(params, x[:, 0] if run is jax_lstm.lstm_step else x, state)


def test_an_error_names_the_shape_that_came():
    native.need_kernels()
    params = drawn_weights(5, 6, dtype=np.float64)
    for run, shape in ((jax_lstm.lstm_step, (0, 5)), (jax_lstm.lstm_stream, (0, 4, 5))):
        with pytest.raises(ValueError, match=re.escape(f"it refuses an empty batch, and x has shape {shape}")):
            run(params, np.zeros(shape), backend="native")


def test_a_module_hands_its_backend_on():
    native.need_kernels()
    params, x, state = problem("no biases")
    options = {"num_layers": 2, "bias": False, "param_dtype": jnp.float64}
    for backend, expected in (("auto", ["forward"] * 2), ("scan", [])):
        module = nnx.LSTM(6, 5, **options, backend=backend, rngs=flax_nnx.Rngs(0))
        apply = partial(linen.LSTM(5, **options, backend=backend).apply, {"params": params})
        for stream, step in (
            (module.stream, module.step),
            (partial(apply, method="stream"), partial(apply, method="step")),
        ):
            assert native.kernels_in(stream, x, state) == expected
            assert native.kernels_in(step, x[:, 0], state) == expected


def test_a_program_for_a_cpu_runs_the_kernels_if_they_can():
    native.need_kernels()
    params, x, state = problem("no biases")
    assert native.kernels_in(jax_lstm.lstm_stream, params, x, state) == ["forward"] * 2
    assert native.kernels_in(jax_lstm.lstm_step, params, x[..., 0, :], state) == ["forward"] * 2
    whole = jax.jit(lambda *args: jax_lstm.lstm(*args, backend="native"))(params, x, state)
    assert_same_bits(STREAM(params, x, state), whole)
    for without in (
        problem("projection"),
        problem("no biases", jnp.bfloat16),
        problem("one row"),
        problem("two units"),
    ):
        assert native.kernels_in(jax_lstm.lstm_stream, *without) == []


@pytest.mark.parametrize("run", [jax_lstm.lstm_step, jax_lstm.lstm_stream])
def test_the_kernels_take_a_mapped_axis_as_one_more_of_the_batch(run):
    native.need_kernels()
    params, x, state = problem("no biases")
    x = x[:, 0] if run is jax_lstm.lstm_step else x
    several = jax.tree.map(lambda a: np.stack([a, -a, 2 * a]), (x, state))
    mapped = jax.vmap(run, in_axes=(None, 0, 0))
    assert native.kernels_in(mapped, params, *several) == ["forward"] * 2
    found = jax.jit(mapped)(params, *several)
    for n in range(3):
        one = jax.tree.map(lambda a, n=n: a[n], several)
        assert_same_bits(jax.tree.map(lambda a, n=n: a[n], found), jax.jit(run)(params, *one))


@pytest.mark.parametrize("batch", [1, 2, 5, 40, 150])
def test_any_number_of_steps_at_once_gives_the_same_bits(batch):
    """The kernels pack the weights differently for few and many steps, and the height of tiles depends on the rows."""
    native.need_kernels()
    stream = jax.jit(partial(jax_lstm.lstm_stream, backend="native"))
    params = drawn_weights(150, 35, dtype=np.float32)
    x = np.random.default_rng(batch).normal(size=(batch, 12, 150)).astype(np.float32)
    expected = stream(params, x)
    for length in (1, 2, 3, 4, 5, 11):
        state, y = None, []
        for first in range(0, 12, length):
            y_of_chunk, state = stream(params, x[:, first : first + length], state)
            y.append(y_of_chunk)
        assert_same_bits((np.concatenate(y, 1), state), expected)


@pytest.mark.parametrize("name", SHAPES)
def test_a_stream_agrees_with_lstm_within_rounding(name):
    """The requirement for float64 is 1e-12."""
    args = problem(name)
    assert_close(STREAM(*args), WHOLE(*args))


def test_the_default_state_is_zero_and_time_may_come_first():
    params, x, state = problem("projection")
    expected = STREAM(params, x, jax.tree.map(np.zeros_like, state))
    y, last = jax.jit(lambda p, x: jax_lstm.lstm_stream(p, x, time_major=True))(params, x.swapaxes(0, 1))
    assert_same_bits((y.swapaxes(0, 1), last), expected)


AS_FOR_USERS = """
from functools import partial
import jax, numpy as np
from benchmarks.streaming import apart, in_steps
import jax_lstm
from jax_lstm import LSTMState

jax.config.update("jax_enable_x64", True)
on_loop = partial(jax_lstm.lstm_step, backend="scan"), partial(jax_lstm.lstm_stream, backend="scan")
step, stream = map(jax.jit, on_loop)
same = jax.jit(lambda params, x, state: jax.lax.scan(
    lambda state, _: on_loop[0](params, x, state)[::-1], state, None, length=8)[1])
for rows, inputs, hidden, dtype in {problems}:
    params = jax_lstm.init_lstm(jax.random.key(1), inputs, hidden, dtype=dtype)
    rng = np.random.default_rng(inputs * hidden)
    draw = lambda *shape: rng.normal(size=shape).astype(dtype)
    x, state = draw(*rows, 8, inputs), LSTMState(draw(1, *rows, hidden), draw(1, *rows, hidden))
    print(apart(in_steps(step, params, x, state), stream(params, x, state)))
    x[...] = x[..., :1, :]
    y, _ = in_steps(step, params, x, state)
    print(apart(np.moveaxis(same(params, x[..., 0, :], state), 0, -2), y))
"""
DIFFICULT = [((2,), 1, 4, "float64"), ((), 1, 6, "float64"), ((), 3, 2, "float32"), ((2,), 5, 1, "float32")]


@pytest.mark.isa
def test_neither_the_number_of_steps_nor_the_code_around_them_changes_a_bit_of_the_loop():
    """The programs are compiled as for a user. Quick compilation would hide the optimizations that made bits differ.

    With one or two units XLA compiles a loop into one kernel, and a single step into several kernels. If a user's loop
    read the same input in every step, XLA once moved x W_ih out of the loop, and rounded it there.
    """
    environment = os.environ | {"XLA_FLAGS": xla_flags.AS_USERS_COMPILE, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AS_FOR_USERS.replace("{problems}", repr(DIFFICULT))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["0.0"] * 2 * len(DIFFICULT), done.stdout + done.stderr


def test_one_export_serves_any_batch_and_any_number_of_steps():
    params = drawn_weights(5, 6, num_layers=2)
    x = jax.ShapeDtypeStruct(export.symbolic_shape("b, t, 5"), jnp.float64)
    run = jax.jit(lambda params, x: jax_lstm.lstm_stream(params, x)[0])
    reloaded = export.deserialize(export.export(run, platforms=["cpu", "cuda", "tpu"])(params, x).serialize())
    for shape in ((3, 1, 5), (1, 9, 5)):
        x = np.random.default_rng(0).normal(size=shape)
        np.testing.assert_allclose(reloaded.call(params, x), WHOLE(params, x)[0], rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_command_finds_no_difference(dtype):
    """It draws networks and compiles them as for users, also inside another model. Its exit code is the result."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--shapes", "3", "--seed", "1", "--dtype", dtype]
    environment = os.environ | {"XLA_FLAGS": xla_flags.AS_USERS_COMPILE}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("3 of 3") >= len(streaming.GROUPS)


@pytest.mark.isa
@pytest.mark.parametrize("group", streaming.GROUPS)
def test_lstm_in_steps_agrees_within_rounding_and_in_one_group_exactly(group):
    """64 ulps are the limit of crosscheck's float64 check. benchmarks.streaming says why one group has equal bits."""
    drawn = streaming.draw(group, np.random.default_rng(2), np.float64)
    drawn = streaming.Drawn(drawn.params, drawn.x[..., :10, :], drawn.state)
    ulps = dict(streaming.compare(drawn, np.random.default_rng(0)))
    assert ulps["lstm in steps"] <= (0.0 if group == "widths to 64" else 64.0)
    assert ulps["in steps"] == 0.0


def test_different_bits_are_noticed():
    a = np.array([1.0, -0.0, 1e-300])
    assert streaming.apart(a, a) == 0.0
    assert 0 < streaming.apart(a, np.array([1.0, 0.0, 1e-300])) < 1e-300
    assert 0 < streaming.apart(a, np.array([1.0, -0.0, 2e-300])) < 1e-200
    assert streaming.apart(a, np.array([1.0 + 3 * 2**-52, -0.0, 1e-300])) == 3.0
    assert streaming.apart((a, 8 * a), (a, 8 * a + np.array([2**-49, 0, 0]))) == 1.0


@pytest.mark.parametrize("options", [{"num_layers": 2, "proj_size": 3}, {"num_layers": 3, "bias": False}])
def test_steps_and_their_gradients_agree_with_torch_in_both_precision_checks(options):
    torch = need("torch")
    import crosscheck

    torch.manual_seed(0)
    reference = torch.nn.LSTM(4, 6, **options, batch_first=True)
    params = jax_lstm.convert.from_torch(reference.state_dict())

    def in_steps(params, x, state):
        step = lambda state, x: jax_lstm.lstm_step(params, x, state)[::-1]
        last, y = jax.lax.scan(step, LSTMState(h=state[0], c=state[1]), jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(y, 0, 1), (last.h, last.c)

    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    layers, width = options["num_layers"], options.get("proj_size", 6)
    inputs = draw(3, 7, 4), (draw(layers, 3, width), draw(layers, 3, 6))
    verdict = crosscheck.check(in_steps, reference, params, inputs)
    assert verdict.ok, str(verdict)
    assert {finding.check.dtype for finding in verdict.findings} >= {"float64", "float32"}


def test_bfloat16_keeps_its_state_in_float32():
    params, x, state = problem("projection", jnp.bfloat16)
    y, last = STEP(params, x[..., 0, :], state)
    assert (y.dtype, last.h.dtype, last.c.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    narrow = jax.jit(lambda p, x, s: jax_lstm.lstm_step(p, x, s, carry_dtype=jnp.bfloat16))
    assert narrow(params, x[..., 0, :], state)[1].c.dtype == jnp.bfloat16
    assert_same_bits(streaming.in_steps(STEP, params, x, state), STREAM(params, x, state))


def test_models_under_vmap_are_independent():
    models = [problem("no biases", seed=seed) for seed in (1, 2)]
    stacked = jax.tree.map(lambda *a: np.stack(a), *models)
    y, last = jax.jit(jax.vmap(jax_lstm.lstm_stream))(*stacked)
    assert_same_bits(streaming.in_steps(jax.jit(jax.vmap(jax_lstm.lstm_step)), *stacked), (y, last))
    for n, args in enumerate(models):
        got = jax.tree.map(lambda a, n=n: a[n], (y, last))
        assert_close(got, STREAM(*args))


def test_on_many_devices():
    params, x, _ = problem("projection")
    x = np.tile(x, (4, 1, 1))
    expected = STREAM(params, x)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        y, last = STREAM(jax.device_put(params, P()), jax.device_put(x, P("data")))
        assert jax.typeof(y).sharding.spec[0] == jax.typeof(last.c).sharding.spec[1] == "data"
        assert_close((y, last), expected)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    specs = {"in_specs": (P(), P("data")), "out_specs": (P("data"), P(None, "data"))}
    assert_close(jax.jit(jax.shard_map(jax_lstm.lstm_stream, mesh=mesh, **specs))(params, x), expected)


def test_the_kernels_run_inside_shard_map():
    native.need_kernels()
    params, x, _ = problem("no biases")
    x = np.concatenate([x] * 8)[:16]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    specs = {"in_specs": (P(), P("data")), "out_specs": (P("data"), P(None, "data"))}
    in_shards = jax.shard_map(jax_lstm.lstm_stream, mesh=mesh, **specs)
    assert native.kernels_in(in_shards, params, x) == ["forward"] * 2
    assert_close(jax.jit(in_shards)(params, x), STREAM(params, x))


def test_an_ensemble_of_weights_on_many_devices():
    """x is replicated. Some weights vary by device, and some do not."""
    params, x, _ = problem("projection")
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    varying = {
        name: np.stack([params[name] * (1 + n / 8) for n in range(8)]) for name in ("weight_hh_l1", "bias_ih_l1")
    }
    local = lambda w, x: jax_lstm.lstm_stream(params | {name: a[0] for name, a in w.items()}, x)[0][None]
    y = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(P("model"), P()), out_specs=P("model")))(varying, x)
    for n in (0, 7):
        expected = STREAM(params | {name: a[n] for name, a in varying.items()}, x)[0]
        np.testing.assert_allclose(y[n], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("time_major", [False, True])
def test_the_methods_of_modules_agree_with_the_functions(time_major):
    options = {"num_layers": 2, "proj_size": 3, "time_major": time_major, "param_dtype": jnp.float64}
    x = np.random.default_rng(0).normal(size=(5, 5, 4))
    module = nnx.LSTM(4, 6, **options, rngs=flax_nnx.Rngs(0))
    params = flax_nnx.to_pure_dict(flax_nnx.state(module, flax_nnx.Param))
    state = STREAM(params, x)[1]
    expected = jax.jit(lambda p, x, s: jax_lstm.lstm_stream(p, x, s, time_major=time_major))(params, x, state)
    assert_same_bits(jax.jit(lambda m, x, s: m.stream(x, s))(module, x, state), expected)
    apply = jax.jit(linen.LSTM(6, **options).apply, static_argnames="method")
    assert_same_bits(apply({"params": params}, x, state, method="stream"), expected)
    expected = STEP(params, x[0], state)
    assert_same_bits(jax.jit(lambda m, x, s: m.step(x, s))(module, x[0], state), expected)
    assert_same_bits(apply({"params": params}, x[0], state, method="step"), expected)


def test_modules_pass_their_dtypes_on():
    options = {"dtype": jnp.bfloat16, "carry_dtype": jnp.bfloat16}
    model, x = linen.LSTM(4, **options), jnp.ones((2, 1, 3))
    variables = model.init(jax.random.key(0), x)
    module = nnx.LSTM(3, 4, **options, rngs=flax_nnx.Rngs(0))
    for y, state in (model.apply(variables, x, method="stream"), module.stream(x)):
        assert y.dtype == state.h.dtype == jnp.bfloat16
    for y, after in (model.apply(variables, x[:, 0], state, method="step"), module.step(x[:, 0], state)):
        assert y.dtype == after.h.dtype == jnp.bfloat16


def test_precision_reaches_every_product():
    """Each of two layers has one product with x, one with h and one in the projection."""
    params, x, state = problem("projection")
    module = nnx.LSTM(5, 9, num_layers=2, proj_size=4, precision="highest", rngs=flax_nnx.Rngs(0))
    apply = partial(linen.LSTM(9, num_layers=2, proj_size=4, precision="highest").apply, {"params": params})
    highest = (jax.lax.Precision.HIGHEST,) * 2
    for function, *args in (
        (lambda x: jax_lstm.lstm_step(params, x, state, precision="highest"), x[:, 0]),
        (lambda x: jax_lstm.lstm_stream(params, x, precision="highest"), x),
        (lambda x: module.step(x, state), x[:, 0]),
        (module.stream, x),
        (lambda x: apply(x, state, method="step"), x[:, 0]),
        (lambda x: apply(x, method="stream"), x),
    ):
        assert [p.params["precision"] for p in products(function, *args, inside="while")] == [highest] * 6


def test_a_sequence_model_steps_through_its_tokens():
    tokens = np.random.default_rng(0).integers(0, 11, (3, 6))
    model = linen.SequenceModel(11, 4, 5, 7, num_layers=2, param_dtype=jnp.float64)
    variables = model.init(jax.random.key(1), tokens)
    nnx_model = nnx.SequenceModel(11, 4, 5, 7, num_layers=2, param_dtype=jnp.float64, rngs=flax_nnx.Rngs(0))
    flax_nnx.update(nnx_model, variables["params"])
    expected, last = jax.jit(model.apply)(variables, tokens)
    step = jax.jit(lambda v, token, s: model.apply(v, token, s, method="step"))
    state = other = LSTMState(jnp.zeros((2, 3, 5)), jnp.zeros((2, 3, 5)))
    for t in range(6):
        logits, state = step(variables, tokens[:, t], state)
        again, other = jax.jit(lambda m, token, s: m.step(token, s))(nnx_model, tokens[:, t], other)
        np.testing.assert_allclose(logits, expected[:, t], rtol=1e-12, atol=1e-13)
        np.testing.assert_array_equal(logits, again)
    np.testing.assert_allclose(state.c, last.c, rtol=1e-12, atol=1e-13)


PARAMS, X, STATE = problem("projection")
H, C = STATE.h, STATE.c
BIDIRECTIONAL = drawn_weights(5, 9, bidirectional=True, dtype=np.float32)
REFUSED = {
    "both directions": (BIDIRECTIONAL, X[:, 0], STATE, ValueError, r"lstm_step needs a network of one direction; .*_reverse.*jax_lstm\.lstm\."),
    "an RNN": (drawn_weights(5, 9, kind="rnn", dtype=np.float32), X[:, 0], STATE, ValueError, r"an RNN's .*use jax_lstm\.rnn"),
    "features": (PARAMS, X[:, 0, :4], STATE, ValueError, r"x must be \[\*batch, D\] with D = 5; got shape \(2, 4\)"),
    "a time axis": (PARAMS, X, STATE, ValueError, r"x must be \[\*batch, D\], one step; got shape \(2, 8, 5\) .*time axis.*x\[\.\.\., t, :\], or all of them to lstm_stream"),
    "a time axis first": (PARAMS, X.swapaxes(0, 1), STATE, ValueError, "one step; .*time axis"),
    "a time axis of one": (PARAMS, X[:, :1], STATE, ValueError, "one step; .*time axis"),
    "a time axis, no batch": (PARAMS, X[0], LSTMState(H[:, 0], C[:, 0]), ValueError, r"got shape \(8, 5\) .*time axis"),
    "integers": (PARAMS, X[:, 0].astype(int), STATE, TypeError, "x must be floating point; got dtype int64"),
    "a list": (PARAMS, [1.0], STATE, TypeError, r"x must be a floating-point array \[\*batch, D\]; got list"),
    "a number": (PARAMS, X[0, 0, 0], STATE, ValueError, r"x must be \[\*batch, D\] with D = 5; got shape \(\)"),
    "a pair": (PARAMS, X[:, 0], (H, C), TypeError, "state must be a jax_lstm.LSTMState or None; got tuple"),
    "swapped": (PARAMS, X[:, 0], LSTMState(C, H), ValueError, r"state\.h must be .* = \(2, 2, 4\); got shape \(2, 2, 9\)"),
    "a cell's state": (PARAMS, X[[0, 0, 0], 0], LSTMState(X[0, :3, :4], C[0]), ValueError, r"state\.h must be .* = \(2, 3, 4\); got shape \(3, 4\)"),
    "too few layers": (PARAMS, X[:, 0], LSTMState(H, C[:1]), ValueError, r"state\.c must be .* = \(2, 2, 9\); got shape \(1, 2, 9\)"),
    "half a state": (PARAMS, X[:, 0], LSTMState(H, None), TypeError, r"state\.c must be a floating-point array .*got NoneType"),
    "another batch": (PARAMS, X[:1, 0], STATE, ValueError, r"state\.h must be .* = \(2, 1, 4\); got shape \(2, 2, 4\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_step_refuses_wrong_input(name):
    params, x, state, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        jax_lstm.lstm_step(params, x, state)


def test_a_step_refuses_a_tensor_of_torch():
    with pytest.raises(TypeError, match="a torch tensor came"):
        jax_lstm.lstm_step(PARAMS, need("torch").ones(2, 5), STATE)


def test_an_integer_carry_is_refused():
    for function, x in ((jax_lstm.lstm_step, X[:, 0]), (jax_lstm.lstm_stream, X)):
        with pytest.raises(TypeError, match="carry_dtype must be a floating-point dtype"):
            function(PARAMS, x, STATE, carry_dtype=int)


def test_a_stream_refuses_wrong_input():
    for params, x, state, error, message in (
        (BIDIRECTIONAL, X, None, ValueError, "lstm_stream needs a network of one direction"),
        (PARAMS, X[:, 0, 0], None, ValueError, r"x must be \[\*batch, T, D\], at least \[T, D\]; got shape \(2,\)"),
        (PARAMS, X[:, :0], None, ValueError, "at least one step; .*T = 0"),
        (PARAMS, X, (H, C), TypeError, "state must be a jax_lstm.LSTMState or None; got tuple"),
        (PARAMS, X, LSTMState(C, H), ValueError, r"state\.h must be"),
    ):
        with pytest.raises(error, match=message):
            jax_lstm.lstm_stream(params, x, state)


def test_methods_of_modules_refuse_wrong_input():
    x = jnp.ones((2, 4))
    for options, message in (({"bidirectional": True}, "one direction"), ({"num_layers": 2}, r"state\.h must be")):
        variables = linen.LSTM(5, **options).init(jax.random.key(0), x[:, None])
        state = LSTMState(jnp.zeros((1, 2, 5)), jnp.zeros((1, 2, 5)))
        with pytest.raises(ValueError, match=message):
            linen.LSTM(5, **options).apply(variables, x, state, method="step")
        with pytest.raises(ValueError, match=message):
            nnx.LSTM(4, 5, **options, rngs=flax_nnx.Rngs(0)).step(x, state)
    with pytest.raises(ValueError, match=r"params\['weight_ih_l0'\] of linen\.LSTM must have shape \(20, 3\)"):
        linen.LSTM(5, num_layers=2).apply(variables, x[:, :3], state, method="step")
