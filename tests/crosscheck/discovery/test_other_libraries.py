"""Discovery names the conventions of cells of real libraries, and its maps convert weights in both directions."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import crosscheck
from crosscheck.discovery.conventions import BiasRule

D, H, B = 3, 5, 4
KEY = jax.random.key(0)


def random_like(params):
    """Return drawn values in the same structure. Zeros and ones from an initialisation would hide a wrong map."""
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape, scale=0.5), a.dtype), params)


def haiku():
    hk = need("haiku")
    net = hk.without_apply_rng(hk.transform(lambda x, state: hk.LSTM(H)(x, state)[1]))
    example = hk.LSTMState(jnp.zeros((B, H)), jnp.zeros((B, H)))
    params = net.init(KEY, jnp.zeros((B, D)), example)
    return lambda p, x, state: net.apply(p, x, hk.LSTMState(*state)), params


def equinox():
    eqx = need("equinox")
    return (lambda cell, x, state: jax.vmap(cell)(x, state)), eqx.nn.LSTMCell(D, H, key=KEY)


def keras():
    os.environ["KERAS_BACKEND"] = "jax"  # keras reads it once, when it is first imported
    need("keras")
    from keras.layers import LSTMCell

    cell = LSTMCell(H, dtype="float64")
    cell.build((None, D))
    fixed = [v.value for v in cell.non_trainable_variables]
    fn = lambda p, x, state: cell.stateless_call(p, fixed, x, list(state))[0][1]
    return fn, [v.value for v in cell.trainable_variables]


def linen(name, size=D):
    from flax import linen as nn

    cell = getattr(nn, name)(H)
    example = jnp.zeros((B, H))
    params = cell.init(KEY, (example, example), jnp.zeros((B, size)))["params"]
    return (lambda p, x, state: cell.apply({"params": p}, state, x)[0]), params


def nnx(name):
    from flax import nnx

    graph, params, rest = nnx.split(getattr(nnx, name)(D, H, rngs=nnx.Rngs(0)), nnx.Param, ...)
    return (lambda p, x, state: nnx.merge(graph, p, rest)(state, x)[0]), params


def onnx_runtime():
    onnx = need("onnx")
    runtime = need("onnxruntime")
    value = lambda name, *shape: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    weights = {"W": (1, 4 * H, D), "R": (1, 4 * H, H), "B": (1, 8 * H)}
    states = {"h": (1, None, H), "c": (1, None, H)}
    shapes = {"X": (1, None, D)} | weights | states
    node = onnx.helper.make_node("LSTM", ["X", "W", "R", "B", "", "h", "c"], ["", "Yh", "Yc"], hidden_size=H)
    inputs = [value(name, *shape) for name, shape in shapes.items()]
    graph = onnx.helper.make_graph([node], "lstm", inputs, [value(n, 1, None, H) for n in ("Yh", "Yc")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def fn(params, x, state):
        feed = {"X": x[None], "h": state[0][None], "c": state[1][None], **params}
        y_h, y_c = session.run(None, {name: np.asarray(a, np.float32) for name, a in feed.items()})
        return y_h[0], y_c[0]

    return fn, {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in weights.items()}


def notebooks_layers():
    """Return four linear layers over [x, h]: the structure of the teaching notebook, with right equations."""
    from torch_ref import NotebookLSTM

    module = NotebookLSTM(D, H, as_published=False).double()
    fn = lambda p, x, state: torch.func.functional_call(module, p, (x[:, None], *state))[1]
    return fn, dict(module.state_dict())


def peer(make, gates="ifgo", order="hc", error=1e-14, where="", biases=BiasRule.AS_STORED):
    return SimpleNamespace(make=make, gates=gates, order=order, error=error, where=where, biases=biases)


ONE_ROUNDING = 1e-6  # computes in float32, or has a float32 tanh inside
OTHER_LIBRARIES = {
    "haiku": peer(haiku, "igfo", where="lstm/linear/w [in, out] on [x, h]", biases=BiasRule.FORGET_PLUS_ONE),
    "equinox": peer(equinox, where="weight_ih [out, in]"),
    "keras": peer(keras, error=ONE_ROUNDING, where="recurrent weights: 1 [in, out]"),
    "linen.LSTMCell": peer(lambda: linen("LSTMCell"), order="ch", where="i = ii/kernel, f = if/kernel"),
    "linen.LSTMCell, D = H": peer(lambda: linen("LSTMCell", H), order="ch", where="i = hi/kernel, f = hf/kernel"),
    "linen.OptimizedLSTMCell": peer(lambda: linen("OptimizedLSTMCell"), order="ch", where="biases: i = hi/bias"),
    "nnx.LSTMCell": peer(lambda: nnx("LSTMCell"), order="ch", where="f = if_/kernel"),
    "nnx.OptimizedLSTMCell": peer(lambda: nnx("OptimizedLSTMCell"), order="ch", where="dense_h/kernel"),
    "onnxruntime": peer(onnx_runtime, "iofg", error=ONE_ROUNDING, where="B first half; B second half"),
    "notebook": peer(notebooks_layers, where="i = i.weight, f = f.weight, g = c_.weight"),
}


@pytest.fixture(scope="module", params=OTHER_LIBRARIES)
def found(request):
    known = OTHER_LIBRARIES[request.param]
    fn, params = known.make()
    return SimpleNamespace(known=known, fn=fn, params=params, map=crosscheck.discover(fn, params))


def test_its_convention_is_named(found):
    known, result = found.known, found.map
    assert result.decided, str(result)
    assert result.error < known.error
    assert result.runner_up.error > 0.01
    assert result.convention.gates == known.gates
    assert result.convention.biases is known.biases
    assert not result.convention.transposed
    assert (result.candidate.takes, result.candidate.returns) == (known.order, known.order)
    text = str(result)
    assert text.startswith("This cell is an LSTM cell: ")
    assert known.where in " ".join(text.split())
    if known.biases is BiasRule.FORGET_PLUS_ONE:
        assert "with 1 added to the forget gate's bias at run time" in text


def one_step(found, params, x, h, c):
    is_torch = isinstance(jax.tree.leaves(params)[0], torch.Tensor)
    kind = torch.tensor if is_torch else jnp.asarray
    given = (h, c) if found.known.order == "hc" else (c, h)
    out = found.fn(params, kind(x), tuple(map(kind, given)))
    return [np.asarray(a) for a in (out if found.known.order == "hc" else out[::-1])]


def torch_step(cell, x, h, c):
    module = torch.nn.LSTMCell(D if x.shape[1] == D else H, H, bias="bias_ih" in cell, dtype=torch.float64)
    module.load_state_dict({name: torch.tensor(np.asarray(a, np.float64)) for name, a in cell.items()})
    with torch.no_grad():
        return [a.numpy() for a in module(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))]


def test_weights_carry_over_and_back(found):
    """The limit is the rounding of float64, or of float32 if the library computes or stores weights in float32."""
    rng = np.random.default_rng(5)
    size = found.map.layout.input_size
    x, h, c = (rng.normal(size=(B, n)) for n in (size, H, H))
    shapes = {"weight_ih": (4 * H, size), "weight_hh": (4 * H, H), "bias_ih": (4 * H,), "bias_hh": (4 * H,)}
    cell = {name: rng.normal(size=shape, scale=0.5) for name, shape in shapes.items()}
    written = found.map.from_torch(cell)
    assert jax.tree.structure(written) == jax.tree.structure(found.params)
    kind = torch.tensor if isinstance(jax.tree.leaves(found.params)[0], torch.Tensor) else jnp.asarray
    there = one_step(found, jax.tree.map(kind, written), x, h, c)
    params = jax.tree.map(kind, found.map.from_torch(cell))
    back = torch_step(found.map.to_torch(params), x, h, c)
    for expected, got, again in zip(torch_step(cell, x, h, c), there, back, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=max(found.known.error, 1e-14))
        np.testing.assert_allclose(again, expected, rtol=0, atol=1e-14)


def test_the_librarys_own_weights_carry_over(found):
    if isinstance(jax.tree.leaves(found.params)[0], (torch.Tensor, jax.ShapeDtypeStruct)):
        pytest.skip("tested the other way round: these come without weights of the library's own")
    rng = np.random.default_rng(6)
    x, h, c = (rng.normal(size=(B, n)) for n in (found.map.layout.input_size, H, H))
    params = jax.tree.map(lambda a: a.astype(jnp.float64), random_like(found.params))
    expected = torch_step(found.map.to_torch(params), x, h, c)
    for a, b in zip(one_step(found, params, x, h, c), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=max(found.known.error, 1e-14))
