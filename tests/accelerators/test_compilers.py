"""TPU's and CUDA's own compilers accept the programs, and the compiled programs have the intended structure.

No program is executed, and no device is needed. `make test-accelerators` installs the compilers, which are packages,
and runs these tests. Without them every test skips, and says what is missing.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jax_lstm
from benchmarks.accelerators.figures import figures_of
from benchmarks.accelerators.programs import compile_for, compile_network, network, training_step
from benchmarks.accelerators.targets import devices_of, missing
from benchmarks.shapes import Shape
from crosscheck.studies.compiled.collectives import find_collectives
from tests.support import lowering_cases

ONE = ("v5e", "v6e", "h100")
FOUR = tuple(f"{name} x 4" for name in ONE)
SHAPE = Shape(96, 16, 40, 128)  # no two sizes are equal, and also none within a block
HIDDEN = SHAPE.hidden
# The dimensions of the recurrent weights, sorted: whole, and per gate. A product of the two directions or of a
# projection has the same dimensions.
WEIGHTS = {(HIDDEN, 4 * HIDDEN), (HIDDEN, HIDDEN), (HIDDEN // 2, 4 * HIDDEN), (HIDDEN // 2, HIDDEN)}
OPTIONS = {
    "plain": {},
    "both directions": {"bidirectional": True},
    "projection": {"proj_size": HIDDEN // 2},
    "lengths": {"lengths": jax.ShapeDtypeStruct((SHAPE.batch,), jnp.int32)},
    "mask": {"mask": jax.ShapeDtypeStruct((SHAPE.batch, SHAPE.steps), jnp.bool_)},
    "reset": {"reset": jax.ShapeDtypeStruct((SHAPE.batch, SHAPE.steps), jnp.bool_)},
    "chunks": {"checkpoint_every": 32},
    "truncation": {"truncate_every": 32},
}


@pytest.fixture(autouse=True)
def _as_users_have_it():
    with jax.enable_x64(False):
        yield


def need(target):
    if reason := missing(target):
        pytest.skip(f"{target}: {reason}")


def some_slow(names, quick):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_slow(lowering_cases.CASES, ("bidirectional, two layers", "nnx.SequenceModel")))
@pytest.mark.parametrize("target", some_slow(ONE, ("v5e", "h100")))
def test_a_function_compiles(target, name):
    need(target)
    function, (params, x) = lowering_cases.CASES[name]
    with jax.enable_x64(True):
        for run in (function, lowering_cases.training_step(function)):
            assert figures_of(compile_for(target, run, params, x)).loops


def compiled(target, name, dtype="float32"):
    """Compile a training step with one of OPTIONS. Arrays among them are arguments."""
    options = dict(OPTIONS[name])
    arrays = {key: options.pop(key) for key in tuple(options) if isinstance(options[key], jax.ShapeDtypeStruct)}
    apply, weights, x = network("jax_lstm", SHAPE, dtype, **options)
    if not arrays:
        return compile_for(target, training_step(apply), weights, x)
    ((key, array),) = arrays.items()
    with_array = lambda weights, x, a: training_step(
        lambda w, x: network("jax_lstm", SHAPE, dtype, **{key: a})[0](w, x)
    )(weights, x)
    return compile_for(target, with_array, weights, x, array)


@pytest.mark.parametrize("name", some_slow(OPTIONS, ("plain", "projection", "mask")))
@pytest.mark.parametrize("target", some_slow(ONE, ("v5e", "h100")))
def test_no_loop_copies_or_transposes_a_weight(target, name):
    need(target)
    loops = loops_over_steps(figures_of(compiled(target, name)), name)
    assert loops
    assert not any(WEIGHTS.intersection(loop.moved) for loop in loops)


def loops_over_steps(figures, name):
    """Return all loops over blocks and steps, but not the loop over chunks, which moves a weight per chunk."""
    return [loop for loop in figures.loops if name != "chunks" or len(loop.trips) > 1]


def test_a_moved_weight_is_noticed():
    """The control: a weight that differs by step must be transposed in the loop."""
    need("h100")

    def every_step(w, x):
        def step(w, x_t):
            w = jnp.roll(w, 1, 0) * 2
            return w, jnp.sum(jnp.sort(w.T, axis=0), 0)

        return jax.lax.scan(step, w, x)[1]

    program = compile_for("h100", every_step, jax.ShapeDtypeStruct((4 * HIDDEN, HIDDEN), jnp.float32), jnp.ones((9, 2)))
    assert any(WEIGHTS.intersection(loop.moved) for loop in figures_of(program).loops)


@pytest.mark.parametrize("name", some_slow(OPTIONS, ("plain", "lengths")))
@pytest.mark.parametrize("target", some_slow(FOUR, ("v5e x 4", "h100 x 4")))
def test_devices_wait_for_each_other_outside_of_loops_only(target, name):
    need(target)
    found = find_collectives(compiled(target, name))
    assert found
    around = 1 if name == "chunks" else 0  # the loop over chunks
    assert all(len(each.loops) <= around for each in found)


@pytest.mark.parametrize("target", ["v5e x 4", "h100 x 4"])
def test_a_collective_in_a_loop_is_noticed(target):
    """The control: at every step, a mean over the batch, which is split over the devices."""
    need(target)

    def over_the_batch(w, x):
        step = lambda h, x_t: (jnp.tanh(x_t + jnp.mean(h @ w, axis=0)), None)
        return jax.lax.scan(step, x[:, 0], x.swapaxes(0, 1))[0]

    w = jax.ShapeDtypeStruct((HIDDEN, HIDDEN), jnp.float32)
    x = jax.ShapeDtypeStruct((SHAPE.batch, SHAPE.steps, HIDDEN), jnp.float32)
    assert any(each.loops for each in find_collectives(compile_for(target, over_the_batch, w, x)))


PALLAS = ("v5e", "v6e", "v5p", "tpu7x")
KERNEL_SIZES = {
    "small": (SHAPE, "float32", {}),
    "odd, x64": (Shape(37, 3, 5, 7), "float32", {"bidirectional": True, "num_layers": 2}),
    "bfloat16": (SHAPE, "bfloat16", {}),
    "highest": (SHAPE, "float32", {"precision": "highest"}),
    "chunks": (SHAPE, "float32", {"checkpoint_every": 32}),
    "large": (Shape(1_024, 128, 512, 512), "float32", {}),
    "most of the memory": (Shape(9, 128, 1_280, 1_280), "float32", {}),
}


def kernels_in(compiled):
    return compiled.as_text().count('custom_call_target="tpu_custom_call"')


@pytest.mark.parametrize("name", some_slow(KERNEL_SIZES, ("odd, x64", "bfloat16", "most of the memory")))
@pytest.mark.parametrize("target", some_slow(PALLAS, ("v5e", "tpu7x")))
def test_the_kernels_compile(target, name):
    need(target)
    shape, dtype, options = KERNEL_SIZES[name]
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    with jax.enable_x64("x64" in name):
        forward, training = (
            compile_network(target, "jax_lstm", shape, kind, dtype, backend="pallas", **options)
            for kind in ("forward", "training")
        )
    chunks = 2 if "checkpoint_every" in options else 1  # each chunk is run once more, for its backward pass
    assert kernels_in(forward) == layers
    assert kernels_in(training) == (1 + chunks) * layers


def test_the_kernels_copy_no_time_major_sequence():
    need("v5e")
    shape = Shape(1_024, 128, 512, 512)
    _, weights, x = network("jax_lstm", shape, "float32")
    temporary = {}
    for time_major in (False, True):
        run = partial(jax_lstm.lstm, backend="pallas", time_major=time_major)
        given = jax.ShapeDtypeStruct((shape.steps, shape.batch, shape.inputs), x.dtype) if time_major else x
        temporary[time_major] = figures_of(compile_for("v5e", run, weights, given)).temporary
    size = 4 * shape.steps * shape.batch * shape.inputs
    assert temporary[False] >= 2 * size  # x and y
    assert temporary[True] < size / 100


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("target", some_slow(("v5e x 4", "v6e x 4"), ("v5e x 4",)))
def test_a_program_for_several_tpus_holds_the_kernels_under_shard_map_only(target, manual):
    need(target)
    apply, weights, x = network("jax_lstm", SHAPE, "float32", backend="pallas")
    step = training_step(apply)
    if manual:
        local = lambda weights, x: jax.lax.pmean(apply(weights, x).astype(jnp.float32).sum(), "data")
        mesh = Mesh(np.array(devices_of(target)), ("data",))
        total = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
        step = jax.value_and_grad(total, argnums=(0, 1))
    program = compile_for(target, step, weights, x)
    assert kernels_in(program) == (2 if manual else 0)
    assert not any(each.loops for each in find_collectives(program))


@pytest.mark.slow
def test_what_does_not_fit_into_a_tpu_fits_in_chunks():
    """TPU's compiler refuses a program that needs more memory than the chip has: 16 GB."""
    need("v5e")
    long = Shape(12_288, 128, 32, 512)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        compile_network("v5e", "jax_lstm", long, "training", "float32")
    assert figures_of(compile_network("v5e", "jax_lstm", long, "training", "float32", checkpoint_every=128)).peak < 16e9
