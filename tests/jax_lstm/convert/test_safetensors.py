"""safetensors: exact round trips, torch's files and this package's, and errors that name a damaged file."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jax_lstm import convert, init_lstm
from tests.support.conversion import assert_whole_or_nothing
from tests.support.requirements import need

safetensors = need("safetensors")


def tree(dtype):
    lstm = init_lstm(jax.random.key(0), 3, 5, 2, bidirectional=True, dtype=jnp.float32)
    bias = jax.random.normal(jax.random.key(1), (4,))
    return jax.tree.map(lambda a: a.astype(dtype), {"lstm": lstm, "head": {"fc": {"bias": bias}}})


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.float16, jnp.bfloat16])
def test_there_and_back_bit_for_bit(dtype, tmp_path):
    params, file = tree(dtype), tmp_path / "a.safetensors"
    convert.save_safetensors(params, file, metadata={"made": "by a test"})
    with safetensors.safe_open(file, framework="np") as opened:
        assert opened.metadata() == {"made": "by a test"}
    back = convert.load_safetensors(file)
    there, again = flatten_dict(params, sep="."), flatten_dict(back, sep=".")
    assert there.keys() == again.keys()
    for name, a in there.items():
        assert (again[name].dtype, isinstance(again[name], jax.Array)) == (dtype, True)
        np.testing.assert_array_equal(np.asarray(again[name]).view(np.uint8), np.asarray(a).view(np.uint8))
    alone = convert.load_safetensors(file, prefix="lstm.", dtype=jnp.float32)
    assert set(alone) == set(params["lstm"])
    assert alone["weight_ih_l0"].dtype == jnp.float32


def test_torch_reads_ours_and_we_read_torchs(tmp_path):
    torch = need("torch")
    from safetensors.torch import load_file, save_file

    module = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(3, 5, 2, bidirectional=True)})
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    save_file(module.state_dict(), theirs)
    params = convert.load_safetensors(theirs)
    for name, tensor in module["lstm"].state_dict().items():
        np.testing.assert_array_equal(params["lstm"][name], tensor)
    convert.save_safetensors(jax.tree.map(lambda a: 2 * a, params), ours)
    module.load_state_dict(load_file(ours))
    np.testing.assert_array_equal(module["lstm"].weight_hh_l1.detach(), 2 * params["lstm"]["weight_hh_l1"])


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn", "float8_e5m2", "int16", "bool"])
def test_other_dtypes_of_torch_are_read(dtype, tmp_path):
    torch = need("torch")
    from safetensors.torch import save_file

    tensor = torch.linspace(-2, 2, 12).reshape(3, 4).to(getattr(torch, dtype))
    save_file({"lstm.a": tensor, "lstm.b": torch.zeros(0, 3)}, tmp_path / "a.safetensors")
    read = convert.load_safetensors(tmp_path / "a.safetensors", prefix="lstm.")
    assert (read["a"].dtype, read["a"].shape, read["b"].shape) == (dtype, (3, 4), (0, 3))
    assert np.asarray(read["a"]).tobytes() == tensor.view(torch.uint8).numpy().tobytes()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    convert.save_safetensors(tree(jnp.float32), file)
    assert_whole_or_nothing(lambda: convert.save_safetensors(tree(jnp.float64), file), file, monkeypatch)


def test_what_cannot_be_read(tmp_path):
    file = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"a\.safetensors is no file"):
        convert.load_safetensors(file)
    with pytest.raises(ValueError, match=r"path must end in '\.safetensors'; got .*a\.pt"):
        convert.load_safetensors(tmp_path / "a.pt")
    convert.save_safetensors(tree(jnp.float32), file)
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:5], b"", b"\xff" * 100):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.safetensors cannot be read as safetensors: .*Save it again"):
            convert.load_safetensors(file)
    file.write_bytes(whole.replace(b'"F32"', b'"C64"', 1))
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        convert.load_safetensors(file)


def test_what_cannot_be_written(tmp_path):
    file = tmp_path / "a.safetensors"
    for params, kind, words in (
        ({"a": {"b": 3}}, TypeError, r"params\['a\.b'\] must be an array or a dict of arrays; got int"),
        ({"a": {"b": jnp.ones(1)}, "a.b": jnp.ones(1)}, ValueError, r"two entries 'a\.b': names are joined by dots"),
    ):
        with pytest.raises(kind, match=words):
            convert.save_safetensors(params, file)
    with pytest.raises(TypeError, match="metadata must map text to text"):
        convert.save_safetensors({"a": jnp.ones(1)}, file, metadata={"a": 1})
    with pytest.raises(ValueError, match="save_safetensors looks at values, which are not known inside"):
        jax.jit(lambda a: convert.save_safetensors({"a": a}, file))(jnp.ones(1))
    with pytest.raises(ValueError, match="path must end in"):
        convert.save_safetensors({"a": jnp.ones(1)}, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'jax-lstm\[files\]'"):
        convert.load_safetensors(tmp_path / "a.safetensors")
