"""Reading checkpoint files: every format bit for bit, bad ones refused in one line, and no code of theirs is run."""

from __future__ import annotations

from tests.requirements import need

need("torch")

import io
import os
import pickle
import random
import struct
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crosscheck.checkpoint import BadFile, look, read_arrays


def save(path: Path, state) -> Path:
    """One state dict in any of the formats; "old.pt" is torch's format from before 1.6."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.stem != "old")
    return path


FORMATS = ("a.safetensors", "a.pt", "old.pt", "a.pth", "A.BIN", "a.ckpt", "a.npz")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_names_order_and_bits(name, tmp_path):
    state = torch.nn.LSTM(3, 5, 2, dtype=torch.float64).state_dict()
    state["weight_ih_l0"] = state["weight_ih_l0"].T.contiguous().T  # strides that are not those of its shape
    state["steps"] = torch.tensor(7)
    arrays = read_arrays(save(tmp_path / name, state))
    assert set(arrays) == set(state)
    for entry, tensor in state.items():
        assert arrays[entry].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(arrays[entry], tensor.numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_narrow_dtypes_come_as_they_are(name, dtype, tmp_path):
    tensor = torch.linspace(-2, 2, 12).reshape(3, 4).to(getattr(torch, dtype))
    array = read_arrays(save(tmp_path / name, {"w": tensor}))["w"]
    assert array.dtype == (np.float16 if dtype == "float16" else getattr(ml_dtypes, dtype))
    np.testing.assert_array_equal(array.astype(np.float32), tensor.float().numpy())


def test_other_byte_orders_and_slashes_of_an_archive(tmp_path):
    np.savez(tmp_path / "a.npz", **{"encoder/w": np.arange(3, dtype=">f4")})
    array = read_arrays(tmp_path / "a.npz")["encoder.w"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [0, 1, 2])
    np.savez(tmp_path / "a.npz", **{"a/b": np.ones(1), "a.b": np.ones(1)})
    with pytest.raises(BadFile, match="differ in slashes and dots alone"):
        read_arrays(tmp_path / "a.npz")


class Evil:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_hostile_files_run_nothing(tmp_path):
    trap = tmp_path / "trap"
    content = {"weight_ih_l0": torch.ones(4, 1), "x": Evil(trap)}
    torch.save(content, tmp_path / "a.pt")
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil(trap), protocol=2))
    np.savez(tmp_path / "a.npz", x=np.array([Evil(trap)], dtype=object))
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(trap), protocol=4))
    with pytest.raises(BadFile, match="it is a plain pickle, which may run any code when read, so it is refused"):
        read_arrays(tmp_path / "plain.pt")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Evil(trap)))
    for name in ("a.pt", "old.pt", "bare.pt", "a.npz", "bare.npz"):
        with pytest.raises(BadFile, match=r"refused.*Where its source is trusted"):
            read_arrays(tmp_path / name)
        assert not trap.exists()
    pickle.loads(pickle.dumps(Evil(trap)))  # the trap works
    assert trap.exists()


def safetensors_header(header: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header


def torch_bytes(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def holds_itself():
    content: dict = {"w": torch.ones(1)}
    content["self"] = content
    return content


def doubled(levels=60):
    content: list = []
    for _ in range(levels):
        content = [content, content]
    return content


def script() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(1, 2)), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pt", b"", "is empty"),
        ("a.txt", b"x", "its ending is '.txt'. Known formats, by ending, are .safetensors, .pt"),
        ("weights", b"x", "its ending is 'missing'"),
        ("a.pt", b"what is this?", "torch.load cannot read it"),
        ("a.pt", torch_bytes({"w": torch.ones(99)})[:-40], "torch.load cannot read it"),
        ("a.pt", torch_bytes(torch.nn.LSTM(2, 3)), "to run torch.nn.modules.rnn.LSTM, which could do anything"),
        ("a.pt", script(), "it is a TorchScript archive"),
        ("a.pt", torch_bytes(holds_itself()), "nested over 100 deep, or holds itself"),
        ("a.pt", torch_bytes({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}), "two tensors called 'a.b'"),
        ("a.pt", torch_bytes(torch.ones(1).expand(2**20, 2**20)), "stretched to shape (1048576, 1048576)"),
        ("a.safetensors", b"abc", "safetensors cannot read it"),
        ("a.safetensors", safetensors_header(b"{}", 2**62), "safetensors cannot read it"),
        (
            "a.safetensors",
            safetensors_header(b'{"w":{"dtype":"F32","shape":[99],"data_offsets":[0,396]}}'),
            "safetensors cannot",
        ),
        ("a.npz", b"PK\x03\x04 and no more", "numpy cannot read it"),
        ("a.npz", b"what is this?", "it is a pickle"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # random weights are no names of tests
)
def test_bad_files_are_refused_in_one_line(name, content, words, tmp_path):
    path = tmp_path / f"l\n{name}"
    path.write_bytes(content)
    with pytest.raises(BadFile) as raised:
        read_arrays(path)
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path}/l\\n{name}: ")
    assert str(raised.value).isprintable()
    assert "weights_only" not in str(raised.value)  # torch's advice is to switch its safety off


def test_a_small_file_with_endless_entries_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("crosscheck.checkpoint.tensors.ENTRIES", 1000)
    torch.save(doubled(), tmp_path / "a.pt")
    with pytest.raises(BadFile, match="over 1,000 entries"):
        read_arrays(tmp_path / "a.pt")


def test_what_is_no_file_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    for name, words in (("pipe", "no regular file"), ("folder", "is a folder"), ("none", "no such file")):
        with pytest.raises(BadFile, match=words):
            read_arrays(tmp_path / f"{name}.pt")
    path = save(tmp_path / "a.pt", {})

    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    with pytest.raises(BadFile, match=r"cannot be opened \(Permission denied\)"):
        read_arrays(path)


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_refused_or_harmless(name, tmp_path):
    path = save(tmp_path / name, torch.nn.LSTM(2, 3).state_dict())
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for trial in range(60):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if trial % 2 else whole)
        for _ in range(rng.choice((1, 5, 50)) if damaged else 0):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            look(read_arrays(path))
        except BadFile:
            refused += 1
    assert refused >= 30
