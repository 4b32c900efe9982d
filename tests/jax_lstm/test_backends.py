"""The choice of a backend: cudnn's precision, the calls that cudnn refuses, and the choice and reason of "auto"."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental import rnn

import jax_lstm
from jax_lstm import choose_backend
from jax_lstm._src import backends
from jax_lstm._src.network import Network
from tests.support import fake_cudnn
from tests.support.arrays import drawn_weights
from tests.support.fake_cudnn import B, D, H, T, problem
from tests.support.native import need_kernels

GPUS = [device for device in jax.devices() if device.platform == "gpu"]
HIGHEST, HIGH = jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGH
PRESET = jax.lax.DotAlgorithmPreset
PRECISIONS = [
    (None, None, True),
    (None, "highest", False),
    (None, "float32", False),
    (None, "bfloat16", True),
    ("high", "highest", True),
    ("default", None, True),
    ("highest", None, False),
    ("float32", "high", False),
    (HIGHEST, None, False),
    ((HIGH, HIGHEST), None, False),
    (("high", "default"), None, True),
    ("F32_F32_F32", None, False),
    (PRESET.F32_F32_F32, None, False),
    (PRESET.TF32_TF32_F32, None, True),
    ("BF16_BF16_F32", None, None),
    (None, "BF16_BF16_F32_X3", None),
]


@pytest.fixture
def calls(monkeypatch):
    return fake_cudnn.install(monkeypatch)


@pytest.mark.parametrize(("precision", "default", "tf32"), PRECISIONS)
def test_cudnn_uses_tf32_only_if_the_precision_allows_it(precision, default, tf32, calls):
    params, x, _ = problem()
    run = lambda p, x: jax_lstm.lstm(p, x, backend="cudnn", precision=precision)
    with jax.default_matmul_precision(default):
        if tf32 is None:
            with pytest.raises(ValueError, match=f"no precision .*{precision or default}"):
                run(params, x)
        else:
            jax.eval_shape(run, params, x)
            assert [rnn._lstm_cudnn_allow_tf32(call["precision"]) for call in calls] == [tf32]


def narrow(tree, dtype=jnp.bfloat16):
    return jax.tree.map(lambda a: a.astype(dtype), tree)


def shapes_of(inputs, hidden, **network):
    return Network("lstm", inputs, hidden, **network).shapes()


def is_shape(leaf):
    return isinstance(leaf, tuple)


WIDE = problem(dtype=jnp.float64)[:2]
REFUSED = {
    "float64": (*WIDE, {}, "compute in float64, and it takes float32 only"),
    "float64 x": (problem()[0], WIDE[1], {}, "compute in float64"),
    "bfloat16": (*narrow(problem()[:2]), {}, "compute in bfloat16, and it takes float32 only"),
    "carry": (*problem()[:2], {"carry_dtype": jnp.float64}, "carry_dtype is float64"),
    "projection": (*problem(proj_size=2)[:1], problem()[1], {}, "a projection to 2"),
    "reset": (*problem()[:2], {"reset": np.zeros((B, T), bool)}, "it has no reset"),
    "truncation": (*problem()[:2], {"truncate_every": 2}, "it has no truncate_every"),
    "chunks": (*problem()[:2], {"checkpoint_every": 2}, "it has no checkpoint_every"),
    "empty": (problem()[0], problem()[1][:0], {}, r"refuses an empty batch, and x has shape \(0, 6, 3\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_cudnn_refuses_a_call_with_a_reason_and_auto_says_it_too(name, calls):
    params, x, options, message = REFUSED[name]
    error = rf"backend='cudnn' cannot run this call: [^;]*{message}[^;]*\. Write backend='scan'"
    with pytest.raises(ValueError, match=error):
        jax.jit(lambda p, x: jax_lstm.lstm(p, x, backend="cudnn", **options))(params, x)
    with pytest.raises(ValueError, match=error):
        choose_backend(params, x, backend="cudnn", **options)
    choice = choose_backend(params, x, **options)
    assert choice.backend != "cudnn"
    assert re.search(f"cudnn cannot run this call: .*{message}", choice.reason)
    jax.eval_shape(lambda p, x: jax_lstm.lstm(p, x, **options), params, x)
    assert not calls


LARGE = jax.tree.map(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), shapes_of(D, 2048), is_leaf=is_shape)
REFUSED_BY_PALLAS = {
    "float16": (*narrow(problem()[:2], jnp.float16), {}, "compute in float16, and it takes float32 and bfloat16 only"),
    "carry": (*narrow(problem()[:2]), {"carry_dtype": jnp.bfloat16}, "carry_dtype is bfloat16"),
    "projection": (*problem(proj_size=2)[:1], problem()[1], {}, "a projection to 2"),
    "lengths": (*problem()[:2], {"lengths": np.full(B, 2)}, "it has no lengths"),
    "mask": (*problem()[:2], {"mask": np.ones((B, T), bool)}, "it has no mask"),
    "reset": (*problem()[:2], {"reset": np.zeros((B, T), bool)}, "it has no reset"),
    "truncation": (*problem()[:2], {"truncate_every": 2}, "it has no truncate_every"),
    "two precisions": (*problem()[:2], {"precision": ("high", "highest")}, r"no precision \('high', 'highest'\)"),
    "high": (
        *problem()[:2],
        {"precision": "high"},
        "knows the precisions 'default' and 'highest', .* no precision 'high'",
    ),
    "preset": (*problem()[:2], {"precision": PRESET.BF16_BF16_F32}, "no precision .*BF16_BF16_F32"),
    "empty": (problem()[0], problem()[1][:0], {}, r"refuses an empty batch, and x has shape \(0, 6, 3\)"),
    "size": (
        LARGE,
        problem()[1],
        {"precision": "highest"},
        r"batch of 4 with D = 3 and H = 2048 needs \d+ MiB of vector memory, and a TPU has 60 MiB \(a smaller",
    ),
}


@pytest.mark.parametrize("name", REFUSED_BY_PALLAS)
def test_pallas_refuses_a_call_with_a_reason(name):
    params, x, options, message = REFUSED_BY_PALLAS[name]
    error = rf"backend='pallas' cannot run this call: [^;]*{message}[^;]*\. Write backend='scan'"
    with pytest.raises(ValueError, match=error):
        jax.eval_shape(lambda p, x: jax_lstm.lstm(p, x, backend="pallas", **options), params, x)
    with pytest.raises(ValueError, match=error):
        choose_backend(params, x, backend="pallas", **options)
    assert choose_backend(params, x, **options).backend != "pallas"


def test_pallas_is_chosen_only_if_it_is_asked_for():
    params, x, _ = problem()
    choice = choose_backend(params, x, backend="pallas")
    assert choice.backend == "pallas"
    assert re.fullmatch(r"asked for; scan runs instead .*another platform.*several devices.*vmap", choice.reason)
    assert choose_backend(params, x, backend="auto").backend != "pallas"
    wide = choose_backend(*WIDE, backend="pallas", lengths=np.full(B, 2))
    assert wide == ("scan", "pallas was asked for, and float64 runs scan on every platform")


REFUSED_BY_NATIVE = {
    "bfloat16": (*narrow(problem()[:2]), {}, "compute in bfloat16, and it takes float32 and float64 only"),
    "carry": (*problem()[:2], {"carry_dtype": jnp.float64}, "carry_dtype is float64, and its state is float32"),
    "projection": (*problem(proj_size=2)[:1], problem()[1], {}, "a projection to 2"),
    "preset": (*problem()[:2], {"precision": PRESET.BF16_BF16_F32}, "full float32, and precision is .*BF16_BF16_F32"),
    "empty": (problem()[0], problem()[1][:0], {}, r"refuses an empty batch, and x has shape \(0, 6, 3\)"),
}


@pytest.mark.parametrize("name", REFUSED_BY_NATIVE)
def test_native_refuses_a_call_with_a_reason_and_auto_chooses_scan(name):
    need_kernels()
    params, x, options, message = REFUSED_BY_NATIVE[name]
    error = rf"backend='native' cannot run this call: [^;]*{message}[^;]*\. Write backend='scan'"
    with pytest.raises(ValueError, match=error):
        jax.eval_shape(lambda p, x: jax_lstm.lstm(p, x, backend="native", **options), params, x)
    choice = choose_backend(params, x, **options)
    assert choice.backend == "scan"
    assert re.search(f"native cannot run this call: .*{message}", choice.reason)


def test_auto_chooses_native():
    need_kernels()
    params, x, _ = problem()
    for precision in (None, "highest", ("high", "highest")):
        choice = choose_backend(params, x, precision=precision)
        assert choice.backend == "native"
        assert re.fullmatch(r"it is the fastest on a CPU; scan runs instead .*", choice.reason)
    asked = choose_backend(*WIDE, backend="native", lengths=np.full(B, 2), reset=np.zeros((B, T), bool))
    assert asked.backend == "native"
    assert asked.reason.startswith("asked for; scan runs instead")


def test_the_memory_of_the_widest_layer_counts():
    """The inputs of the second layer are the outputs of both directions."""
    fits = lambda **network: choose_backend(
        jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), shapes_of(D, 1664, **network), is_leaf=is_shape),
        problem()[1],
        backend="pallas",
    )
    assert fits().backend == fits(bidirectional=True).backend == "pallas"
    with pytest.raises(ValueError, match="vector memory"):
        fits(bidirectional=True, num_layers=2)


def test_the_error_names_every_reason(calls):
    with pytest.raises(ValueError, match=r"float64.*; it has no reset; it has no truncate_every"):
        jax_lstm.lstm(*WIDE, backend="cudnn", reset=np.zeros((B, T), bool), truncate_every=2)


@pytest.mark.parametrize(
    ("steps", "batch", "hidden", "backend"),
    [(1, 64, 64, "scan"), (2, 2, 1024, "native"), (31, 1, 1024, "scan"), (32, 1, 1024, "native"), (2, 1, 64, "native")],
)
def test_auto_chooses_native_if_there_are_steps_to_pay_for_the_packing(steps, batch, hidden, backend):
    need_kernels()
    params = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), shapes_of(D, hidden), is_leaf=is_shape)
    for shape, time_major in (((batch, steps, D), False), ((steps, batch, D), True)):
        choice = choose_backend(params, jax.ShapeDtypeStruct(shape, jnp.float32), time_major=time_major)
        assert choice.backend == backend
        assert ("packs the weights" in choice.reason) == (backend == "scan")


def test_native_refuses_an_rnn():
    need_kernels()
    params, x, _ = problem()
    with pytest.raises(ValueError, match="backend='native' cannot run this call: the cell is rnn_tanh"):
        jax_lstm.rnn(drawn_weights(D, H, kind="rnn", dtype=np.float32), x, backend="native")
    assert jax_lstm.lstm_states(params, x, backend="native").h.shape == (1, B, T, H)


@pytest.mark.parametrize("backend", ["cudnn", "pallas"])
def test_functions_other_than_lstm_and_unknown_sizes_are_refused(backend, calls):
    params, x, _ = problem()
    symbolic = jax.ShapeDtypeStruct(export.symbolic_shape("b, 6, 3"), jnp.float32)
    with pytest.raises(ValueError, match=r"the c of every step is asked for \(lstm_states\)"):
        jax_lstm.lstm_states(params, x, backend=backend)
    with pytest.raises(ValueError, match="the cell is rnn_relu"):
        jax_lstm.rnn(drawn_weights(D, H, kind="rnn", dtype=np.float32), x, nonlinearity="relu", backend=backend)
    with pytest.raises(ValueError, match=r"sizes must be known, and x has shape \(b, 6, 3\) with H = 5"):
        export.export(jax.jit(lambda x: jax_lstm.lstm(params, x, backend=backend)))(symbolic)
    assert not calls


@pytest.mark.skipif(bool(GPUS), reason="this machine has a GPU")
def test_without_cuda_cudnn_is_refused_before_tracing():
    """JAX itself raises an AttributeError that does not explain it."""
    params, x, _ = problem()
    assert "cudnn" not in choose_backend(params, x).reason
    for run in (jax_lstm.lstm, jax.jit(jax_lstm.lstm, static_argnames="backend"), choose_backend):
        with pytest.raises(ValueError, match=r"JAX has no CUDA device here\. Write backend='scan'"):
            run(params, x, backend="cudnn")


@pytest.mark.parametrize("has_library", [True, False])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
def test_the_choice_on_each_platform(platform, has_library, monkeypatch):
    """The test replaces the devices that JAX lists, and the library of its plugin."""

    def devices(asked=None):
        if asked not in (platform, None):
            raise RuntimeError(f"Unknown backend {asked}")
        return ["a device"]

    library = type("", (), {"compute_rnn_workspace_reserve_space_sizes": None} if has_library else {})
    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(rnn, "gpu_rnn", library)
    params, x, _ = (jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), a) for a in problem())
    runs = platform == "cuda" and has_library
    auto = choose_backend(params, x)
    assert auto.backend in ("native", "scan")
    assert ("cudnn could run this call" in auto.reason) == runs
    assert ("cudnn" in auto.reason) == runs
    assert choose_backend(params, x, backend="scan") == ("scan", "asked for")
    if runs:
        assert choose_backend(params, x, backend="cudnn") == ("cudnn", "asked for")
    else:
        with pytest.raises(ValueError, match="no CUDA device"):
            choose_backend(params, x, backend="cudnn")


def test_x_on_another_device_is_refused_if_its_device_is_known(monkeypatch):
    monkeypatch.setattr(backends, "has_cuda", lambda: True)
    params, x, _ = problem()
    with pytest.raises(ValueError, match="x lies on cpu"):
        jax_lstm.lstm(params, x, backend="cudnn")
