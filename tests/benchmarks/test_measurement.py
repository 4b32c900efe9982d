"""All implementations do the same work: one that computes something else than torch is refused."""

from __future__ import annotations

from crosscheck.core.problem import Gradient
from tests.support.requirements import need

need("torch")

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental import rnn
from jax.experimental.compilation_cache import compilation_cache

import jax_lstm
from benchmarks.agreement import limit, worst
from benchmarks.implementation import TimedImplementation
from benchmarks.implementations import KNOWN, choose, torch_lstm
from benchmarks.implementations.jax_lstm import ours
from benchmarks.jax_program import ready_jax
from benchmarks.measurement import measure
from benchmarks.options import FEATURES, KINDS
from benchmarks.settings import measuring
from benchmarks.shapes import Shape
from benchmarks.timing import Clock
from benchmarks.work import make_work, reference
from crosscheck.libraries import NotSupported, jax_cudnn
from tests.support.libraries import lstm_without_cudnn, without_library

SHAPE = Shape(7, 3, 5, 4)
OTHER_LIBRARIES = ["flax.linen", "flax.nnx", "haiku", "equinox"]
QUICK = Clock(settle=0.0, rest=0.0)


def run(implementations, kind="training", feature="plain", precision="float32", shape=SHAPE):
    work = make_work(shape, kind, feature, precision)
    return measure(work, implementations, most_runs=2, budget=1.0, clock=QUICK, say=lambda what: None)


OURS_AND_TORCHS = ["jax_lstm", "jax_lstm chunks", "torch.nn.LSTM"]
WORKS = [  # a training step has the forward pass in it
    pytest.param(name, kind, marks=pytest.mark.slow if kind == "forward" and name not in ("jax_lstm", "haiku") else [])
    for name in (*OURS_AND_TORCHS, *OTHER_LIBRARIES)
    for kind in KINDS
]


@pytest.mark.isa
@pytest.mark.parametrize(("name", "kind"), WORKS)
def test_an_implementation_does_the_same_work(name, kind):
    if name in ("haiku", "equinox"):
        need(name)
    (row,) = run(choose([name]), kind)
    assert (row.reason, row.differs, len(row.seconds)) == ("", False, 2)
    jitted = not name.startswith("torch")
    assert (row.compile_seconds is not None, row.memory is not None) == (jitted, jitted)
    assert all(value > 0 for value in (row.median, row.compile_seconds or 1))
    assert row.version[0].isdigit()


@pytest.mark.isa
@pytest.mark.parametrize("feature", FEATURES[1:])
def test_a_feature_is_the_same_work_in_ours_and_torch(feature):
    ours_, torchs, flaxs = run(choose(["jax_lstm", "torch.nn.LSTM", "flax.linen"]), feature=feature)
    assert not ours_.reason + torchs.reason
    assert not flaxs.seconds
    assert not flaxs.differs
    assert {"lengths": "seq_lengths", "projection": "projection", "bidirectional": "direction", "layers": "layer"}[
        feature
    ] in flaxs.reason


@pytest.mark.isa
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_narrow_precision_is_used_by_every_implementation(precision):
    names = ["jax_lstm", "torch.nn.LSTM", "flax.linen", "flax.nnx"]
    for row in run(choose(names), "forward", precision=precision):
        assert not row.reason
        assert 1e-5 < row.error < limit(make_work(SHAPE, "forward", precision=precision))


def test_numbers_of_a_narrow_precision_are_exact_in_it():
    work = make_work(SHAPE, "training", precision="bfloat16")
    for a in (work.x, work.cotangent, *work.weights.values()):
        assert np.array_equal(jnp.asarray(a, jnp.bfloat16).astype(jnp.float32), a)
    assert not np.array_equal(work.x, make_work(SHAPE, "training").x)


def of_ours(name, weights_of=lambda w: w, change=lambda y: y, inputs=lambda x: x):
    apply = lambda w, x: change(jax_lstm.lstm(w, inputs(x), time_major=True)[0])
    return TimedImplementation(name, "jax-lstm", "", lambda work: ready_jax(work, apply, weights_of))


def blocks(a, order):
    return jnp.concatenate([jnp.split(a, 4)[n] for n in order])


@jax.custom_vjp
def twice_backward(y):
    return y


twice_backward.defvjp(lambda y: (y, None), lambda _, g: (2 * g,))

WRONG = {
    "gate order": of_ours("w", lambda w: {n: blocks(a, (0, 2, 1, 3)) for n, a in w.items()}),
    "one more on the forget gate": of_ours("w", lambda w: w | {"bias_hh_l0": w["bias_hh_l0"].at[4:8].add(1)}),
    "no recurrent bias": of_ours("w", lambda w: w | {"bias_hh_l0": 0 * w["bias_hh_l0"]}),
    "a narrow input": of_ours("w", inputs=lambda x: x.astype(jnp.bfloat16).astype(x.dtype)),
    "TF32": of_ours("w", inputs=lambda x: jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=10)),
    "time shifted": of_ours("w", change=lambda y: jnp.roll(y, 1, axis=0)),
    "another shape": of_ours("w", change=lambda y: y[:, :1]),
    "NaN": of_ours("w", change=lambda y: y.at[0, 0, 0].set(jnp.nan)),
    "gradients doubled": of_ours("w", change=twice_backward),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_work_is_refused_and_not_timed(name):
    kind = "training" if name == "gradients doubled" else "forward"
    right, wrong = run([ours(), WRONG[name]], kind)
    assert right.seconds
    assert (wrong.differs, wrong.seconds) == (True, ())
    assert wrong.reason.startswith(f"computes something else: {'grad ' if kind == 'training' else 'y'}")


def test_gradients_come_back_by_torchs_names():
    """Each of torch's biases has the whole gradient, although other libraries have only one bias."""
    work = make_work(SHAPE, "training")
    with measuring("float32"):
        ready = KNOWN["flax.linen"].ready(work)
        got, expected = ready.read(ready.call()), reference(work)
    assert got.keys() == expected.keys() - {"y"}
    assert np.array_equal(got[Gradient("bias_ih_l0")], got[Gradient("bias_hh_l0")])
    for name in got:
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-5)
    broken = {**got, Gradient("bias_hh_l0"): 0 * got[Gradient("bias_hh_l0")]}
    assert worst(work, expected, broken) == (Gradient("bias_hh_l0"), 1.0)
    assert worst(work, expected, {**got, "loss": got["loss"] * 1.01})[0] == "loss"
    del broken[Gradient("x")]
    assert worst(work, expected, broken) == (Gradient("x"), float("inf"))


def refuse(work):
    raise NotSupported("has no such thing")


def explode(work):
    raise MemoryError("took\nall")


def explode_later(work):
    ready, calls = ours().ready(work), []

    def call():
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("out of memory")
        return ready.call()

    return type(ready)(call, ready.read)


def test_what_is_missing_is_a_row_and_stops_no_other():
    failing = [TimedImplementation(f.__name__, "no-such-package", "", f) for f in (refuse, explode, explode_later)]
    rows = run([*failing, ours()], "forward")
    assert [row.reason for row in rows] == [
        "has no such thing", "MemoryError: took", "RuntimeError: out of memory", "",
    ]  # fmt: skip
    assert [len(row.seconds) for row in rows] == [0, 0, 0, 2]
    assert [row.version for row in rows[:3]] == ["not installed"] * 3
    assert not any(row.differs for row in rows)


@pytest.mark.parametrize("library", ["haiku", "equinox"])
def test_a_library_that_is_not_there_is_missing(library, monkeypatch):
    without_library(monkeypatch, library)
    (row,) = run(choose([library]), "forward")
    assert f"{library} is not installed; " in row.reason


def test_what_only_a_gpu_or_a_tpu_has_and_what_would_take_too_long_is_missing():
    (row,) = run(choose(["jax.experimental.rnn"]), "forward")
    assert row.reason == "needs an NVIDIA GPU"
    (row,) = run(choose(["jax_lstm backend=pallas"]), "forward")
    assert row.reason == "needs a TPU: a program for another platform runs scan"
    (row,) = run(choose(["torch.compile"]), "forward", shape=Shape(1_001, 1, 2, 2))
    assert row.reason == "a loop in Python, left out above 1,000 steps"


of_torchs_compiler = pytest.mark.filterwarnings(
    "ignore:`torch.jit.*` is deprecated:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)


@pytest.mark.slow
@of_torchs_compiler
def test_torch_compiles_the_step():
    for kind in KINDS:
        (row,) = run(choose(["torch.compile"]), kind)
        assert row.seconds, row.reason
        assert row.compile_seconds > 10 * row.median


@pytest.mark.slow
@of_torchs_compiler
def test_torch_compiles_anew_each_time(monkeypatch, tmp_path):
    """torch reads no program of an earlier run, and does not reach its limit on the programs of one function."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for batch in (2, 3):
            (row,) = run(choose(["torch.compile"]), "forward", shape=Shape(7, batch, 5, 4))
            assert row.seconds, row.reason
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@of_torchs_compiler
def test_what_torchs_compiler_said_is_the_reason_and_no_file_is_left(monkeypatch):
    folders = []
    said = "backend='inductor' raised:\nCppCompileError: C++ compile error\n\nCommand:\ng++ main.cpp"

    def fail(*arguments, **options):
        folders.append(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]))
        assert folders[0].is_dir()
        raise torch._dynamo.exc.TorchDynamoException(said)

    monkeypatch.setattr(torch_lstm, "ready_torch", fail)
    (row,) = run(choose(["torch.compile"]), "forward")
    assert row.reason == "torch.compile failed: backend='inductor' raised: CppCompileError: C++ compile error"
    assert not folders[0].exists()


def test_jax_compiles_anew_each_time(tmp_path):
    settings = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    compiled = lambda: jax.jit(lambda x: jnp.cos(x) * 3.25).lower(np.ones(3, np.float32)).compile()
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        with measuring("float32"):
            compiled()
        assert not list(tmp_path.iterdir())
        compiled()
        assert list(tmp_path.iterdir()), "the user's cache is used again"
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@pytest.mark.parametrize("feature", ["plain", "layers", "bidirectional"])
def test_cudnns_weights_from_jax(feature, monkeypatch):
    """JAX's reference of cuDNN runs them, in the order in which JAX unpacks the flat vector."""
    work = make_work(SHAPE, "forward", feature)

    monkeypatch.setattr(rnn, "lstm", lstm_without_cudnn)
    adapter = jax_cudnn.adapter(work.case)
    with measuring("float32"):
        weights = adapter.write({name: jnp.asarray(a) for name, a in work.weights.items()})
        y, *_ = jax.jit(lambda w, x: adapter.run(w, x, None, None))(weights, jnp.asarray(work.x.swapaxes(0, 1)))
        np.testing.assert_allclose(y.swapaxes(0, 1), reference(work)["y"], rtol=0, atol=1e-6)


def test_options_of_ours_are_named_and_checked():
    seen = {}

    def spy(weights, x, **options):
        seen.update(options)
        return jnp.zeros((*x.shape[:2], 4)), None

    with pytest.MonkeyPatch.context() as patch, measuring("float32"):
        patch.setattr(jax_lstm, "lstm", spy)
        choose(["jax_lstm unroll=4 checkpoint_every=sqrt truncate_every=2"])[0].ready(make_work(SHAPE, "forward"))
    wanted = {"unroll": 4, "checkpoint_every": 3, "truncate_every": 2}
    assert {name: seen[name] for name in wanted} == wanted
    with pytest.raises(ValueError, match="'unrol=4' is no option of jax_lstm here; write chunks, or OPTION="):
        choose(["jax_lstm unrol=4"])
    for array in ("mask", "reset_state", "lengths"):  # text cannot express an array
        with pytest.raises(ValueError, match=f"'{array}=1' is no option of jax_lstm here"):
            choose([f"jax_lstm {array}=1"])
    with pytest.raises(
        ValueError, match=r"unknown implementation 'flax' \(did you mean 'flax.nnx'\?\); known: jax_lstm, "
    ):
        choose(["flax"])


def test_settings_hold_inside_and_are_restored():
    torch.set_float32_matmul_precision("high")
    try:
        with measuring("float32"):
            assert not jax.config.jax_enable_x64
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        with measuring("tf32"):
            assert torch.backends.cudnn.allow_tf32
        assert jax.config.jax_enable_x64
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
