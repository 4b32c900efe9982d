"""torch state dicts are read and written: no array is permuted, shared or silently rounded."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import LSTMState, convert
from tests.support.plain import shapes
from tests.support.requirements import need

NETWORK = {"num_layers": 2, "bidirectional": True, "proj_size": 2}


def module(**options):
    return need("torch").nn.LSTM(3, 5, **NETWORK, **options)


def arrays(dtype=np.float32):
    """Return the same state dict with NumPy arrays, for tests that do not depend on torch's tensors."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes(3, 5, **NETWORK).items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_come_back_bit_for_bit(dtype):
    state = arrays(dtype)
    back = convert.to_torch(convert.from_torch(state))
    assert list(back) == list(state)
    for name, a in state.items():
        assert (type(back[name]), back[name].dtype) == (np.ndarray, dtype)
        np.testing.assert_array_equal(back[name], a)


def test_there_and_back_bit_for_bit():
    torch = need("torch")
    for dtype in (torch.float32, torch.float64):
        state = module(dtype=dtype).state_dict()
        params = convert.from_torch(state)
        assert all(isinstance(a, jax.Array) for a in params.values())
        back = convert.to_torch(params)
        assert list(back) == list(state)
        for name, tensor in state.items():
            assert back[name].dtype == tensor.numpy().dtype
            np.testing.assert_array_equal(back[name], tensor)
        module(dtype=dtype).load_state_dict({n: torch.from_numpy(a) for n, a in back.items()})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_dtypes_come_in_as_they_are(dtype):
    state = module(dtype=getattr(need("torch"), dtype)).state_dict()
    params = convert.from_torch(state)
    for name, tensor in state.items():
        assert params[name].dtype == dtype
        np.testing.assert_array_equal(np.asarray(params[name], np.float32), tensor.float())
        np.testing.assert_array_equal(convert.to_torch(params)[name].astype(np.float32), tensor.float())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_memory_is_not_shared(dtype):
    torch = need("torch")
    theirs = torch.nn.LSTM(64, 64, dtype=getattr(torch, dtype))
    params = convert.from_torch(theirs.state_dict())
    before = np.array(params["weight_ih_l0"])
    with torch.no_grad():
        theirs.weight_ih_l0.zero_()
    np.testing.assert_array_equal(params["weight_ih_l0"], before)
    back = convert.to_torch(params)
    back["weight_ih_l0"][:] = 0
    np.testing.assert_array_equal(params["weight_ih_l0"], before)


def test_a_prefix_is_taken_and_stripped_and_dots_nest():
    head = {"head.weight": np.ones((1, 4)), "head.bias": np.ones(1)}
    outer = {f"encoder.lstm.{name}": a for name, a in arrays().items()} | head
    params = convert.from_torch(outer, prefix="encoder.lstm.")
    assert list(params) == list(arrays())
    tree = convert.from_torch(outer)
    assert set(tree) == {"encoder", "head"}
    np.testing.assert_array_equal(tree["encoder"]["lstm"]["weight_ih_l0"], params["weight_ih_l0"])
    assert list(convert.to_torch(tree)) == list(outer)


def test_a_model_of_torch_nests_by_its_dots():
    torch = need("torch")
    outer = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"lstm": module()}), "head": torch.nn.Linear(4, 1)})
    tree = convert.from_torch(outer.state_dict())
    assert list(convert.to_torch(tree)) == list(outer.state_dict())
    np.testing.assert_array_equal(tree["head"]["bias"], outer["head"].bias.detach())


def test_a_float64_checkpoint_is_not_rounded_in_silence():
    state = arrays(np.float64)
    with jax.enable_x64(False):
        with pytest.raises(
            ValueError, match=r"\['weight_ih_l0'\] is to be float64, which JAX would round .*dtype=jnp.float32"
        ):
            convert.from_torch(state)
        with pytest.raises(ValueError, match="is to be float64"):
            convert.from_torch(arrays(), dtype=jnp.float64)
        assert convert.from_torch(state, dtype=jnp.float32)["weight_ih_l0"].dtype == jnp.float32
        with pytest.raises(ValueError, match=r"\['n'\] has integers over 32 bits"):
            convert.from_torch({"n": np.array([2**40 + 5])})
        assert convert.from_torch({"n": np.array([7])}, dtype=jnp.float32)["n"].dtype == jnp.int32


def test_a_float64_tensor_is_not_rounded_in_silence():
    torch = need("torch")
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"\['a'\] is to be float64, which JAX would round .*dtype=jnp.float32"):
            convert.from_torch({"a": torch.ones(2, dtype=torch.float64)})
        with pytest.raises(ValueError, match=r"\['n'\] has integers over 32 bits"):
            convert.from_torch({"n": torch.tensor([2**40 + 5])})
        assert convert.from_torch({"n": torch.tensor([7])}, dtype=jnp.float32)["n"].dtype == jnp.int32


def test_a_module_and_its_tensors_in_the_wrong_place():
    with pytest.raises(TypeError, match="state_dict must map names to tensors; got LSTM"):
        convert.from_torch(module())
    with pytest.raises(TypeError, match="a torch tensor came where a JAX or NumPy array is expected"):
        convert.to_torch(module().state_dict())


def test_bad_state_dicts():
    with pytest.raises(ValueError, match=r"prefix 'rnn\.' matches no entry of state_dict; it has weight_ih_l0"):
        convert.from_torch(arrays(), prefix="rnn.")
    with pytest.raises(ValueError, match=r"prefix 'lstm' ends within a name; write it with its dot, such as 'lstm\.'"):
        convert.from_torch({"lstm.weight_ih_l0": np.ones(1)}, prefix="lstm")
    with pytest.raises(TypeError, match=r"state_dict\['a'\] must be a tensor or array; got int"):
        convert.from_torch({"a": 3})
    with pytest.raises(ValueError, match="both an entry 'a' and entries below it"):
        convert.from_torch({"a": np.ones(1), "a.b": np.ones(1)})
    with pytest.raises(
        ValueError, match=r"state_dict must be a torch.nn.LSTM state dict, .*; got a/weight_ih_l0 \(20, 3\)"
    ):
        convert.from_torch({"a": {"weight_ih_l0": np.ones((20, 3))}})
    with pytest.raises(TypeError, match=r"params\['a'\] must be an array or a dict of arrays; got str"):
        convert.to_torch({"a": "b"})
    with pytest.raises(TypeError, match="params must be a dict of arrays by torch's names; got list"):
        convert.to_torch([np.ones(1)])


def test_a_loaded_lstm_is_the_function():
    torch = need("torch")
    theirs = module(batch_first=True).double()
    x = torch.randn(4, 6, 3, dtype=torch.float64)
    y, _ = jax.jit(jax_lstm.lstm)(convert.from_torch(theirs.state_dict()), x.numpy())
    np.testing.assert_allclose(y, theirs(x)[0].detach(), rtol=1e-12, atol=1e-14)


def drawn(theirs):
    """Draw all parameters again, since torch draws every array from one small range."""
    torch = need("torch")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in theirs.parameters():
            tensor.normal_(generator=generator)
    return theirs


def assert_restores(theirs, params):
    """Check that the same module loads what to_torch returns, bit for bit."""
    torch = need("torch")
    state = {name: torch.from_numpy(a) for name, a in convert.to_torch(params).items()}
    assert list(state) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(state[name], tensor)
    theirs.load_state_dict(state)


@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_of_torch_is_lstm_cell(bias):
    torch = need("torch")
    theirs = drawn(torch.nn.LSTMCell(3, 5, bias=bias, dtype=torch.float64))
    generator = torch.Generator().manual_seed(1)
    x, h, c = (torch.randn(4, n, dtype=torch.float64, generator=generator) for n in (3, 5, 5))
    params = convert.from_torch(theirs.state_dict())
    found = jax.jit(jax_lstm.lstm_cell)(params, LSTMState(h=h.numpy(), c=c.numpy()), x.numpy())
    for got, expected in zip((found.h, found.c), theirs(x, (h, c)), strict=True):
        np.testing.assert_allclose(got, expected.detach(), rtol=0, atol=1e-12)
    assert_restores(theirs, params)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_of_torchs_rnn_is_rnn_cell(nonlinearity, bias):
    torch = need("torch")
    theirs = drawn(torch.nn.RNNCell(3, 5, bias=bias, nonlinearity=nonlinearity, dtype=torch.float64))
    generator = torch.Generator().manual_seed(1)
    x, h = (torch.randn(4, n, dtype=torch.float64, generator=generator) for n in (3, 5))
    params = convert.from_torch(theirs.state_dict())
    found = jax.jit(partial(jax_lstm.rnn_cell, nonlinearity=nonlinearity))(params, h.numpy(), x.numpy())
    np.testing.assert_allclose(found, theirs(x, h).detach(), rtol=0, atol=1e-12)
    assert_restores(theirs, params)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_torchs_rnn_is_rnn(nonlinearity, bidirectional):
    torch = need("torch")
    options = {"bidirectional": bidirectional, "nonlinearity": nonlinearity, "batch_first": True}
    theirs = drawn(torch.nn.RNN(3, 5, 2, **options, dtype=torch.float64))
    with torch.no_grad():  # relu on weights of size 1 would overflow
        for tensor in theirs.parameters():
            tensor.mul_(0.4)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 6, 3, dtype=torch.float64, generator=generator)
    h = torch.randn(2 * (1 + bidirectional), 4, 5, dtype=torch.float64, generator=generator)
    params = convert.from_torch(theirs.state_dict())
    found = jax.jit(partial(jax_lstm.rnn, nonlinearity=nonlinearity))(params, x.numpy(), h.numpy())
    for got, expected in zip(found, theirs(x, h), strict=True):
        np.testing.assert_allclose(got, expected.detach(), rtol=0, atol=1e-12)
    assert_restores(theirs, params)
