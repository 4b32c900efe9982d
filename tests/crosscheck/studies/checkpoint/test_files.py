"""Checkpoint files: every format is read bit for bit, and bad files are refused in one line."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import io
import json
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crosscheck.studies.checkpoint import BadFile, read_checkpoint
from crosscheck.studies.checkpoint.archives import BadArchive, open_archive


def save(path: Path, state) -> Path:
    """Write a state dict in the format of the ending. "old.pt" is torch's format from before 1.6."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.stem != "old")
    return path


FORMATS = ("a.safetensors", "a.pt", "old.pt", "a.npz")


@pytest.mark.parametrize("given", ["weights", "weights.pth.tar", "weights.txt"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_names_order_and_bits_under_any_name(name, given, tmp_path):
    state = torch.nn.LSTM(3, 5, 2, dtype=torch.float64).state_dict()
    state["weight_ih_l0"] = state["weight_ih_l0"].T.contiguous().T  # strides that do not follow from its shape
    state["steps"] = torch.tensor(7)
    state["none"] = torch.zeros(3, 0)
    arrays = read_checkpoint(save(tmp_path / name, state).rename(tmp_path / given)).arrays
    assert set(arrays) == set(state)
    for entry, tensor in state.items():
        assert arrays[entry].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(arrays[entry], tensor.numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_narrow_dtypes_come_as_they_are(name, dtype, tmp_path):
    tensor = torch.linspace(-2, 2, 12).reshape(3, 4).to(getattr(torch, dtype))
    array = read_checkpoint(save(tmp_path / name, {"w": tensor})).arrays["w"]
    assert array.dtype == (np.float16 if dtype == "float16" else getattr(ml_dtypes, dtype))
    np.testing.assert_array_equal(array.astype(np.float32), tensor.float().numpy())


@pytest.mark.parametrize("old", [False, True])
def test_a_tensor_is_its_window_on_its_storage(old, tmp_path):
    numbers = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    turned, other = (torch.arange(3) * (1 + 2j) for _ in range(2))
    state = {
        "whole": numbers,
        "rows": numbers[1:3],
        "columns": numbers[:, ::2],
        "turned": numbers.T,
        "stretched": numbers[:1].expand(5, 6),
        "one": numbers[2, 3],
        "conj": turned.conj(),
        "neg": other.conj().imag,
        "parameter": torch.nn.Parameter(numbers),
        "flags": numbers > 3,
    }
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    arrays = read_checkpoint(tmp_path / "a.pt").arrays
    want = torch.load(tmp_path / "a.pt")
    assert list(arrays) == list(want)
    for name, tensor in want.items():
        array = tensor.detach().resolve_conj().resolve_neg().numpy()
        np.testing.assert_array_equal(arrays[name], array, strict=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64, torch.uint8])
def test_a_file_of_a_big_endian_machine(dtype, tmp_path):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    torch.save({"w": tensor}, tmp_path / "little.pt")
    part = tensor.real.element_size()  # the real and the imaginary part are swapped separately
    with zipfile.ZipFile(tmp_path / "little.pt") as source, zipfile.ZipFile(tmp_path / "big.pt", "w") as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith("/data/0"):
                content = np.frombuffer(content, np.uint8).reshape(-1, part)[:, ::-1].tobytes()
            target.writestr(info.filename, b"big" if info.filename.endswith("byteorder") else content)
    assert torch.equal(torch.load(tmp_path / "big.pt")["w"], tensor)  # torch's own reader takes the file as big-endian
    np.testing.assert_array_equal(
        read_checkpoint(tmp_path / "big.pt").arrays["w"],
        read_checkpoint(tmp_path / "little.pt").arrays["w"],
        strict=True,
    )


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_quantized_tensor_is_dequantized_and_said_to_be(per_channel, tmp_path):
    values = torch.linspace(-1, 1, 12).reshape(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves quantized tensors to another package
        if per_channel:
            scales, zeros = torch.tensor([0.01, 0.02, 0.3], dtype=torch.float64), torch.tensor([0, 3, 7])
            tensor = torch.quantize_per_channel(values, scales, zeros, 0, torch.quint8)
        else:
            tensor = torch.quantize_per_tensor(values, 0.03125, 9, torch.quint8)  # a power of two never rounds
        torch.save({"w": tensor}, tmp_path / "a.pt")
        want = (tensor.int_repr().double() - (zeros[:, None] if per_channel else 9)) * (
            scales.double()[:, None] if per_channel else 0.03125
        )
    read = read_checkpoint(tmp_path / "a.pt")
    assert read.notes == {"w": "dequantized from uint8"}
    np.testing.assert_array_equal(read.arrays["w"], want.float().numpy(), strict=True)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_arrays_come_as_they_are(protocol, tmp_path):
    content = {
        "by rows": np.arange(6.0).reshape(2, 3),
        "by columns": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big": np.arange(3, dtype=">f4"),
        "one": np.float16(2.5),
        "none": np.zeros((0, 2)),
        "objects": np.array([{}], dtype=object),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_checkpoint(tmp_path / "a.pkl")
    assert "numpy.ndarray of objects" in read.skipped
    assert list(read.arrays) == ["by rows", "by columns", "big", "one", "none"]
    for name, array in read.arrays.items():
        np.testing.assert_array_equal(array, content[name])
        assert array.dtype == content[name].dtype.newbyteorder("=")


def test_damage_of_an_archive_is_found_by_its_checksum(tmp_path):
    torch.save({"w": torch.ones(99)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(torch.ones(2).numpy().tobytes()) + 1] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(BadFile, match="its member 'a/data/0' is damaged: the checksum is another"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_packed_member_gives_no_more_than_it_claims():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(2**24))
        archive.getinfo("a").file_size = 4
    archive = open_archive(memoryview(buffer.getvalue()), buffer)
    tracemalloc.start()
    try:
        with pytest.raises(BadArchive, match="its member 'a' has 5 bytes and claims 4"):
            archive.read("a")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_tensor_stays_in_its_storage(tmp_path):
    """The storage has 100 numbers, and the tensor's record says 99."""
    torch.save({"w": torch.ones(100)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for info in source.infolist():
            content = source.read(info)
            is_pickle = info.filename.endswith("data.pkl")
            assert not is_pickle or content.count(b"K\x64tq") == 1
            target.writestr(info.filename, content.replace(b"K\x64tq", b"K\x63tq") if is_pickle else content)
    with pytest.raises(BadFile, match=r"a tensor of shape \(100,\) reaches beyond its storage of 99"):
        read_checkpoint(tmp_path / "b.pt")


def test_an_array_of_numpy_has_the_bytes_of_its_shape(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones(4))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", buffer.getvalue().replace(b"(4,)", b"(3,)"))
    with pytest.raises(BadFile, match=r"an array of shape \(3,\) has 32 bytes"):
        read_checkpoint(tmp_path / "a.npz")


def test_arrays_that_are_no_numbers_are_skipped_and_told(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.ones(2), s=np.array(["x"]), d=np.zeros(2, "M8[s]"), r=np.zeros(2, "i4,f4"))
    read = read_checkpoint(tmp_path / "a.npz")
    assert list(read.arrays) == ["w"]
    assert sorted(read.skipped.values()) == ["d", "r", "s"]


def test_an_archive_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(3)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "a.pt").arrays["w"], np.ones(3, np.float32))


def test_an_archive_of_files_tells_what_was_skipped(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("notes.txt", "none")
    with pytest.raises(BadFile, match=r"it is a zip archive of data, notes\.txt"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("policy.pth", torch_bytes({"w": torch.ones(1), "x": object()}))
    read = read_checkpoint(path)
    assert list(read.arrays) == ["policy.w"]
    assert read.skipped == {"__builtin__.object": "policy.x", "members that are no torch files": "data, notes.txt"}


def test_what_holds_itself_is_read_once(tmp_path):
    content: dict = {"w": torch.ones(1)}
    content["self"] = content
    torch.save(content, tmp_path / "a.pt")
    assert list(read_checkpoint(tmp_path / "a.pt").arrays) == ["w"]


def test_an_index_is_held_to_its_shards(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    save_file({"a": torch.ones(1), "more": torch.ones(2)}, tmp_path / "one.safetensors")
    (tmp_path / "none.safetensors").touch()
    for weight_map, words in (
        ({"a": "two.safetensors"}, "its shard 'two.safetensors' is not beside it"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "its shard 'one.safetensors' lacks b"),
        ({"a": "none.safetensors"}, "none.safetensors: it is empty"),
        ({"a": "../one.safetensors"}, "which is no file beside it"),
        ({"a": str(tmp_path / "one.safetensors")}, "which is no file beside it"),
        ({"a": ".."}, "which is no file beside it"),
        ({"a": 1}, "which is no file beside it"),
        ({}, "no index of shards"),
        ([], "no index of shards"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(BadFile, match=words):
            read_checkpoint(index)
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    assert list(read_checkpoint(index).arrays) == ["a", "more"]  # no tensor of a shard is lost


def test_other_byte_orders_and_slashes_of_an_archive(tmp_path):
    np.savez(tmp_path / "a.npz", **{"encoder/w": np.arange(3, dtype=">f4")})
    array = read_checkpoint(tmp_path / "a.npz").arrays["encoder.w"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [0, 1, 2])
    np.savez(tmp_path / "a.npz", **{"a/b": np.ones(1), "a.b": np.ones(1)})
    with pytest.raises(BadFile, match="differ only in slashes and dots"):
        read_checkpoint(tmp_path / "a.npz")


def safetensors_header(header: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header


def test_a_header_whose_size_looks_like_json(tmp_path):
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x7B20)  # the file begins with " {"
    (tmp_path / "a.safetensors").write_bytes(safetensors_header(header) + bytes(4))
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "a.safetensors").arrays["w"], [0])


def torch_bytes(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def deep(levels=101):
    content: object = torch.ones(1)
    for _ in range(levels):
        content = [content]
    return content


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pt", b"", "is empty"),
        ("a.txt", b"x", "its format is not known here. Known are safetensors, torch"),
        ("a.pt", torch_bytes({"w": torch.ones(99)})[:-40], "it looks like a zip archive, and reading it failed"),
        ("a.pt", b"\x80\x02}q\x00.and more", "it goes on after the end of its pickle"),
        ("a.pt", torch_bytes(deep()), "nested over 100 deep"),
        ("a.pt", torch_bytes({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}), "two tensors called 'a.b'"),
        ("a.pt", torch_bytes(torch.ones(1).expand(2**20, 2**20)), "stretched to shape (1048576, 1048576)"),
        ("a.safetensors", b"abc", "its format is not known"),
        (
            "a.safetensors",
            safetensors_header(b'{"w":{"dtype":"F32","shape":[99],"data_offsets":[0,396]}}'),
            "it looks like a safetensors file, and reading it failed",
        ),
        ("a.npz", b"PK\x03\x04 and no more", "it looks like a zip archive, and reading it failed"),
        ("a.json", b"{}", "it is JSON and no index of shards"),
        ("a.json", b"{", "it looks like JSON, and reading it failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # random weights would become names of tests
)
def test_bad_files_are_refused_in_one_line(name, content, words, tmp_path):
    path = tmp_path / f"l\n{name}"
    path.write_bytes(content)
    with pytest.raises(BadFile) as raised:
        read_checkpoint(path)
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path}/l\\n{name}: ")
    assert str(raised.value).isprintable()


def test_what_is_no_file_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    for name, words in (("pipe", "no regular file"), ("folder", "is a folder"), ("none", "no such file")):
        with pytest.raises(BadFile, match=words):
            read_checkpoint(tmp_path / f"{name}.pt")
    path = save(tmp_path / "a.pt", {})

    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    with pytest.raises(BadFile, match=r"cannot be opened \(Permission denied\)"):
        read_checkpoint(path)
