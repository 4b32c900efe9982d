"""Hostile files: code in every opcode that could run it, and small files that claim to be large."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import copyreg
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosscheck.studies.checkpoint import BadFile, Skipped, find_networks, read_checkpoint
from crosscheck.studies.checkpoint.pickles import BadPickle, read_pickle
from crosscheck.studies.checkpoint.records import set_state
from crosscheck.studies.checkpoint.torch_files import MAGIC
from tests import ROOT

NOTHING: dict = {}


def no_storage(identity):
    raise BadPickle("there are no storages")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
)


@settings(max_examples=200, deadline=None)
@given(value=PLAIN, protocol=st.sampled_from(range(pickle.HIGHEST_PROTOCOL + 1)))
def test_plain_values_are_read_as_python_reads_them(value, protocol):
    data = pickle.dumps(value, protocol=protocol)
    known = {  # bytes before protocol 3
        "_codecs.encode": lambda args: args[0].encode(args[1]),
        "__builtin__.bytes": lambda args: b"",
    }
    assert read_pickle(data, known, no_storage, set_state) == (value, len(data))


def test_what_is_shared_stays_shared():
    shared = [1]
    value, _ = read_pickle(pickle.dumps([shared, shared]), NOTHING, no_storage, set_state)
    assert value[0] is value[1]
    holds_itself: list = []
    holds_itself.append(holds_itself)
    value, _ = read_pickle(pickle.dumps(holds_itself), NOTHING, no_storage, set_state)
    assert value[0] is value


class Trap:
    """An object whose pickle makes a folder when it is loaded, in each way that a pickle has."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Caught:
    """A class in this file. Each method that an unpickler may call makes a folder."""

    def __new__(cls, path=None, **more):
        if path is not None:
            os.mkdir(path)
        return super().__new__(cls)

    def __setstate__(self, state):
        os.mkdir(state)

    def append(self, path):
        os.mkdir(path)

    def __setitem__(self, key, path):
        os.mkdir(path)


EXTENSION = 200
HERE = f"{__name__}\n".encode()


def text(path: Path) -> bytes:
    content = str(path).encode()
    return b"X" + struct.pack("<I", len(content)) + content


def short(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


def planted(path: Path) -> dict[str, bytes]:
    """Return pickles, without their end, that make a folder at ``path`` when Python's own unpickler reads them."""
    mkdir = b"cos\nmkdir\n"
    caught = b"c" + HERE + b"Caught\n"
    return {
        "REDUCE": mkdir + text(path) + b"\x85R",
        "REDUCE of a STACK_GLOBAL": short("os") + short("mkdir") + b"\x93" + text(path) + b"\x85R",
        "INST": b"(" + text(path) + b"ios\nmkdir\n",
        "OBJ": b"(" + mkdir + text(path) + b"o",
        "NEWOBJ": caught + text(path) + b"\x85\x81",
        "NEWOBJ_EX": caught + b")}" + short("path") + text(path) + b"s\x92",
        "BUILD": caught + b")\x81" + text(path) + b"b",
        "APPEND": caught + b")\x81" + text(path) + b"a",
        "SETITEM": caught + b")\x81" + short("k") + text(path) + b"s",
        "EXT1": b"\x82" + bytes([EXTENSION]) + text(path) + b"\x85R",
        "GLOBAL of a module that does it when imported": b"c" + b"trap_when_imported\nx\n",
    }


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """Install a module whose import makes the folder, and an extension code for os.mkdir."""
    (tmp_path / "trap_when_imported.py").write_text(f"import os\nx = os.mkdir({str(tmp_path / 'trap')!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    copyreg.add_extension("os", "mkdir", EXTENSION)
    yield
    copyreg.remove_extension("os", "mkdir", EXTENSION)
    sys.modules.pop("trap_when_imported", None)


@pytest.mark.parametrize("opcode", planted(Path("x")))
def test_no_opcode_runs_what_is_planted_in_it(opcode, tmp_path, importable):
    trap = tmp_path / "trap"
    code = planted(trap)[opcode]
    for number, write in enumerate((alone, in_an_archive, in_the_old_format, in_a_storage)):
        path = tmp_path / f"{number}.pt"
        write(path, code)
        arrays = read_checkpoint(path).arrays
        assert {name.rpartition(".")[2] for name in arrays} == ({"weight"} if number else set())
        assert not trap.exists()
    pickle.loads(b"\x80\x02" + code + b".")  # the control: Python's unpickler runs the code
    assert trap.exists()


def alone(path: Path, code: bytes) -> None:
    path.write_bytes(b"\x80\x02" + code + b".")


def beside_a_tensor(code: bytes, pickled: bytes) -> bytes:
    """Return a pickle of {"x": code, "model": what was pickled}"""
    body = pickled.removeprefix(b"\x80\x02").removesuffix(b".")
    return b"\x80\x02}" + short("x") + code + b"s" + short("model") + body + b"s."


def archive_of(content: object) -> zipfile.ZipFile:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return zipfile.ZipFile(buffer)


def in_an_archive(path: Path, code: bytes) -> None:
    source = archive_of({"weight": torch.ones(2)})
    with zipfile.ZipFile(path, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            is_pickle = info.filename.endswith("data.pkl")
            target.writestr(info.filename, beside_a_tensor(code, content) if is_pickle else content)


def in_the_old_format(path: Path, code: bytes) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    whole = buffer.getvalue()
    start = 0
    for _ in range(3):  # the magic number, the version and the system
        _, length = read_pickle(whole[start:], NOTHING, no_storage, set_state)
        start += length
    _, length = read_pickle(whole[start:], NOTHING, lambda identity: None, set_state)
    path.write_bytes(whole[:start] + beside_a_tensor(code, whole[start : start + length]) + whole[start + length :])


def in_a_storage(path: Path, code: bytes) -> None:
    """Write a tensor in a plain pickle. Its storage is the bytes of a torch file, and that file has the code."""
    inner = path.with_suffix(".inner")
    in_the_old_format(inner, code)
    outer = pickle.dumps({"weight": torch.ones(2)}, protocol=2)
    call = (
        b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", inner.stat().st_size) + inner.read_bytes() + b"\x85R"
    )
    path.write_bytes(beside_a_tensor(call, outer))


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_persistent_id_runs_nothing(protocol, tmp_path):
    """Python's own unpickler leaves such ids to the program, so it runs no code either."""
    code = b"Pstorage\n." if protocol == 0 else b"cos\nmkdir\n" + text(tmp_path / "trap") + b"\x85RQ."
    (tmp_path / "a.pt").write_bytes(b"\x80\x02" + code)
    with pytest.raises(BadFile, match="persistent id"):
        read_checkpoint(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("b/data.pkl", b"\x80\x02" + code)
    with pytest.raises(BadFile, match="a persistent id is not a storage of torch's"):
        read_checkpoint(tmp_path / "b.pt")
    assert not (tmp_path / "trap").exists()


def test_files_in_files_end(tmp_path):
    """Each level of nesting copies the bytes of the inner file."""
    for levels, fits in ((4, True), (5, False)):
        code = b"N"
        for level in range(levels):
            path = tmp_path / f"{levels}.{level}.pt"
            in_a_storage(path, code)
            code = path.read_bytes().removeprefix(b"\x80\x02").removesuffix(b".")
        assert fits == ("over 4 deep" not in reason(path))


def reason(path: Path) -> str:
    try:
        read_checkpoint(path)
    except BadFile as error:
        return str(error)
    return ""


def test_an_object_is_listed_and_looked_into(tmp_path):
    content = {"x": Trap(tmp_path / "trap"), "inside": Holder(torch.arange(3))}
    torch.save(content, tmp_path / "a.pt")
    read = read_checkpoint(tmp_path / "a.pt")
    assert read.skipped == {"posix.mkdir": "x", f"{__name__}.Holder": "inside"}
    assert list(read.arrays) == ["inside.tensor"]
    np.testing.assert_array_equal(read.arrays["inside.tensor"], [0, 1, 2])


class Holder:
    def __init__(self, tensor):
        self.tensor = tensor


DOUBLED = b")" + 60 * b"2\x86"  # nested tuples, each twice in the next: Python would hash them for years


def test_keys_are_flat():
    value, _ = read_pickle(b"\x80\x02}" + DOUBLED + b"Ns.", NOTHING, no_storage, set_state)
    assert value == {"<tuple>#0": None}
    value, _ = read_pickle(pickle.dumps({(1, "a"): 2}), NOTHING, no_storage, set_state)
    assert value == {(1, "a"): 2}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "exhausted"),
        (b"\x80\x02N", "exhausted"),
        (b"\x80\x020.", "opcode POP at byte 2 does not fit"),
        (b"\x80\x02h\x05.", "opcode BINGET at byte 2 does not fit"),
        (b"\x80\x02]Na}u.", "opcode SETITEMS"),
        (b"\x80\x02NNb.", "opcode BUILD"),
        (b"\x80\x02N)R.", "opcode REDUCE"),
        (b"\x80\x02\xff.", "unknown"),
    ],
)
def test_what_is_no_pickle_is_an_error(data, words):
    with pytest.raises(ValueError, match=words):
        read_pickle(data, NOTHING, no_storage, set_state)


def doubled(levels: int = 60) -> list:
    content: list = [torch.ones(1)]
    for _ in range(levels):
        content = [content, content]
    return content


def torch_bytes(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def rewritten(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """Write an archive with changed members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w") as target:
        for info in source.infolist():
            target.writestr(info.filename, change(info.filename, source.read(info)))
    return buffer.getvalue()


COUNT = b"K" + bytes([99])  # the storage of torch.ones(99), and the size of the tensor
HUGE = b"\x8a\x06" + (10**12).to_bytes(6, "little")


def claims_much(name: str, content: bytes) -> bytes:
    return content.replace(COUNT, HUGE) if name.endswith(".pkl") else content


def packed(name: str, content: bytes, claim: int) -> bytes:
    """Write an archive with one compressed member, whose directory entry claims another size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        archive.getinfo(name).file_size = claim
        archive.getinfo(name).CRC = 0
    return buffer.getvalue()


def overlapping(count: int) -> bytes:
    """Write an archive whose members are all the same bytes."""
    buffer = io.BytesIO()
    array = io.BytesIO()
    np.save(array, np.zeros(2**21))
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", array.getvalue())
        first = archive.getinfo("a.npy")
        for number in range(count):
            copy = zipfile.ZipInfo(f"{number}.npy")
            for name in ("header_offset", "file_size", "compress_size", "CRC", "create_system"):
                setattr(copy, name, getattr(first, name))
            archive.filelist.append(copy)
    return buffer.getvalue()


def npy(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def binary(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def repeated(first: bytes, again: bytes, times: int) -> bytes:
    """Return a pickle that makes ``first``, keeps it as 0, and then makes ``again`` many times in a list."""
    return b"\x80\x02]" + first + b"q\x000(" + again * times + b"e."


def in_a_file_of_torchs(pickled: bytes, storage: bytes = b"abcd", packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", storage)
    return buffer.getvalue()


LOAD = b"ctorch.storage\n_load_from_bytes\n"


def loaded(content: bytes, times: int) -> bytes:
    """Return a pickle that loads a torch file from the bytes of a storage many times."""
    return repeated(b"B" + struct.pack("<I", len(content)) + content, LOAD + b"h\x00\x85R", times)


def laughs(levels: int = 4) -> bytes:
    content = b"\x80\x02N."
    for _ in range(levels):
        content = loaded(content, 60)
    return content


def shared_bombs() -> dict[str, bytes]:
    """Return files that create the same value many times, or convert a huge value into text."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQ"
    old = b"".join(pickle.dumps(value, protocol=2) for value in (MAGIC, 1001, {}))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x01\x85K\x01\x85I00\n}tR."
    integer = b"\x8b" + struct.pack("<i", 200_000) + b"\x7f" * 200_000
    stretched = {f"weight_hh_{form}": torch.ones(1).expand(2**12, 2**12) for form in ("orig", "mask")}
    wide = b"\xf0\x9f\x98\x80" + b"a" * 2**27
    made = tensor.removesuffix(b".")
    state = b"(K\x01J\x40\x42\x0f\x00\x85cnumpy\ndtype\nU\x02i1\x85RI00\n" + binary(b"a" * 10**6) + b"t"
    array = b"cnumpy.core.multiarray\n_reconstruct\n)Rh\x00b"
    many = b"(" + b"".join(b"J" + struct.pack("<i", number) + b"h\x02" for number in range(100_000)) + b"u"
    module = b"}(U\x0b_parameters}U\x01w" + made + b"sU\x08_buffers}U\x08_modules}U\x0e_forward_hooks}" + many + b"u"
    packed = b"((" + b"N" * 100_000 + b"tU\x0eCellParamsBaset"
    hook = b"ctorch.nn.utils.weight_norm.a\nb\n)\x81q\x020"
    instance = b"ca\nb\n)\x81h\x00b"
    return {
        "shared: text of arrays": repeated(state, array, 20_000),
        "shared: attributes of objects": in_a_file_of_torchs(
            b"\x80\x02" + made + b"q\x020" + repeated(b"}" + many, instance, 100_000).removeprefix(b"\x80\x02")
        ),
        "shared: a module with many hooks": in_a_file_of_torchs(
            b"\x80\x02" + hook + repeated(b"cm\nM\n)\x81" + module + b"b", b"h\x00", 100_000).removeprefix(b"\x80\x02")
        ),
        "shared: a packed content": repeated(packed, b"ctorch\nScriptObject\n)\x81h\x00b", 100_000),
        "shared: names of classes": repeated(binary(b"a" * 200_000), b"h\x00h\x00\x93", 10_000),
        "shared: bytes encoded": repeated(binary(b"a" * 300_000), b"c_codecs\nencode\nh\x00U\x06latin1\x86R", 10_000),
        "shared: a list in sets": repeated(b"](" + b"N" * 300_000 + b"e", b"c__builtin__\nset\nh\x00\x85R", 1000),
        "shared: a list in lists": repeated(b"](" + b"N" * 30_000 + b"e", b"h\x00", 30_000),
        "shared: an integer as a key": b"\x80\x02}" + integer + b"q\x000(" + b"h\x00N" * 100_000 + b"u.",
        "shared: a class as a key": b"\x80\x02}(c" + b"x" * 200_000 + b"\na\nq\x00N" + b"h\x00N" * 10_000 + b"u.",
        "shared: a key above many classes": b"\x80\x02}" + binary(b"k" * 10**6) + b"]("
        + b"".join(b"ca\nb%d\n" % number for number in range(3000)) + b"es.",
        "files in files, many times": laughs(),
        "archives in a pickle": loaded(in_a_file_of_torchs(b"\x80\x02" + tensor, bytes(2**25), packed=True), 20),
        "the key of a storage": in_a_file_of_torchs(
            b"\x80\x02(U\x07storagectorch\nFloatStorage\n" + DOUBLED + b"U\x03cpuK\x01tQ."
        ),
        "the keys of storages": old + b"\x80\x02}." + b"\x80\x02]" + DOUBLED + b"a.",
        "the order of a dtype": b"\x80\x02cnumpy\ndtype\nU\x02f4\x85R(K\x03" + DOUBLED + b"NNNtb.",
        "an encoding": b"\x80\x02c_codecs\nencode\nU\x01a" + DOUBLED + b"\x86R.",
        "text of wide letters": in_a_file_of_torchs(b"\x80\x02" + binary(wide) + b".", packed=True),
        "weights that are stretched": torch_bytes([stretched] * 40),
        "cells whose prefix ends in _": torch_bytes(
            {f"n{n}_weight_{to}": torch.ones(4, 1) for n in range(3000) for to in ("ih", "hh")}
        ),
    }  # fmt: skip


def bombs() -> dict[str, bytes]:
    """Write small files that would take years or terabytes if their claims were trusted."""
    sizes = struct.pack("<Q", 2**40)
    ones = torch_bytes({"w": torch.ones(99)})
    return {
        "a list of lists of lists of a tensor": torch_bytes(doubled()),
        "a long name for many tensors": torch_bytes({10**6 * "k": [torch.ones(1)] * 150_000}),
        "a tensor stretched": torch_bytes(torch.ones(1).expand(2**20, 2**20)),
        "numbers to convert": torch_bytes([torch.ones(1, dtype=torch.complex64).expand(2**12, 2**12).conj()] * 20),
        "a storage that claims 10^12 numbers": rewritten(ones, claims_much),
        "the same, before torch 1.6": torch_bytes({"w": torch.ones(99)}, _use_new_zipfile_serialization=False).replace(
            COUNT, HUGE
        ),
        "opcodes without end": b"\x80\x02" + 5_000_000 * b"N0" + b"N.",
        "containers without end": b"\x80\x02]" + 5_000_000 * b"]a" + b".",
        "tuples in tuples": b"\x80\x02)" + 2_000_000 * b"\x85" + b".",
        "a key that hashes for years": b"\x80\x02}" + DOUBLED + b"Ns.",
        "a place in the memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "bytes": b"\x80\x04\x8e" + sizes + b"x.",
        "a bytearray": b"\x80\x05\x96" + sizes + b"x.",
        "text": b"\x80\x04\x8d" + sizes + b"x.",
        "an integer": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
        "a frame": b"\x80\x04\x95" + sizes + b"N.",
        "a packed member that claims much": packed("a/data.pkl", b"\x80\x02N.", 10**12),
        "a packed member that is much": packed("a/data.pkl", bytes(2**28 + 2**20), 2**28 + 2**20),
        "a packed member that is more than it claims": packed("a/data.pkl", b"\x80\x02N." + bytes(2**28), 4),
        "members that overlap": overlapping(1000),
        "an array that claims much": packed("a.npy", npy((10**6, 10**6)), len(npy((10**6, 10**6)))),
        "a header of safetensors": struct.pack("<Q", 99_000_000) + b"{" + bytes(9),
        "JSON in JSON": b'{"weight_map":' + 10**6 * b"[",
        "an index of itself": json.dumps({"weight_map": {"a": "an index of itself"}}).encode(),
        **shared_bombs(),
    }


READ_ALL = """
import json, sys, time
from pathlib import Path
from crosscheck.studies.checkpoint import BadFile, find_networks, read_checkpoint
from tests.support.memory import own_peak

start = time.process_time()
for _ in range(10**7):
    pass
unit = time.process_time() - start  # of this machine, now: a busy core is slower in everything
before = own_peak()
for path in sorted(Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    try:
        read = read_checkpoint(path)
        find_networks(read)
        result = "read"
    except BadFile as error:
        result = str(error)
    print(json.dumps([path.name, result, (time.process_time() - start) / unit, own_peak() - before]), flush=True)
"""
WORDS = {
    "a storage that claims 10^12 numbers": "a tensor wants 4,000,000,000,000 bytes of the member",
    "the same, before torch 1.6": "a tensor wants 4,000,000,000,000 bytes of the storage",
}
HARMLESS = {
    "shared: a list in lists",
    "shared: a module with many hooks",
    "shared: a packed content",
    "shared: a key above many classes",
    "the order of a dtype",
    "weights that are stretched",
    "cells whose prefix ends in _",
    "a key that hashes for years",
    "a frame",
    "a place in the memo",
}


def read_in_a_child(folder: Path) -> list[tuple[str, str, float, int]]:
    """Return the result of reading each file, with its time in turns of a loop and its peak memory."""
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_small_file_takes_neither_time_nor_memory(tmp_path):
    files = bombs()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    results = read_in_a_child(tmp_path)
    assert {name for name, *_ in results} == files.keys()
    for name, result, units, memory in results:
        assert (result == "read") == (name in HARMLESS), (name, result)
        assert WORDS.get(name, "") in result
        # A unit is 10^7 turns of an empty loop. The budget of a reader stops at 14; without one, a file takes hours.
        assert units < 20 + 7.5e-6 * len(files[name]), name  # one opcode per byte is slow
        assert memory < 10**9, name


OBJECTS = b"cnumpy.core.numeric\n_frombuffer\n(C\x18" + b"A" * 24 + b"cnumpy\ndtype\nU\x03%s\x85RK\x02\x85U\x01CtR"


@pytest.mark.parametrize("dtype", [b"i,O", b"f4,O", b"f,f", b"U10", b"M8s", b"O"])
def test_no_bytes_become_anything_but_numbers(dtype, tmp_path):
    """NumPy would interpret the bytes of such an array as addresses of Python objects."""
    name = b"U" + bytes([len(dtype)]) + dtype
    array = OBJECTS.replace(b"U\x03%s", name)
    parts = b"}(U\x0eweight_hh_orig" + array + b"U\x0eweight_hh_mask" + array + b"u."
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + parts)
    read = read_checkpoint(tmp_path / "a.pkl")
    assert not read.arrays
    (kind,) = read.skipped
    assert kind.startswith("numpy.ndarray of ")


@pytest.mark.parametrize(
    "parts",
    [
        {"g": np.zeros((0, 1)), "v": np.zeros((0, 5))},
        {"g": np.zeros(()), "v": np.zeros(())},
        {"orig": np.array([["a"]]), "mask": np.array([["a"]])},
        {"orig": np.zeros((2, 2), "i4,f4"), "mask": np.zeros((2, 2), "i4,f4")},
        {"orig": np.zeros((2, 2), "M8[s]"), "mask": np.zeros((2, 2), "m8[s]")},
        {"orig": np.zeros((2, 2, 2)), "mask": np.zeros((2, 2, 2))},
        {"orig": np.zeros((20, 5), complex), "mask": np.zeros((20, 5))},
    ],
)
def test_nothing_is_computed_with_what_is_no_weight(parts, tmp_path):
    np.savez(tmp_path / "a.npz", **{f"weight_hh_{form}": array for form, array in parts.items()})
    assert all(isinstance(entry, Skipped) for entry in find_networks(read_checkpoint(tmp_path / "a.npz")))


def with_members(*names: str, flags: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(str(number), b"\x80\x02N.")
            archive.filelist[-1].filename = name
            archive.filelist[-1].flag_bits |= flags
    return buffer.getvalue()


def of_old_torch(version: int, identity: bytes) -> bytes:
    """Return a file from before torch 1.6, with a tensor of two numbers in one storage of four."""
    head = b"".join(pickle.dumps(value, protocol=2) for value in (MAGIC, version, {"little_endian": True}))
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + b"K\x00K\x02\x85K\x01\x85I00\n}tR."
    numbers = struct.pack("<q4f", 4, 0, 1, 2, 3)
    return head + b"\x80\x02" + tensor + pickle.dumps(["0"], protocol=2) + numbers


def identity(view: bytes, count: bytes = b"K\x04", key: bytes = b"U\x010") -> bytes:
    return b"(U\x07storagectorch\nFloatStorage\n" + key + b"U\x03cpu" + count + view + b"tQ"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_members("a/data.pkl", "a/data.pkl"), "two members of one name"),
        (with_members("a/data.pkl", "b/data.pkl"), "it has 2 members data.pkl"),
        (with_members("a/data.pkl", flags=1), "'a/data.pkl' is encrypted"),
        (
            b"PK\x03\x05".join(with_members("x", "a/data.pkl").rsplit(b"PK\x03\x04", 1)),
            "does not begin where the archive",
        ),
        (of_old_torch(1000, identity(b"N")), "not of torch's protocol 1001"),
        (of_old_torch(1001, identity(b"(U\x01vK\x03K\x02t")), "a window on a storage reaches beyond it"),
        (of_old_torch(1001, identity(b"(U\x01vI-1\nK\x02t")), "a window on a storage reaches beyond it"),
        (of_old_torch(1001, identity(b"N", count=b"I-4\n")), "has no class, key or count"),
        (of_old_torch(1001, identity(b"N", count=b"K\x05")), "which is not whole"),
        (of_old_torch(1001, identity(b"N")).replace(b"K\x02\x85", b"I-2\n\x85"), "no number of 63 bits"),
        (of_old_torch(1001, identity(b"N")).replace(b"K\x01\x85", b"K\x01K\x01\x86"), "1 axes and 2 strides"),
    ],
)
def test_a_structure_that_torch_does_not_write_is_refused(content, words, tmp_path):
    (tmp_path / "a.pt").write_bytes(content)
    assert words in reason(tmp_path / "a.pt")


def test_a_window_on_a_storage_is_read(tmp_path):
    """torch wrote a storage that is a view of another one in this way."""
    (tmp_path / "a.pt").write_bytes(of_old_torch(1001, identity(b"(U\x01vK\x01K\x02t")))
    np.testing.assert_array_equal(
        read_checkpoint(tmp_path / "a.pt").arrays[""], np.array([1, 2], np.float32), strict=True
    )


def test_a_storage_of_a_big_endian_machine_in_a_pickle_is_read(tmp_path):
    inner = of_old_torch(1001, identity(b"N")).replace(b"\x88", b"\x89")  # little_endian is False
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + LOAD + b"B" + struct.pack("<I", len(inner)) + inner + b"\x85R.")
    want = np.array([0, 1], np.float32).byteswap()
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "a.pkl").arrays[""], want, strict=True)
