"""torch state dicts in and out: nothing permuted, nothing shared, nothing rounded in silence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_lstm
from jax_lstm import convert


def module(**options):
    return torch.nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2, **options)


def test_there_and_back_bit_for_bit():
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_come_in_as_they_are(dtype):
    state = module(dtype=dtype).state_dict()
    params = convert.from_torch(state)
    for name, tensor in state.items():
        assert str(params[name].dtype) == str(dtype).removeprefix("torch.")
        np.testing.assert_array_equal(np.asarray(params[name], np.float32), tensor.float())
        np.testing.assert_array_equal(convert.to_torch(params)[name].astype(np.float32), tensor.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_memory_is_not_shared(dtype):
    theirs = torch.nn.LSTM(64, 64, dtype=dtype)
    params = convert.from_torch(theirs.state_dict())
    before = np.array(params["weight_ih_l0"])
    with torch.no_grad():
        theirs.weight_ih_l0.zero_()
    np.testing.assert_array_equal(params["weight_ih_l0"], before)
    back = convert.to_torch(params)
    back["weight_ih_l0"][:] = 0
    np.testing.assert_array_equal(params["weight_ih_l0"], before)


def test_a_prefix_is_taken_and_stripped_and_dots_nest():
    outer = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"lstm": module()}), "head": torch.nn.Linear(4, 1)})
    params = convert.from_torch(outer.state_dict(), prefix="encoder.lstm.")
    assert list(params) == list(module().state_dict())
    tree = convert.from_torch(outer.state_dict())
    assert set(tree) == {"encoder", "head"}
    np.testing.assert_array_equal(tree["encoder"]["lstm"]["weight_ih_l0"], params["weight_ih_l0"])
    assert list(convert.to_torch(tree)) == list(outer.state_dict())


def test_a_float64_checkpoint_is_not_rounded_in_silence():
    state = module(dtype=torch.float64).state_dict()
    with jax.enable_x64(False):
        with pytest.raises(
            ValueError, match=r"\['weight_ih_l0'\] is to be float64, which JAX would round .*dtype=jnp.float32"
        ):
            convert.from_torch(state)
        with pytest.raises(ValueError, match="is to be float64"):
            convert.from_torch(module().state_dict(), dtype=jnp.float64)
        assert convert.from_torch(state, dtype=jnp.float32)["weight_ih_l0"].dtype == jnp.float32
        with pytest.raises(ValueError, match=r"\['n'\] has integers over 32 bits"):
            convert.from_torch({"n": torch.tensor([2**40 + 5])})
        assert convert.from_torch({"n": torch.tensor([7])}, dtype=jnp.float32)["n"].dtype == jnp.int32


def test_bad_state_dicts():
    with pytest.raises(TypeError, match="state_dict must map names to tensors; got LSTM"):
        convert.from_torch(module())
    with pytest.raises(ValueError, match=r"prefix 'rnn\.' matches no entry of state_dict; it has weight_ih_l0"):
        convert.from_torch(module().state_dict(), prefix="rnn.")
    with pytest.raises(ValueError, match=r"prefix 'lstm' ends within a name; write it with its dot, such as 'lstm\.'"):
        convert.from_torch({"lstm.weight_ih_l0": np.ones(1)}, prefix="lstm")
    with pytest.raises(TypeError, match=r"state_dict\['a'\] must be a tensor or array; got int"):
        convert.from_torch({"a": 3})
    with pytest.raises(ValueError, match="both an entry 'a' and entries below it"):
        convert.from_torch({"a": np.ones(1), "a.b": np.ones(1)})
    with pytest.raises(TypeError, match=r"params\['a'\] must be an array or a dict of them; got str"):
        convert.to_torch({"a": "b"})


def test_a_loaded_lstm_is_the_function():
    theirs = module(batch_first=True).double()
    x = torch.randn(4, 6, 3, dtype=torch.float64)
    y, _ = jax.jit(jax_lstm.lstm)(convert.from_torch(theirs.state_dict()), x.numpy())
    np.testing.assert_allclose(y, theirs(x)[0].detach(), rtol=1e-12, atol=1e-14)
